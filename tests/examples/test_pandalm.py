"""Pairs of responses are compared over HTTP, in both orders; what is odd in the file is met with a count."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.content import Content
from annotation_pipelines.tasks.metrics.bradley_terry import bradley_terry
from annotation_pipelines.tasks.metrics.preference import position_bias
from tests.annotators.label_scene import KEY
from tests.examples.example import EXAMPLES, Example, values
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import openai_annotator

PAIRS = json.loads((EXAMPLES / "pandalm" / "data" / "pandalm.json").read_text(encoding="utf-8"))
Shown = tuple[str, str, str, str]


def text(response: object) -> str:
    return (response if isinstance(response, str) else json.dumps(response)).strip()


def key(pair: dict[str, object]) -> Shown:
    return (text(pair["instruction"]), text(pair["input"]), text(pair["response1"]), text(pair["response2"]))


def swayed(instruction: str, one: str, other: str) -> bool:
    """Whether the judge below goes by the order of these two: for about a fifth of all pairs."""
    return zlib.crc32("|".join((instruction, *sorted((one, other)))).encode()) % 5 == 0


def judge() -> dict[Shown, str]:
    """What people preferred, by what is shown, in either order."""
    known: dict[Shown, str] = {}
    for pair in PAIRS:
        votes = [pair["annotator1"], pair["annotator2"], pair["annotator3"]]
        preferred = max(votes, key=votes.count)
        instruction, given, one, other = key(pair)
        known.setdefault((instruction, given, one, other), ("tie", "A", "B")[preferred])
        known.setdefault((instruction, given, other, one), ("tie", "B", "A")[preferred])
    return known


@pytest.fixture(scope="module")
def mock() -> Iterator[MockEndpoint]:
    people = judge()

    def behave(call: Call) -> Act:
        parts = unfence_parts(call.text)
        assert parts is not None and list(parts) == ["instruction", "input", "response_a", "response_b"]
        shown = (parts["instruction"], parts["input"], parts["response_a"], parts["response_b"])
        said = "A" if swayed(shown[0], shown[2], shown[3]) else people[shown]
        return completion(json.dumps({"preference": said, "confidence": 0.8}))

    with pytest.MonkeyPatch.context() as patch, MockEndpoint(behave) as endpoint:
        patch.setenv("OPENAI_API_KEY", KEY)
        yield endpoint


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, mock: MockEndpoint) -> Example:
    example = Example(tmp_path_factory.mktemp("pandalm"), "pandalm", annotators=openai_annotator(mock.url))
    facts = example.read()
    assert (facts["rows"], facts["new"], facts.get("rejected_duplicate_id", 0)) == (len(PAIRS), len(PAIRS), 0)
    assert facts["rejected_empty_part"] == sum("" in key(pair) for pair in PAIRS)
    example.annotate()
    return example


def attributes(example: Example) -> pl.DataFrame:
    """What the source says of each record beside its content."""
    rows = example.store.query("SELECT record_id, attributes, gold FROM records ORDER BY record_id")
    found = [json.loads(row) for row in rows["attributes"]]
    return pl.DataFrame(found).with_columns(rows["record_id"], rows["gold"])


def test_what_is_odd_in_the_file_is_kept_and_counted(compared: Example) -> None:
    found = attributes(compared)
    assert (found["not_text"] == "true").sum() == 6
    empty = sum([pair["response1"], pair["response2"]].count("") for pair in PAIRS)
    assert found["empty_responses"].cast(pl.Int64).sum() == empty > 10
    distinct = len({key(pair) for pair in PAIRS})
    assert (found["earlier_equals"] != "0").sum() == len(PAIRS) - distinct > 5
    row = compared.store.query("SELECT content FROM records WHERE record_id = '157'")["content"].item()
    assert Content.read(row)["response_a"] == "true"


def test_gold_is_what_two_of_three_people_preferred(compared: Example) -> None:
    found = attributes(compared)
    assert found["gold"].null_count() == 0
    for votes, gold in found.select("votes", "gold").iter_rows():
        assert votes.split().count(gold) >= 2


def test_every_distinct_pair_is_asked_about_twice_and_every_record_ends(compared: Example, mock: MockEndpoint) -> None:
    assert len(mock.calls) == 2 * len({key(pair) for pair in PAIRS})
    rows = compared.annotations()
    assert len(rows) == len(PAIRS)
    assert set(rows["state"]) == {"labelled"}
    assert set(rows["label"]) == {"A", "B", "tie"}


def test_the_bias_of_the_judge_is_measured(compared: Example) -> None:
    scores = compared.store.query("SELECT scores FROM llm_labels WHERE partition_key = 'all'")["scores"]
    (bias,) = position_bias(json.loads(found) for found in scores)
    expected = sum(swayed(key(pair)[0], key(pair)[2], key(pair)[3]) for pair in PAIRS)
    assert (bias.records, bias.disagreeing) == (len(PAIRS), expected)
    assert bias.first_shown_wins is not None and bias.first_shown_wins > 0.5


def test_the_judge_agrees_with_people_where_it_does_not_go_by_the_order(compared: Example) -> None:
    evaluation = compared.evaluate()
    found = values(evaluation)
    gold = compared.store.query(
        "SELECT h.label, l.label AS given FROM human_labels h JOIN llm_labels l USING (record_id) "
        "WHERE h.role = 'evaluation'"
    )
    assert evaluation.headline == "accuracy"
    assert found["accuracy"] == pytest.approx((gold["label"] == gold["given"]).mean())
    assert 0.6 < found["accuracy"] < 1


def test_models_are_ranked_by_what_was_preferred(compared: Example) -> None:
    rows = compared.store.query(
        "SELECT attributes ->> 'system_a' AS a, attributes ->> 'system_b' AS b, l.label, gold "
        "FROM llm_labels l JOIN records USING (record_id) WHERE l.state = 'labelled' ORDER BY record_id"
    )
    judged = {one.name: one for one in bradley_terry(rows.select("a", "b", "label").iter_rows())}
    people = {one.name: one for one in bradley_terry(rows.select("a", "b", "gold").iter_rows())}
    assert judged.keys() == people.keys() and len(judged) == 5
    assert {one.group for one in judged.values()} == {0}
    assert sum(one.wins for one in judged.values()) == len(PAIRS)
    # The judge is people, but for a fifth of its answers, which are ties: its ranking is theirs, and a bit flatter.
    lead = np.array([[ranked[name].log_strength for name in judged] for ranked in (judged, people)])
    assert np.corrcoef(lead)[0, 1] > 0.7
    assert lead[0].std() < lead[1].std() * 1.1


def test_what_the_readme_shows_runs(
    compared: Example, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (EXAMPLES / "pandalm" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(compared.workspace.root)
    exec(readme.partition("```python\n")[2].partition("```")[0], {})
    printed = capsys.readouterr().out
    assert "position_consistency" in printed
    assert printed.count("log_strength") == 5


def test_nothing_is_bought_twice(compared: Example, mock: MockEndpoint) -> None:
    before = len(mock.calls)
    assert compared.annotate().called == 0
    assert len(mock.calls) == before
