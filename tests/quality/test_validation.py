"""A partition is read from the store, judged, and its results are kept."""

import json
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from labelled_partitions import ANNOTATOR, NOW, change, fill, make_project, make_store

from annotation_pipelines.quality.expectations import check_names
from annotation_pipelines.quality.validation import validate
from annotation_pipelines.store.schema import HELD_OUT

WEEK, NEXT_WEEK = "2026-11-09", "2026-11-16"


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def failures(report):
    return {result.check_name: result for result in report.failed}


def test_a_sound_partition_passes_and_its_results_are_stored(store, project):
    fill(store, WEEK)
    report = validate(store, project, WEEK, ANNOTATOR, run_id="run 1", now=NOW)
    assert report.passed and not report.blocked
    assert (report.selected, report.labelled) == (30, 30)
    rows = store.query("SELECT * FROM validation_results")
    assert sorted(rows["check_name"]) == sorted(check_names(project.declaration))
    assert rows["success"].all()
    assert set(rows["run_id"]) == {"run 1"}
    facts = store.query("SELECT facts FROM stage_runs WHERE stage = 'validation_results' AND partition_key = ?", [WEEK])
    assert json.loads(facts.item())["failed"] == 0


SPOILED = [  # a record, what happens to it, and the checks that must name it
    (1, "DELETE FROM llm_labels WHERE record_id = ?", {"selected_records_accounted_for", "state_present"}),
    (2, "UPDATE llm_labels SET annotator = 'other' WHERE record_id = ?",
        {"selected_records_accounted_for", "state_present"}),
    (3, "DELETE FROM selected_records WHERE record_id = ?", {"selected_records_accounted_for"}),
    (4, "UPDATE selected_records SET state = 'gold' WHERE record_id = ?", {"selected_records_accounted_for"}),
    (5, "DELETE FROM records WHERE record_id = ?", {"record_upstream"}),
    (6, "UPDATE records SET deleted_at = now() WHERE record_id = ?", {"record_upstream"}),
    (7, "UPDATE records SET content_hash = 'new' WHERE record_id = ?", {"record_upstream"}),
    (8, "UPDATE records SET content = '  ' WHERE record_id = ?", {"text_not_empty"}),
    (9, "UPDATE llm_labels SET label = 'violet' WHERE record_id = ?", {"label_in_set"}),
    (10, "UPDATE llm_labels SET label = NULL WHERE record_id = ?", {"label_present"}),
    (11, "UPDATE llm_labels SET confidence = 2 WHERE record_id = ?", {"confidence_in_range"}),
    (12, "UPDATE llm_labels SET state = 'lost' WHERE record_id = ?", {"state_known"}),
]  # fmt: skip


def test_what_is_wrong_in_the_store_is_found_blocks_and_names_the_record(store, project):
    ids = fill(store, WEEK, 100)
    expected = {"one_row_per_selected_record": []}
    for number, sql, checks in SPOILED:
        change(store, sql, ids[number])
        for check in checks:
            expected.setdefault(check, []).append(ids[number])
    report = validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert report.blocked
    assert {name: list(result.examples) for name, result in failures(report).items()} == expected
    observed = {name: result.observed for name, result in failures(report).items()}
    assert observed["selected_records_accounted_for"].endswith("4 of 100 do not meet it: 'missing', 'not_selected'")
    assert observed["record_upstream"].endswith("'absent', 'deleted', 'changed'")
    stored = store.query("SELECT check_name, examples FROM validation_results WHERE NOT success AND blocking")
    assert {name: json.loads(examples) for name, examples in stored.iter_rows()} == expected


def test_nothing_blocks_where_the_declaration_says_so(store, tmp_path):
    fill(store, WEEK, label="violet")
    report = validate(store, make_project(tmp_path, blocking=False), WEEK, ANNOTATOR, now=NOW)
    assert not report.passed and not report.blocked


def test_too_few_labelled_records_are_a_warning_in_words(store, project):
    fill(store, WEEK)
    change(store, "UPDATE llm_labels SET state = 'abstained', label = NULL WHERE record_id <= ?", f"{WEEK}/0005")
    report = validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert not report.blocked
    assert failures(report)["share_labelled"].observed == "24 of 30 labelled (80.0%)"


def test_missing_annotations_count_as_not_labelled(store, project):
    fill(store, WEEK)
    change(store, "DELETE FROM llm_labels WHERE record_id <= ?", f"{WEEK}/0005")
    assert failures(validate(store, project, WEEK, ANNOTATOR, now=NOW))["share_labelled"].observed.startswith(
        "24 of 30"
    )


def test_labels_unlike_those_of_earlier_partitions_are_a_warning(store, project):
    fill(store, WEEK, 300, labels=["red"])
    fill(store, NEXT_WEEK, 100, labels=["blue"])
    report = validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW)
    assert set(failures(report)) == {"label_distribution_stable"} and not report.blocked
    assert "distance 1.000 between 100 labels here and 300 earlier ones" in report.failed[0].observed


