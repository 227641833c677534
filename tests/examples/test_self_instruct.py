"""The example self_instruct: a model writes tasks after seeds, good ones and bad ones of every kind, and is checked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from annotation_pipelines.annotators.factory import annotator_name
from annotation_pipelines.content import Content
from annotation_pipelines.project import Synthetic
from annotation_pipelines.reports.data import read_report_data
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.database import Store
from annotation_pipelines.synthetic.check import REASONS, SyntheticCounts, check_generated, kept_records
from annotation_pipelines.synthetic.report import diversity_of
from tests.examples.example import EXAMPLES, Example
from tests.examples.generating_endpoint import FAULTS, Writer
from tests.mock_endpoint import MockEndpoint

FOLDER = EXAMPLES / "self_instruct"
SEEDS = 60


def declared(url: str) -> dict[str, Any]:
    """The example's annotators, at a mock endpoint; its settings otherwise."""
    attributes = yaml.safe_load((FOLDER / "defs.yaml").read_text(encoding="utf-8"))["attributes"]
    synthetic = attributes["synthetic"]
    for annotator in [*attributes["annotators"], *synthetic["annotators"]]:
        annotator["openai"] |= {"base_url": url, "repairs": 0, "price": {"input": 1, "output": 2}}
    return {"annotators": attributes["annotators"], "synthetic": synthetic}


