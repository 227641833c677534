"""The quality report in a real browser."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from annotation_pipelines.reports.page import write_quality_report
from annotation_pipelines.reports.pages import page_url, serving_pages
from tests.reports.html_page import Page
from tests.reports.report_sample import NOW, filled_store, project

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(_CHROMIUM is None, reason="needs chromium (or google-chrome) on the PATH"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("storage")
    labels = ("computer-vision", "l" * 150, "意図 カード 🎉")
    store = filled_store(storage / "ml_projects", partitions=8, labels=labels)
    return write_quality_report(store, project(storage, labels), NOW)


def _chromium(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(_CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *arguments]
    environment = {**os.environ, "HOME": str(profile)}
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True, env=environment)


def test_texts_of_records_stay_texts_in_a_browser(report: Path, tmp_path: Path) -> None:
    source = _chromium(tmp_path, "--dump-dom", report.as_uri()).stdout
    page = Page(source)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in source
    assert not page.tags & {"script", "iframe", "object", "embed"}
    assert not page.attributes_starting("on")
    assert page.text.count("adds up") >= 6


def test_the_page_is_the_same_through_the_page_server(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_pages(report.parents[2]) as url:
        monkeypatch.setenv("ANNOTATION_PIPELINES_PAGES_URL", url)
        served = _chromium(tmp_path, "--dump-dom", page_url("ml_projects", "report")).stdout
    assert Page(served).text == Page.read(report).text


def test_a_browser_asks_for_nothing_but_the_page(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_pages(report.parents[2]) as url, caplog.at_level(logging.DEBUG, "annotation_pipelines.reports.pages"):
        monkeypatch.setenv("ANNOTATION_PIPELINES_PAGES_URL", url)
        _chromium(tmp_path, f"--screenshot={tmp_path / 'page.png'}", page_url("ml_projects", "report"))
    asked = {line.split()[1] for line in caplog.messages}
    assert asked - {"/favicon.ico"} == {"/ml_projects/reports/quality_report.html"}


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_stands_out_of_the_window(report: Path, tmp_path: Path, width: int) -> None:
    (tmp_path / "report.html").write_bytes(report.read_bytes())
    (tmp_path / "probe.html").write_text(
        f'<iframe id="page" width="{width}" height="900" style="border: 0" src="report.html"></iframe>'
        "<script>page.onload = () => { const root = page.contentDocument.documentElement; "
        "document.body.append(`too wide by ${root.scrollWidth - root.clientWidth}.`) }</script>"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = _chromium(tmp_path / "profile", "--dump-dom", f"http://127.0.0.1:{server.server_port}/probe.html")
        server.shutdown()
    assert "too wide by 0." in shown.stdout


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
