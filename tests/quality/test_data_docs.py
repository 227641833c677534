"""Data Docs have one page a partition, render what is new, and call nobody."""

import json
import os
import re

import pytest
from labelled_partitions import ANNOTATOR, NOW, change, fill, make_project, make_store

from annotation_pipelines.errors import StoreLocked
from annotation_pipelines.quality.data_docs import build_data_docs
from annotation_pipelines.quality.validation import validate

WEEK, NEXT_WEEK = "2026-11-09", "2026-11-16"


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def page(store, key):
    return store.home / "data_docs" / "pages" / f"{key}.html"


def test_a_page_shows_every_expectation_with_what_was_observed(store, project):
    fill(store, WEEK)
    change(store, "UPDATE llm_labels SET label = 'violet' WHERE record_id = ?", f"{WEEK}/0007")
    report = validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert report.data_docs == store.home / "data_docs" / "index.html"
    text = page(store, WEEK).read_text()
    for result in report.results:
        assert result.check_name in text
        assert text.count(result.description) >= 2  # in the summary, and in the section of Great Expectations
    assert "violet" in text and f"{WEEK}/0007" in text
    assert "Successful Expectations" in text


def test_the_index_lists_every_partition_with_its_outcome(store, project):
    fill(store, WEEK)
    fill(store, NEXT_WEEK, label="violet")
    validate(store, project, WEEK, ANNOTATOR, now=NOW)
    index = validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW).data_docs.read_text()
    assert re.findall(r'<td class="(\w+)">.*?<a href="(.*?)">', index) == [
        ("failed", f"pages/{NEXT_WEEK}.html"),
        ("met", f"pages/{WEEK}.html"),
    ]


def test_pages_load_nothing_and_run_nothing(store, project):
    fill(store, WEEK, label="<script>alert(1)</script><img src=http://example.org>")
    index = validate(store, project, WEEK, ANNOTATOR, now=NOW).data_docs
    for file in (index, page(store, WEEK)):
        text = file.read_text()
        assert "default-src 'none'" in text
        assert not re.findall(r"<(?:script|link|img|iframe)\b", text)
        assert "http://" not in text.replace("&lt;img src=http://example.org&gt;", "") and "https://" not in text
    assert "&lt;script&gt;alert(1)" in page(store, WEEK).read_text()


def test_a_page_holds_the_latest_validation_only(store, project):
    fill(store, WEEK, label="violet")
    validate(store, project, WEEK, ANNOTATOR, now=NOW)
    change(store, "UPDATE llm_labels SET label = 'red'")
    validate(store, project, WEEK, ANNOTATOR, now=NOW)
    assert "violet" not in page(store, WEEK).read_text()
    assert sorted(file.name for file in page(store, WEEK).parent.iterdir()) == [f"{WEEK}.html"]
    assert [file.name for file in (store.home / "data_docs" / "results").iterdir()] == [f"{WEEK}.json"]


def test_only_pages_whose_result_changed_are_rendered_again(store, project):
    for key in (WEEK, NEXT_WEEK):
        fill(store, key)
        validate(store, project, key, ANNOTATOR, now=NOW)
    page(store, WEEK).write_text("as it was")
    result = store.home / "data_docs" / "results" / f"{WEEK}.json"
    os.utime(page(store, WEEK), ns=(result.stat().st_mtime_ns,) * 2)
    validate(store, project, NEXT_WEEK, ANNOTATOR, now=NOW)
    assert page(store, WEEK).read_text() == "as it was"
    result.touch()
    build_data_docs(store)
    assert WEEK in page(store, WEEK).read_text()


def test_an_hourly_partition_has_a_page_that_the_index_links_to(store, project):
    key = "2026-11-09-00:00"
    fill(store, key)
    index = validate(store, project, key, ANNOTATOR, now=NOW).data_docs
    (link,) = re.findall(r'<a href="(.*?)">', index.read_text())
    assert (index.parent / link).is_file()


def test_an_empty_project_has_an_index(store):
    assert "Data Docs" in build_data_docs(store).read_text()


def test_docs_that_another_run_renders_for_too_long_are_not_waited_for_forever(store, monkeypatch):
    from filelock import FileLock

    build_data_docs(store)
    monkeypatch.setenv("ANNOTATION_PIPELINES_LOCK_WAIT", "0.1")
    with (
        FileLock(store.home / "data_docs" / ".lock"),
        pytest.raises(StoreLocked, match="another run renders Data Docs"),
    ):
        build_data_docs(store)


def test_the_kept_result_is_that_of_great_expectations(store, project):
    fill(store, WEEK)
    validate(store, project, WEEK, ANNOTATOR, now=NOW)
    kept = json.loads((store.home / "data_docs" / "results" / f"{WEEK}.json").read_text())
    assert kept["great_expectations"]["suite_name"] == "colours"
    assert kept["great_expectations"]["success"] is True
