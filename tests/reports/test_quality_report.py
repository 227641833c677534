"""The quality report: true counts, hostile texts as texts, nothing missing without a word about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.project import Project
from annotation_pipelines.reports import sections, students
from annotation_pipelines.reports.data import read_report_data
from annotation_pipelines.reports.page import money, short, write_quality_report
from annotation_pipelines.store.database import Store
from tests.reports.html_page import Page
from tests.reports.report_sample import LABELS, NOW, filled_store, project


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("storage") / "ml_projects")


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def page(filled: Store, declared: Project) -> Page:
    """What is drawn of the filled store: for tests that read it alone."""
    return _page(filled, declared)


def _page(store: Store, of: Project) -> Page:
    return Page.read(write_quality_report(store, of, NOW, "run-1"))


def test_the_page_lies_where_the_page_server_looks(filled: Store, declared: Project) -> None:
    path = write_quality_report(filled, declared, NOW)
    assert path == filled.home / "reports" / "quality_report.html"
    assert [file.name for file in path.parent.iterdir()] == ["quality_report.html"]


def test_the_same_tables_give_the_same_page(filled: Store, declared: Project) -> None:
    first = write_quality_report(filled, declared, NOW, "run-1").read_bytes()
    assert write_quality_report(filled, declared, NOW, "run-1").read_bytes() == first


def test_the_states_of_every_stage_add_up(filled: Store, declared: Project, page: Page) -> None:
    stages = sections.stage_counts(read_report_data(filled, declared))
    assert {stage.asset for stage in stages} == {
        "raw_records",
        "human_labels",
        "selected_records",
        "llm_labels",
        "model_evaluation",
        "trusted_labels",
        "predictions",
    }
    assert all(stage.total and stage.total == stage.counted for stage in stages)
    assert "but there are" not in page.text


def test_a_stage_that_does_not_add_up_is_called_out(filled: Store, declared: Project) -> None:
    data = read_report_data(filled, declared)
    accounting = data.accounting.filter(pl.col("state") != "waiting")
    short_of = sections.stage_counts(type(data)(**{**vars(data), "accounting": accounting}))
    assert any(stage.total > stage.counted for stage in short_of)


def test_a_label_of_an_earlier_text_is_not_counted_as_a_label(tmp_path: Path, declared: Project) -> None:
    store = filled_store(tmp_path / "ml_projects", partitions=2)
    before = sections.stage_counts(read_report_data(store, declared))
    with store.transaction() as con:
        changed = con.execute(
            "SELECT record_id FROM llm_labels WHERE state = 'labelled' AND record_id LIKE 'r%' ORDER BY ALL LIMIT 5"
        ).fetchall()
        for (record_id,) in changed:
            for table in ("records", "selected_records"):
                con.execute(f"UPDATE {table} SET content_hash = 'new' WHERE record_id = ?", [record_id])
    after = sections.stage_counts(read_report_data(store, declared))
    labelled = [sections.count_of(stages, "llm_labels", "labelled") for stages in (before, after)]
    assert labelled[0] - labelled[1] == 5
    assert sections.count_of(after, "llm_labels", "changed since") == 5
    assert all(stage.total == stage.counted for stage in after)


def test_key_figures_are_those_of_the_tables(filled: Store, page: Page) -> None:
    def one(sql: str) -> int:
        return int(filled.query(sql).item())

    assert page.figure("Records live") == f"{one('SELECT count(*) FROM records WHERE deleted_at IS NULL'):,}"
    assert page.figure("Trusted") == f"{one('SELECT count(*) FROM trusted_labels'):,}"
    assert page.figure("Labels by people") == f"{one('SELECT count(*) FROM human_labels'):,}"
    assert page.figure("Annotator calls") == f"{one('SELECT count(*) FROM llm_calls'):,}"
    assert page.figure("Student accuracy") == "90.0%"
    assert page.figure("Champion") == "v2"


def test_teacher_accuracy_is_measured_on_gold_it_was_not_shown(filled: Store, page: Page) -> None:
    right, records = filled.query(
        "SELECT sum((l.label = h.label)::INT), count(*) FROM llm_labels l JOIN human_labels h USING (record_id) "
        "WHERE l.state = 'labelled' AND h.role IN ('evaluation', 'monitor')"
    ).row(0)
    assert page.figure("Teacher accuracy") == f"{right / records:.1%}"
    assert f"on {records} gold records" in page.text


def test_a_cost_without_a_price_is_unknown_and_never_zero(tmp_path: Path, declared: Project) -> None:
    page = _page(filled_store(tmp_path / "ml_projects", partitions=3, held_out=0, price=None), declared)
    assert page.figure("Cost") == "unknown"
    assert "$0" not in page.text


def test_texts_of_records_are_shown_as_texts(page: Page) -> None:
    for text in (
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(2)> and 'quotes' \"double\" & ampersands",
        "</style></section><!-- {{ 7 * 7 }} {% raw %}",
        "javascript:alert(3) http://example.com/track.gif",
        "<b>bad0</b>",
        "Projects about machine learning <b>tagged</b> by topic",
    ):
        assert text in page.text
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form"}
    assert not page.attributes_starting("on")


def test_the_page_asks_nobody_for_anything(page: Page) -> None:
    assert page.loaded
    assert all(url.startswith("data:image/svg+xml;base64,") for url in page.loaded)
    assert all(url.startswith(("#", "../data_docs/")) for url in page.links)
    assert not re.findall(r"url\(|@import|image-set", page.styles)
    assert page.policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_a_long_text_is_cut(page: Page) -> None:
    assert max(map(len, re.findall(r"a{50,}", page.text))) == 300
    assert short("a" * 301) == "a" * 300 + "…"
    assert short("a" * 300) == "a" * 300


def test_a_fresh_project_is_told_what_is_missing_and_what_makes_it(tmp_path: Path, declared: Project) -> None:
    page = _page(Store(tmp_path / "ml_projects"), declared)
    for asset in ("raw_records", "selected_records", "llm_labels", "trusted_labels", "distilled_model", "predictions"):
        assert f"Materialize {asset}." in page.text
    assert "There are no labels by people." in page.text
    assert page.figure("Teacher accuracy") == page.figure("Student accuracy") == "unknown"
    assert page.figure("Cost") == "none"
    assert not page.loaded


def test_every_table_alone_still_gives_a_page(tmp_path: Path, declared: Project) -> None:
    whole = filled_store(tmp_path / "whole" / "ml_projects", partitions=2, per_partition=10, held_out=5)
    with whole.transaction() as con:
        tables = [name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    for kept in set(tables) - {"schema_migrations"}:
        store = Store(tmp_path / kept / "ml_projects")
        rows = whole.query(f"SELECT * FROM {kept}")
        with store.transaction() as con:
            con.register("_rows", rows.to_arrow())
            con.execute(f"INSERT INTO {kept} SELECT * FROM _rows")
        assert "ml_projects" in _page(store, declared).text


def test_an_unpartitioned_project_gives_a_page_without_partition_plots(tmp_path: Path, declared: Project) -> None:
    page = _page(filled_store(tmp_path / "ml_projects", partitions=1), declared)
    assert "How often the teacher gave each label" in page.alternatives
    assert not any("in every partition" in alternative for alternative in page.alternatives)


def test_teacher_and_student_stand_side_by_side_on_the_same_gold(filled: Store, declared: Project) -> None:
    split, rows = sections.f1_by_label(read_report_data(filled, declared).evaluation, "v2")
    assert split == "evaluation"
    assert {row["label"] for row in rows} == set(LABELS)
    assert all(row["student"] - row["teacher"] == pytest.approx(0.07) for row in rows)


def test_the_champion_is_shown_slice_by_slice_with_its_checks_and_what_was_decided(
    filled: Store, declared: Project, page: Page
) -> None:
    told = ("all passed", "fails same whatever the case", "why v2 <i>took over</i>")
    for part in ("length: <b>short</b>", "+0.100", *told):
        assert part in page.text
    assert {"How good the student is with fewer labels"} <= set(page.alternatives)
    assert any("Confidence of the student" in alternative for alternative in page.alternatives)
    [short, long] = students.slice_rows(read_report_data(filled, declared).slices, "v2", "accuracy")[::-1]
    assert (short["slice"], long["slice"]) == ("length: long", "length: <b>short</b>")
    assert short["difference"]["value"] == pytest.approx(0.1)


def test_checks_show_the_latest_partitions_and_every_failing_one() -> None:
    rows = [
        {
            "partition_key": f"{1000 + index}",
            "check_name": check,
            "expectation": "expect",
            "success": index not in (5, 150) or check == "b",
            "blocking": True,
            "element_count": 10,
            "unexpected_count": 3,
            "observed": "3 unknown labels",
        }
        for index in range(200)
        for check in ("a", "b")
    ]
    grid = sections.check_grid(pl.DataFrame(rows))
    shown = [partition for partition, _ in grid.rows]
    assert shown[0] == "1199"
    assert shown[-1] == "1005"
    assert len(shown) == 61
    assert grid.hidden == 139
    assert (grid.failing, grid.results) == (2, 400)
    failed = grid.rows[-1][1][0]
    assert failed is not None
    assert failed["title"] == "a, 1005: not met; 3 of 10 rows; stops the partition; 3 unknown labels"


@pytest.mark.heavy
def test_thousands_of_partitions_and_many_labels_make_a_page_of_ordinary_size(tmp_path: Path) -> None:
    labels = tuple(f"intent number {index} about cards" for index in range(77))
    store = filled_store(tmp_path / "ml_projects", partitions=5000, per_partition=2, labels=labels)
    path = write_quality_report(store, project(tmp_path, labels), NOW)
    assert path.stat().st_size < 3_000_000


def test_times_are_those_of_the_projects_time_zone(filled: Store, tmp_path: Path) -> None:
    there = project(tmp_path, partitions={"every": "week", "start": "2020-02-17", "timezone": "Asia/Tokyo"})
    assert "2026-10-31 21:00 JST" in _page(filled, there).text


def test_small_amounts_are_not_rounded_to_nothing() -> None:
    assert [money(usd) for usd in (None, 0.0, 0.0042, 12.345, 1234.5)] == [
        "unknown",
        "$0.00",
        "$0.0042",
        "$12.35",
        "$1,234.50",
    ]


def test_without_a_time_the_page_is_of_now(filled: Store, declared: Project) -> None:
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    assert f"Quality report of{today}" in Page.read(write_quality_report(filled, declared)).text.replace(" of ", " of")
