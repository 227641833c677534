"""Every kind of task on real data: how many records end in a valid annotation, how good, how fast replies are read.

Prints for every example `<name>_completion` (the share of the records asked about that end labelled or abstained),
`<name>_score` (the task's headline metric against held-out gold), and `<name>_parser_microseconds` (reading one of the
replies that the run stored). The annotator is the embedded one where an example declares it, and recorded answers
otherwise: ChatGPT's for re_semeval2010_chatgpt, those of one of three people for pandalm, where the gold is what the
other two agree on. No answers of a model are on record for contact_extraction, critique and generation: nothing is
printed for them.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from annotation_pipelines.annotators.replay import replaying
from annotation_pipelines.content import Content
from tests.examples.example import EXAMPLES, Example

ROUNDS = 5
NOT_RECORDED = ("contact_extraction", "self_instruct")


@contextmanager
def endpoint(name: str, example: Example) -> Iterator[str | None]:
    """The address of the recorded answers, for examples that ask a model; None for the others."""
    if name == "re_semeval2010_chatgpt":
        with replaying(
            example.folder / "data" / "recorded.csv", model="gpt-3.5-turbo", task=example.project.task
        ) as url:
            yield url
    elif name == "pandalm":
        with one_person(example) as url:
            yield url
    else:
        yield None


@contextmanager
def one_person(example: Example) -> Iterator[str]:
    """The first person's preferences as an endpoint; gold is changed to what the other two agree on."""
    from tests.examples.oracle import oracle
    from tests.mock_endpoint import MockEndpoint

    source = example.folder / "source.py"
    text = source.read_text(encoding="utf-8")
    asked = '"preferred": majority(votes)'
    assert asked in text
    source.write_text(text.replace(asked, '"preferred": votes[0]'), encoding="utf-8")
    answers = oracle(example.project)
    others = '"preferred": votes[1] if votes[1] == votes[2] else None'
    source.write_text(text.replace(asked, others), encoding="utf-8")
    with MockEndpoint(answers) as mock:
        yield mock.url


def measure(name: str) -> None:
    """Run one example and print its figures."""
    with tempfile.TemporaryDirectory() as folder:
        example = Example(Path(folder) / "workspace", name)
        with endpoint(name, example) as url:
            if url is not None:
                model = {"model": "gpt-3.5-turbo", "base_url": url, "concurrency": 64, "api_key_env": "HOME"}
                example.redeclare(annotators=[{"openai": model}])
            example.read()
            start = time.perf_counter()
            counts = example.annotate()
            seconds = time.perf_counter() - start
        states = counts.states
        ended = states["labelled"] + states["abstained"]
        who = example.project.declaration.annotators[0].called if url is None else "recorded"
        figure(
            f"{name}_completion",
            round(ended / counts.selected, 4),
            "share",
            records=counts.selected,
            annotator=who,
            states=dict(states),
            seconds=round(seconds, 1),
        )
        evaluation = example.evaluate()
        task = example.project.task
        whole = evaluation.metrics.filter(evaluation.metrics["slice"] == "")
        teacher = whole.filter(whole["model_version"] == "teacher")
        scores = {
            metric: round(value, 4)
            for metric, label, split, value in teacher.select("metric", "label", "split", "value").iter_rows()
            if split == "evaluation" and not label and value is not None
        }
        held_out = teacher.filter(teacher["split"] == "evaluation")["records"].max()
        figure(f"{name}_score", scores.get(task.headline), task.headline, records=held_out, annotator=who, all=scores)
        figure(f"{name}_parser_microseconds", round(parser_microseconds(example), 1), "us", annotator=who)


def parser_microseconds(example: Example) -> float:
    """The median over rounds of the mean time that the parser takes for a stored reply."""
    task = example.project.task
    rows = example.store.query(
        "SELECT c.reply, r.content FROM llm_calls c JOIN records r USING (record_id) WHERE c.status = 'ok'"
    )
    replies = [(said(reply), Content.read(content)) for reply, content in rows.iter_rows()]
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for reply, content in replies:
            task.parse(reply, content)
        rounds.append((time.perf_counter() - start) / len(replies))
    return statistics.median(rounds) * 1e6


def said(reply: str) -> str:
    """The answer in a stored reply: an endpoint's wraps it."""
    whole = json.loads(reply)
    return str(whole["choices"][0]["message"]["content"]) if "choices" in whole else reply


if __name__ == "__main__":
    chosen = sys.argv[1:] or sorted(path.name for path in EXAMPLES.iterdir() if path.name not in NOT_RECORDED)
    for each in chosen:
        measure(each)
