"""What the recognizers find in a text, as (kind, value) pairs."""

from __future__ import annotations

from annotation_pipelines.annotators.privacy.recognizers import find

KINDS = ("email", "phone", "credit_card", "account", "iban", "ip", "url_credentials")


def found(text: str, *kinds: str, regions: tuple[str, ...] = ("US", "GB")) -> list[tuple[str, str]]:
    return [(f.kind, text[f.start : f.end]) for f in find(text, kinds or KINDS, phone_regions=regions)]


def values(text: str, *kinds: str, regions: tuple[str, ...] = ("US", "GB")) -> list[str]:
    return [value for _, value in found(text, *kinds, regions=regions)]
