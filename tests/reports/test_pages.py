"""The page server: pages of projects, and nothing else."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.reports.pages import find_page, list_projects, page_url, serve_pages, serving_pages


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    storage = tmp_path / "storage"
    for file, text in {
        "shop/reports/quality_report.html": "<h1>report</h1>",
        "shop/data_docs/index.html": "<h1>docs</h1>",
        "shop/data_docs/pages/2020-02-17.html": "<h1>week</h1>",
        "shop/data_docs/results/2020-02-17.json": '{"secret": 1}',
        "shop/data_docs/.lock": "",
        "shop/reports/copy.duckdb": "secret",
        "shop/shop.duckdb": "secret",
        "shop/journal/replies.jsonl": "secret",
        "intents/intents.duckdb": "secret",
        "a & <b>/reports/quality_report.html": "<h1>odd</h1>",
        "notes.html": "secret",
    }.items():
        (storage / file).parent.mkdir(parents=True, exist_ok=True)
        (storage / file).write_text(text)
    (tmp_path / "outside.html").write_text("secret")
    return storage


@pytest.fixture
def url(storage: Path) -> Iterator[str]:
    with serving_pages(storage) as url:
        yield url


def _ask(url: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def test_reports_and_data_docs_are_served(url: str) -> None:
    assert _ask(url, "/shop/reports/quality_report.html")[::2] == (200, "<h1>report</h1>")
    assert _ask(url, "/shop/data_docs/pages/2020-02-17.html")[::2] == (200, "<h1>week</h1>")
    assert _ask(url, "/shop/data_docs/")[::2] == (200, "<h1>docs</h1>")
    assert _ask(url, "/a%20%26%20%3Cb%3E/reports/quality_report.html?x=1")[::2] == (200, "<h1>odd</h1>")


def test_a_folder_without_its_slash_leads_to_its_first_page(url: str) -> None:
    status, headers, _ = _ask(url, "/shop/data_docs")
    assert (status, headers["Location"]) == (301, "/shop/data_docs/")


@pytest.mark.parametrize(
    "path",
    [
        "/shop/shop.duckdb",
        "/shop/reports/copy.duckdb",
        "/shop/data_docs/results/2020-02-17.json",
        "/shop/data_docs/.lock",
        "/shop/journal/replies.jsonl",
        "/notes.html",
        "/shop",
        "/shop/",
        "/shop/reports",
        "/shop/reports/",
        "/shop/reports/none.html",
        "/shop/reports/../shop.duckdb",
        "/shop/reports/../../notes.html",
        "/shop/reports/%2e%2e/%2e%2e/notes.html",
        "/shop/reports/..%2f..%2fnotes.html",
        "/shop/reports/..%5c..%5cnotes.html",
        "/shop/reports/../../../outside.html",
        "/shop/reports//quality_report.html",
        "/shop/reports/./quality_report.html",
        "/shop/reports/quality_report.html%00.html",
        "/shop/reports/" + "a" * 5000 + ".html",
        "/../shop/reports/quality_report.html",
        "/%ff/reports/quality_report.html",
    ],
)
def test_nothing_else_is_served(url: str, path: str) -> None:
    status, _, body = _ask(url, path)
    assert (status, body) == (404, "There is no such page.\n")


@pytest.mark.parametrize("linked", ["shop/reports/link.html", "shop/reports/folder", "shop2", "shop/data_docs/pages/x"])
def test_a_symbolic_link_leads_nowhere(storage: Path, url: str, linked: str) -> None:
    outside = storage.parent / "elsewhere" / "reports"
    outside.mkdir(parents=True)
    (outside / "page.html").write_text("secret")
    target = outside / "page.html" if linked.endswith(".html") else outside.parent
    (storage / linked).symlink_to(target)
    for path in (f"/{linked}", f"/{linked}/reports/page.html", f"/{linked}/page.html"):
        assert _ask(url, path)[0] == 404


def test_a_storage_that_is_itself_a_link_is_served(storage: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(storage)
    assert find_page(tmp_path / "link", "/shop/reports/quality_report.html")


def test_the_first_page_lists_the_projects_and_what_is_written(url: str) -> None:
    status, headers, body = _ask(url, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert 'href="shop/reports/quality_report.html"' in body
    assert 'href="shop/data_docs/index.html"' in body
    assert "intents" in body
    assert "not written yet: materialize <code>quality_report</code>" in body
    assert "a &amp; &lt;b&gt;" in body
    assert 'href="a%20%26%20%3Cb%3E/reports/quality_report.html"' in body


def test_without_storage_there_are_no_projects(tmp_path: Path) -> None:
    assert list_projects(tmp_path / "none") == []
    with serving_pages(tmp_path / "none") as url:
        assert "No project has been materialized yet" in _ask(url, "/")[2]


def test_only_get_and_head_are_answered(url: str) -> None:
    status, headers, body = _ask(url, "/shop/reports/quality_report.html", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "15", "")
    assert _ask(url, "/", "HEAD")[::2] == (200, "")
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, headers, _ = _ask(url, "/shop/reports/quality_report.html", method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert _ask(url, "/", "TRACE")[0] == 501


def test_every_answer_forbids_scripts_and_guessing(url: str) -> None:
    for path in ("/", "/shop/reports/quality_report.html", "/none"):
        headers = _ask(url, path)[1]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self' 'unsafe-inline'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-cache"


def test_a_reader_who_goes_away_does_not_stop_the_server(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    address = urlsplit(url)
    for sent in (
        b"GET /shop/reports/quality",
        b"",
        b"\r\n\r\n",
        b"GET /shop/reports/quality_report.html HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(sent)
    assert _ask(url, "/shop/reports/quality_report.html")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_taken_port_is_named(url: str, storage: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"port \d+ of 127.0.0.1 cannot be used"):
        serve_pages(storage, port=urlsplit(url).port or 0)


def test_pages_have_urls_below_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANNOTATION_PIPELINES_PAGES_URL", raising=False)
    assert page_url("shop", "report") == "http://127.0.0.1:3001/shop/reports/quality_report.html"
    monkeypatch.setenv("ANNOTATION_PIPELINES_PAGES_URL", "https://pages.example.org/labels/")
    assert page_url("a b", "data_docs") == "https://pages.example.org/labels/a%20b/data_docs/index.html"


def test_a_url_leads_to_its_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATION_PIPELINES_PAGES_URL", url)
    assert _ask(url, urlsplit(page_url("shop", "report")).path)[2] == "<h1>report</h1>"
    assert _ask(url, urlsplit(page_url("shop", "data_docs")).path)[2] == "<h1>docs</h1>"
