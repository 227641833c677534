"""A small server for the pages of a workspace: quality reports and Data Docs, nothing else.

    /                                        the projects, and when each page was written
    /<project>/reports/quality_report.html
    /<project>/data_docs/index.html

It answers GET and HEAD, and gives out only files of web types that truly lie in these two folders of a project: no
databases, no path that leads elsewhere, no symbolic link. It asks nobody who they are; so it listens on this machine
alone unless told otherwise.
"""

from __future__ import annotations

import logging
import os
import shutil
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.reports.page import REPORT_FILE, environment

Kind = Literal["report", "data_docs"]

URL_VARIABLE = "ANNOTATION_PIPELINES_PAGES_URL"
DEFAULT_URL = "http://127.0.0.1:3001"
PAGES: dict[Kind, str] = {"report": REPORT_FILE, "data_docs": "data_docs/index.html"}
"""The first page of each kind, below a project's storage."""

_FOLDERS = ("reports", "data_docs")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".ico": "image/x-icon",
}
_POLICY = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'self'"
_SECONDS_FOR_A_REQUEST = 30
_NOT_THERE = "There is no such page.\n"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProjectPages:
    """The pages of a project: when each was written, None where it is not there."""

    name: str
    report: datetime | None
    data_docs: datetime | None


def page_url(project_name: str, kind: Kind) -> str:
    """Where a page is served: below ANNOTATION_PIPELINES_PAGES_URL, or port 3001 of this machine."""
    base = (os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    return f"{base}/{quote(project_name, safe='')}/{PAGES[kind]}"


def find_page(storage: Path, url_path: str) -> Path | None:
    """The file that a URL's path names, or None where there is none to give out.

    Args:
        storage: The workspace's storage folder.
        url_path: The path as the browser sent it, percent-encoded.
    """
    parts = unquote(url_path).lstrip("/").split("/")
    if parts[-1] == "":
        parts[-1] = "index.html"
    forbidden = any(part == "" or part.startswith(".") or "\\" in part or "\0" in part for part in parts)
    if forbidden or len(parts) < 3 or parts[1] not in _FOLDERS:
        return None
    file = storage.resolve().joinpath(*parts)
    try:
        # A link anywhere on the way resolves to another path.
        there = file.resolve(strict=True) == file and file.is_file()
    except OSError:
        return None
    return file if there and file.suffix.lower() in _TYPES else None


def list_projects(storage: Path) -> list[ProjectPages]:
    """Every project with a database or a page, by name."""
    if not storage.is_dir():
        return []
    found = []
    for folder in sorted(storage.iterdir()):
        written = {kind: _written(storage, f"{quote(folder.name, safe='')}/{file}") for kind, file in PAGES.items()}
        if any(written.values()) or (folder / f"{folder.name}.duckdb").is_file():
            found.append(ProjectPages(folder.name, **written))
    return found


def serve_pages(storage: Path, host: str = "127.0.0.1", port: int = 3001) -> None:
    """Serve the pages until interrupted.

    Raises:
        WorkspaceError: The port cannot be used.
    """
    try:
        server = PageServer(storage, host, port)
    except OSError as error:
        raise WorkspaceError(
            f"port {port} of {host} cannot be used ({error.strerror or error})", todo="Choose another port"
        ) from None
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


@contextmanager
def serving_pages(storage: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the pages from a thread while the block runs; gives the URL. Port 0 takes any that is free.

    Raises:
        OSError: The port cannot be used.
    """
    with PageServer(storage, host, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


class PageServer(ThreadingHTTPServer):
    """The server; `storage` is where the projects' pages lie."""

    daemon_threads = True

    def __init__(self, storage: Path, host: str, port: int) -> None:
        self.storage = storage
        super().__init__((host, port), _PageHandler)

    def server_bind(self) -> None:
        """Bind without asking a name server for our own name, which HTTPServer does and which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """To the log: a browser that goes away in the middle of a page is nothing to print a traceback for."""
        _log.debug("request from %s failed", client_address, exc_info=True)

    @property
    def url(self) -> str:
        """The URL of the list of projects."""
        return f"http://{'127.0.0.1' if self.server_name == '0.0.0.0' else self.server_name}:{self.server_port}"


class _PageHandler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "annotation-pipelines", ""
    timeout = _SECONDS_FOR_A_REQUEST

    def do_GET(self) -> None:
        """Answer with the list of projects, a page, or 404."""
        path = urlsplit(self.path).path
        storage = self.server.storage
        if path in ("", "/"):
            template = environment().get_template("pages.html.j2")
            self._text(HTTPStatus.OK, template.render(projects=list_projects(storage), url=_relative_url), ".html")
        elif path.endswith(tuple(f"/{folder}" for folder in _FOLDERS)) and find_page(storage, f"{path}/"):
            self._head(HTTPStatus.MOVED_PERMANENTLY, ".txt", 0, Location=f"/{path.strip('/')}/")
        elif file := find_page(storage, path):
            self._file(file)
        else:
            self._text(HTTPStatus.NOT_FOUND, _NOT_THERE)

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n", Allow="GET, HEAD")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse

    def _file(self, file: Path) -> None:
        try:
            opened = file.open("rb")
        except OSError:
            self._text(HTTPStatus.NOT_FOUND, _NOT_THERE)
            return
        with opened:
            status = os.fstat(opened.fileno())
            written = formatdate(status.st_mtime, usegmt=True)
            self._head(HTTPStatus.OK, file.suffix, status.st_size, **{"Last-Modified": written})
            if self.command != "HEAD":
                shutil.copyfileobj(opened, self.wfile)

    def _text(self, status: HTTPStatus, text: str, suffix: str = ".txt", **headers: str) -> None:
        body = text.encode()
        self._head(status, suffix, len(body), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, suffix: str, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": _TYPES[suffix.lower()],
            "Content-Length": str(length),
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """To the log, not to the terminal of the UI."""
        _log.debug(format, *args)


def _written(storage: Path, url_path: str) -> datetime | None:
    file = find_page(storage, url_path)
    return datetime.fromtimestamp(file.stat().st_mtime, UTC) if file else None


def _relative_url(project_name: str, kind: Kind) -> str:
    return f"{quote(project_name, safe='')}/{PAGES[kind]}"