@pytest.mark.parametrize("earlier", [0, 5])
def test_without_enough_earlier_labels_the_distribution_passes_with_a_note(store, project, earlier):
    fill(store, WEEK, earlier, labels=["red"])
    fill(store, NEXT_WEEK, 100, labels=["blue"])
    report = validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW)
    assert report.passed
    assert report.results[-1].observed.startswith("not compared: ")


def test_later_partitions_and_held_out_records_are_not_earlier_ones(store, project):
    fill(store, HELD_OUT, 100, labels=["red"])
    fill(store, NEXT_WEEK, 100, labels=["red"])
    fill(store, WEEK, 100, labels=["blue"])
    for key in (WEEK, HELD_OUT):
        assert not validate(store, project, key, ANNOTATOR, now=NOW).shift.compared
    assert not validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW).passed


def test_an_empty_partition_passes(store, project):
    report = validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert report.passed and report.selected == 0
    assert len(store.query("SELECT * FROM validation_results")) == len(check_names(project.declaration))


def test_a_declared_expectation_reads_columns_of_the_source(store, tmp_path):
    fill(store, WEEK)
    change(store, """UPDATE records SET attributes = '{"language": "ja"}' WHERE record_id LIKE '%/0007'""")
    entry = {
        "expect_column_values_to_be_in_set": {"column": "attributes.language", "value_set": ["en"]},
        "blocking": True,
    }
    report = validate(store, make_project(tmp_path, expectations=[entry]), WEEK, ANNOTATOR, now=NOW)
    assert report.blocked
    assert [(r.check_name, r.examples) for r in report.failed] == [
        ("expect_column_values_to_be_in_set_attributes_language", (f"{WEEK}/0007",))
    ]


def test_a_new_validation_replaces_the_partitions_results_and_no_others(store, project, tmp_path):
    fill(store, WEEK)
    fill(store, NEXT_WEEK)
    entry = {"expect_column_values_to_not_be_null": {"column": "text"}}
    validate(store, make_project(tmp_path, expectations=[entry]), WEEK, ANNOTATOR, now=NOW)
    validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW)
    validate(store, project, WEEK, ANNOTATOR, now=NOW + timedelta(days=1))
    rows = store.query(
        "SELECT partition_key, count(*) AS n, min(validated_at) AS at FROM validation_results GROUP BY 1 ORDER BY 1"
    )
    names = len(check_names(project.declaration))
    assert rows.rows() == [(WEEK, names, NOW + timedelta(days=1)), (NEXT_WEEK, names, NOW)]


def test_an_annotator_that_gives_no_confidence_is_fine(store, project):
    fill(store, WEEK)
    change(store, "UPDATE llm_labels SET confidence = NULL")
    assert validate(store, project, WEEK, ANNOTATOR, now=NOW).passed


def test_nothing_leaves_the_machine(store, project, monkeypatch):
    def refuse(*args):
        raise AssertionError(f"a connection to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    fill(store, WEEK)
    assert validate(store, project, WEEK, ANNOTATOR, now=NOW).passed


def test_two_processes_validate_different_partitions_at_once(store, project, tmp_path):
    keys = [f"2026-10-{day:02}" for day in range(1, 5)]
    for key in keys:
        fill(store, key)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from labelled_partitions import *\n"
        "from annotation_pipelines.quality.validation import validate\n"
        "folder = Path(sys.argv[2])\n"
        "for key in sys.argv[3:]: assert validate(make_store(folder), make_project(folder), key, ANNOTATOR).passed\n"
    )
    here = str(Path(__file__).parent)
    runs = [
        subprocess.Popen([sys.executable, "-c", code, here, str(tmp_path), *half], stderr=subprocess.PIPE, text=True)
        for half in (keys[::2], keys[1::2])
    ]
    for run in runs:
        assert run.wait(60) == 0, run.stderr and run.stderr.read()
    stored = store.query("SELECT partition_key, count(*) AS n FROM validation_results GROUP BY 1 ORDER BY 1")
    assert stored.rows() == [(key, len(check_names(project.declaration))) for key in keys]
    index = (store.home / "data_docs" / "index.html").read_text()
    assert all(f"pages/{key}.html" in index for key in keys)


def test_a_hundred_thousand_records_are_judged_in_seconds(store, project):
    fill(store, WEEK, 100_000)
    change(
        store, "UPDATE llm_labels SET label = 'violet' WHERE record_id IN (SELECT record_id FROM records LIMIT 50000)"
    )
    started = time.perf_counter()
    report = validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert failures(report)["label_in_set"].unexpected_count == 50_000
    assert time.perf_counter() - started < 20
