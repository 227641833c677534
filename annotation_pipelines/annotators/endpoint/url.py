"""The base URL of an endpoint: checked before anything is sent there."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import OpenAIAnnotator

DEFAULT_URL = "https://api.openai.com/v1"


def endpoint_url(settings: OpenAIAnnotator) -> str:
    """The checked base URL of an annotator: its own, or OPENAI_BASE_URL, or OpenAI's.

    Raises:
        DeclarationError: It is no plain URL.
    """
    return checked_url(settings.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL)


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        DeclarationError: It is no http or https URL, or carries credentials or a query. It is not repeated in the
            message as it stands, since it may hold a secret.
    """
    where = "annotators: openai: base_url"
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise DeclarationError(
            f"expected a URL such as https://api.openai.com/v1, found {_shown(url)!r}",
            where=where,
            todo="Begin it with http:// or https:// and the host's name",
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise DeclarationError(
            f"expected a plain URL for {host}, found one with a user, a password, a query or a fragment",
            where=where,
            todo="Keep the URL up to its path; give the key in the environment variable that api_key_env names",
        )
    address = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{address}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def is_local(url: str) -> bool:
    """Whether a checked URL is one of this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _shown(url: str) -> str:
    return url.rsplit("@", 1)[-1].split("?", 1)[0][:80]
