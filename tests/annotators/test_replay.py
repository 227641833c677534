"""Recorded answers over HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
from annotation_pipelines.annotators.replay import Recording, replaying, serve
from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import AnnotatorError, SourceError
from annotation_pipelines.tasks.registry import make_task
from tests.annotators.talking import converse

CLIMATE = Path(__file__).parents[2] / "assets" / "climate_stance"
STANCE = CLIMATE / "data" / "stance.csv"


def climate_annotator(url: str, **changes: Any) -> OpenAIAnnotator:
    project = load_project(CLIMATE / "defs.yaml")
    settings = project.declaration.annotators[0].openai
    assert settings
    settings = settings.model_copy(update={"base_url": url, "max_retries": 1, **changes})
    return OpenAIAnnotator(settings, make_task(project.declaration.task), project.guideline, price=settings.price)


def post(url: str, body: Any) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/chat/completions", data)) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def content(reply: Any) -> Any:
    return json.loads(reply["choices"][0]["message"]["content"])


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], **fields}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    file = tmp_path / "recorded.csv"
    file.write_text(
        "text,human_label,gpt4o_label,gpt4o_confidence\n"
        "short,a,a,0.5\nshort and long,b,b,\nshort,b,b,0.9\n same ,a,a,1\n,a,a,1\nno answer,a,,\n",
        encoding="utf-8",
    )
    return file


def test_gpt_4o_is_as_right_on_climate_stance_as_published() -> None:
    stance = pl.read_csv(STANCE)
    with replaying(STANCE) as url:
        heard = converse(climate_annotator(url), stance["text"].to_list())
    assert len(heard.kept) == len(heard.ended) == stance["text"].n_unique() == 2046
    read = [heard.annotation(text) for text in stance["text"]]
    labels = pl.Series([annotation.label for annotation in read])
    assert (labels == stance["gpt4o_label"]).all()
    assert (labels == stance["human_label"]).sum() == 1729  # .752
    assert all(annotation.confidence is not None for annotation in read)
    assert all(r.cost_usd and r.prompt_tokens and r.completion_tokens for r in heard.kept)


def test_equal_texts_of_the_climate_file_have_equal_labels() -> None:
    several = pl.read_csv(STANCE).group_by("text").agg(pl.len(), pl.col("gpt4o_label").n_unique())
    assert several.filter(pl.col("len") > 1).height == 13
    assert several["gpt4o_label"].max() == 1


def test_the_first_row_answers_for_a_text_that_occurs_twice(recorded: Path) -> None:
    recording = Recording.load(recorded)
    assert recording.rows == 4
    assert [(t, a.label, a.confidence) for t, a in recording.answers.items()] == [
        ("short", "a", 0.5),
        ("short and long", "b", None),
        (" same ", "a", 1.0),
    ]


def test_the_fenced_record_is_answered_else_the_longest_text_in_the_message(recorded: Path) -> None:
    with replaying(recorded) as url:
        assert content(post(url, chat("<record>\nshort\n</record>"))[1]) == {"label": "a", "confidence": 0.5}
        assert content(post(url, chat("<record>\nsame\n</record>"))[1]) == {"label": "a", "confidence": 1.0}
        assert content(post(url, chat("Label this: short and long."))[1]) == {"label": "b"}
        assert content(post(url, chat([{"type": "text", "text": "short"}]))[1])["label"] == "a"  # type: ignore[arg-type]
        status, reply = post(url, chat("<record>\nshort and wide\n</record>"))
        assert (status, reply["error"]["code"]) == (404, "text_not_recorded")
        assert "No answer was recorded" in reply["error"]["message"]


def test_only_the_last_user_message_counts(recorded: Path) -> None:
    turns = [("user", "short"), ("assistant", "{}"), ("user", "short and long"), ("assistant", "short")]
    body = {"model": "gpt-4o", "messages": [{"role": role, "content": text} for role, text in turns]}
    with replaying(recorded) as url:
        assert content(post(url, body)[1]) == {"label": "b"}


def test_only_the_fields_of_the_schema_are_answered(recorded: Path) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with replaying(recorded) as url:
        assert content(post(url, chat("short", response_format=format_))[1]) == {"label": "a"}
        assert "confidence" in content(post(url, chat("short", response_format={"type": "json_object"}))[1])


def test_an_unknown_model_and_a_broken_body_are_said(recorded: Path) -> None:
    with replaying(recorded, model="m") as url:
        with urllib.request.urlopen(f"{url}/models") as reply:
            assert [entry["id"] for entry in json.load(reply)["data"]] == ["m"]
        status, error = post(url, chat("short"))
        assert (status, error["error"]["code"]) == (404, "model_not_found")
        for body in (
            b"not JSON",
            b"[]",
            b"null",
            {"model": "m"},
            {"model": "m", "messages": [{"role": "system"}]},
            b"[" * 99999,
        ):
            assert post(url, body)[0] == 400
        with pytest.raises(AnnotatorError, match="no model 'gpt-4o'"):
            converse(climate_annotator(url), ["short"])


def test_a_text_without_a_recorded_answer_fails_alone(tmp_path: Path) -> None:
    file = tmp_path / "recorded.csv"
    file.write_text("text,label\nshort,agrees\n", encoding="utf-8")
    with replaying(file) as url:
        heard = converse(climate_annotator(url), ["unheard of", "short"])
    assert [heard.annotation(text).state for text in ("unheard of", "short")] == ["failed", "labelled"]
    assert "No answer was recorded" in (heard.annotation("unheard of").problem or "")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_kind_of_file_is_read_with_named_columns(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame({"t": ["x", "y"], "answer": ["1", "2"], "sure": [0.1, 0.2]})
    file = tmp_path / f"recorded.{ending}"
    getattr(frame, {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}[ending])(file)
    recording = Recording.load(file, text_column="t", label_column="answer", confidence_column="sure")
    assert {t: (a.label, a.confidence) for t, a in recording.answers.items()} == {"x": ("1", 0.1), "y": ("2", 0.2)}


@pytest.mark.parametrize(
    ("name", "text", "options", "words"),
    [
        ("a.csv", "title,label\nx,y\n", {}, ["one column with the text", "title, label", "--text"]),
        ("a.csv", "text,x_label,y_label\na,b,c\n", {}, ["one column with the label", "--label"]),
        ("a.csv", "text,label\na,b\n", {"label_column": "answer"}, ["'answer'", "text, label"]),
        ("a.csv", "text,label,confidence\na,b,high\n", {}, ["numbers from 0 to 1"]),
        ("a.csv", "", {}, ["cannot be read"]),
        ("a.xlsx", "", {}, [".csv", ".xlsx"]),
        ("none.csv", None, {}, ["no such file"]),
    ],
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, name: str, text: str | None, options: dict[str, str], words: list[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as raised:
        Recording.load(tmp_path / name, **options)
    assert all(word in str(raised.value) for word in [*words, name])


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_the_server_says_where_it_is_and_stops_cleanly(recorded: Path, name: signal.Signals) -> None:
    program = "import sys; from annotation_pipelines.annotators.replay import serve; serve(sys.argv[1], port=0)"
    command = [sys.executable, "-c", program, str(recorded)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith(f"replaying 4 recorded answers of {recorded} at http://127.0.0.1:")
        assert post(line.split(" at ")[1].strip(), chat("short"))[0] == 200
        process.send_signal(name)
        rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")


def test_a_port_in_use_is_said(recorded: Path) -> None:
    with replaying(recorded) as url, pytest.raises(AnnotatorError, match="--port"):
        serve(recorded, port=int(url.rsplit(":", 1)[1].split("/")[0]))