class Generated:
    """The example after one run, with the endpoint still there."""

    def __init__(self, folder: Path, mock: MockEndpoint) -> None:
        self.mock = mock
        self.example = Example(folder, "self_instruct", **declared(mock.url))

    def run(self) -> SyntheticCounts:
        """Read, generate, check."""
        self.read = self.example.read()
        self.annotated = self.example.annotate()
        return self.check()

    def check(self) -> SyntheticCounts:
        """Check what was generated."""
        project = self.example.project
        settings = project.declaration.synthetic
        assert isinstance(settings, Synthetic)
        return check_generated(self.example.store, project, "all", annotator_name(project), settings)

    def judged(self) -> int:
        """Requests to the judge so far."""
        return sum(call.body["model"] == "gpt-4o" for call in self.mock.calls)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement."""
        found: list[tuple[Any, ...]] = self.example.store.query(sql).rows()
        return found


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Generated, SyntheticCounts]]:
    writer = Writer(FOLDER / "data" / "seed_tasks.jsonl")
    with MockEndpoint(writer) as mock:
        made = Generated(tmp_path_factory.mktemp("self_instruct"), mock)
        yield made, made.run()


def test_every_seed_is_read_and_answered(generated: tuple[Generated, SyntheticCounts]) -> None:
    made, counts = generated
    assert made.read["new"] == SEEDS and made.read["rejected_empty_part"] == 20
    assert made.annotated.states["labelled"] == counts.seeds == SEEDS


def test_what_is_dropped_is_counted_by_its_reason_and_nothing_is_lost(
    generated: tuple[Generated, SyntheticCounts],
) -> None:
    made, counts = generated
    writer = made.mock.behave
    assert isinstance(writer, Writer)
    expected = writer.expected(range(SEEDS))
    assert set(expected) == set(FAULTS) - {None, "missing"}
    assert {reason: n for reason, n in counts.dropped.items() if n} == dict(expected)
    assert set(REASONS) - set(expected) == {"turns", "round_trip"}, "these belong to other modes"
    missing = sum(FAULTS[n % len(FAULTS)] == "missing" for n in range(SEEDS))
    assert (counts.missing, counts.surplus, counts.waiting) == (missing, 0, 0)
    assert counts.generated == 4 * SEEDS - missing == counts.kept + sum(counts.dropped.values())
    stored = Counter(dict(made.rows("SELECT coalesce(reason, state), count(*) FROM synthetic_records GROUP BY ALL")))
    assert stored == expected + Counter(kept=counts.kept)


def test_only_what_was_left_was_judged(generated: tuple[Generated, SyntheticCounts]) -> None:
    made, counts = generated
    assert made.judged() == counts.kept + counts.dropped["judge"] + counts.dropped["not_judged"] == counts.called
    [(asked, usd)] = made.rows("SELECT count(*), sum(cost_usd) FROM llm_calls WHERE annotator = 'judge:referee'")
    assert asked == counts.called and counts.cost_usd == pytest.approx(usd)


def test_what_is_kept_is_whole_and_marked(generated: tuple[Generated, SyntheticCounts]) -> None:
    made, counts = generated
    kept = kept_records(made.example.store)
    assert len(kept) == counts.kept > 170
    for content, value in kept.select("content", "value").iter_rows():
        entry = json.loads(value)
        assert Content.read(content) == Content.of_parts({k: entry[k] for k in ("instruction", "input", "output")})
    assert kept["judge_score"].min() == 4
    assert made.rows("SELECT DISTINCT synthetic FROM synthetic_records") == [(True,)]


def test_the_report_says_how_diverse_and_new_they_are(generated: tuple[Generated, SyntheticCounts]) -> None:
    from annotation_pipelines.distillation.embedding import Embedder

    made, counts = generated
    store = made.example.store
    found = diversity_of(store, "all", Embedder.for_project(made.example.project, store))
    assert found.texts == counts.kept
    assert found.distinct_1 and found.distinct_3 and 0 < found.distinct_1 < found.distinct_3 <= 1
    assert found.novelty and found.novelty > 0.9
    assert found.self_overlap is not None and found.self_overlap < 0.9
    assert found.embedding_spread and 0.1 < found.embedding_spread < 1.5


def test_a_second_run_asks_nothing_and_writes_nothing(generated: tuple[Generated, SyntheticCounts]) -> None:
    made, counts = generated
    calls, before = len(made.mock.calls), made.rows("SELECT * FROM synthetic_records ORDER BY synthetic_id")
    again = made.run()
    assert len(made.mock.calls) == calls and again.called == 0
    assert (again.kept, again.dropped) == (counts.kept, counts.dropped)
    assert made.rows("SELECT * FROM synthetic_records ORDER BY synthetic_id") == before


def test_a_changed_seed_alone_is_asked_about_and_judged_again(tmp_path: Path) -> None:
    writer = Writer(FOLDER / "data" / "seed_tasks.jsonl")
    with MockEndpoint(writer) as mock:
        made = Generated(tmp_path, mock)
        file = made.example.folder / "data" / "seed_tasks.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines()[:6]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        first = made.run()
        kept = set(
            made.rows("SELECT synthetic_id, checked_at FROM synthetic_records WHERE seed_record_id <> 'seed_task_5'")
        )
        calls, judged = len(mock.calls), made.judged()
        changed = json.loads(lines[5])
        changed["instruction"] = writer.seeds[5] = "Answer a question that is asked at the end of an interview."
        file.write_text("\n".join([*lines[:5], json.dumps(changed)]) + "\n", encoding="utf-8")
        again = made.run()
        assert len(mock.calls) - calls == 1, "the same text was written again, and is not judged again"
        assert made.judged() == judged and again.kept == first.kept
        assert (
            set(
                made.rows(
                    "SELECT synthetic_id, checked_at FROM synthetic_records WHERE seed_record_id <> 'seed_task_5'"
                )
            )
            == kept
        )


def test_people_s_own_tasks_pass_the_rules_but_for_placeholders() -> None:
    """The rules must not drop what is good: here is what people wrote, as if a model had written it."""
    from annotation_pipelines.synthetic.candidates import candidates_of
    from annotation_pipelines.synthetic.rules import Rules
    from annotation_pipelines.tasks.generation import Generation

    task, other = Generation(self_instruct={}).make(), Content.of_text("something else")
    reasons: Counter[str | None] = Counter()
    for line in (FOLDER / "data" / "seed_tasks.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        entry = {"instruction": row["instruction"], **row["instances"][0]}
        label = task.canonical(json.dumps([entry]), other)
        [candidate] = candidates_of(task, row["id"], other, task.entries(label), "people", datetime.now(UTC))
        fault = Rules(task, Synthetic()).fault(candidate)
        reasons[fault.reason if fault else None] += 1
    assert reasons == {None: 59, "placeholder": 1}, "one reply to an e-mail ends with [Name]"


@pytest.mark.heavy
def test_it_runs_through_dagster_and_its_texts_feed_another_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotation_pipelines.graph.local import dagster_instance, existing_partitions, run_job, run_partitions

    writer = Writer(FOLDER / "data" / "seed_tasks.jsonl")
    with MockEndpoint(writer) as mock:
        made = Generated(tmp_path / "workspace", mock)
        example, project = made.example, made.example.project
        monkeypatch.setenv("DAGSTER_HOME", str(example.workspace.dagster_home))
        with dagster_instance(example.workspace) as instance:
            summary = run_partitions(project, example.workspace, instance, existing_partitions(project))
            assert summary.blocked == {} and summary.done == ["all"]
            run_job(project, example.workspace, instance, "retrain")
    [(kept,)] = made.rows("SELECT count(*) FROM synthetic_records WHERE state = 'kept'")
    assert kept > 170
    report = (example.store.home / "reports" / "quality_report.html").read_text(encoding="utf-8")
    assert "pool_duplicate" in report and f"{kept} silver" in report
    costs = read_report_data(example.store, project).cost
    assert costs["partition_key"].to_list() == ["all"], "what the judge cost belongs to the partition, too"
    assert costs["calls"].to_list() == [SEEDS + made.judged()]

    # As the README says: another project reads what was kept, and does not measure anything on it.
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    query = re.search(r"^        query: (SELECT .+)$", readme, re.MULTILINE)
    assert query
    folder = example.folder.parent / "reader"
    folder.mkdir()
    attributes = {
        "source": {
            "duckdb": {"database": "../../storage/self_instruct/self_instruct.duckdb", "query": query[1]},
            "parts": {"instruction": "{instruction}"},
            "synthetic": "synthetic",
        },
        "task": {"classification": {"labels": {"write": "to write a text", "compute": "to count or compute"}}},
    }
    (folder / "defs.yaml").write_text(
        yaml.safe_dump({"type": "annotation_pipelines.AnnotationProject", "attributes": attributes}), encoding="utf-8"
    )
    reader = example.workspace.project("reader")
    store = Store(example.workspace.home("reader"))
    assert ingest(store, reader, "all").new == kept
    assert store.query("SELECT DISTINCT synthetic FROM records").rows() == [(True,)]
