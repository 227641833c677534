"""Words of texts in any language: runs of letters and digits, in lower case; each Chinese or Japanese sign is one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+(?:['\u2019][^\W_{_SIGNS}]+)*")

NGram = tuple[str, ...]


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(words: Sequence[str], n: int) -> list[NGram]:
    """Every run of n words, in order; none where there are fewer."""
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
