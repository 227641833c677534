"""How well extracted fields agree with gold, exactly and by the words they share."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap

Comparison = Literal["exact", "fuzzy", "number"]

# A character of a script that is written without blanks (Thai, Chinese, Japanese) counts as a word of its own.
_ALONE = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")
_NUMBER = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[-+]?\d+(?:\.\d+)?", re.ASCII)

_ABSENT = object()


def measure(
    truth: Sequence[Mapping[str, Any]],
    given: Sequence[Mapping[str, Any] | None],
    fields: Sequence[str],
    compare: Mapping[str, Comparison],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of extracted objects against gold.

    Of a field in one record: exact is 1 where the values are the same, or the field is absent from both, and 0
    otherwise; fuzzy is `word_f1`; score is what `compare` names.

    Args:
        truth: n objects.
        given: n objects to be measured; None where there is none, which is wrong in every field.
        fields: The fields of the schema.
        compare: How a field is scored; exact where it is not named.

    Returns:
        score, exact and fuzzy (the means over records and fields), record_exact (the share of records right in every
        field), f1 (micro, over fields that are present: a value counts as right where it scores exactly); then score,
        exact, fuzzy and f1 of each field. Nothing without records.

    Raises:
        ValueError: Lengths differ.
    """
    if len(truth) != len(given):
        raise ValueError(f"expected as many objects as gold objects, found {len(given)} and {len(truth)}")
    n, k = len(truth), len(fields)
    if not n:
        return []
    score, exact, fuzzy, there, told = np.zeros((5, n, k))
    for row, (gold, found) in enumerate(zip(truth, given, strict=True)):
        for column, field in enumerate(fields):
            there[row, column] = field in gold
            if found is None:
                continue
            told[row, column] = field in found
            one, other = gold.get(field, _ABSENT), found.get(field, _ABSENT)
            exact[row, column] = same(one, other)
            fuzzy[row, column] = word_f1(one, other)
            how = compare.get(field, "exact")
            score[row, column] = {
                "exact": exact[row, column],
                "fuzzy": fuzzy[row, column],
                "number": same_number(one, other),
            }[how]
    hits = exact * there * told
    names = [(name, "", n) for name in ("score", "exact", "fuzzy", "record_exact", "f1")]
    names += [(name, field, n) for name in ("score", "exact", "fuzzy") for field in fields]
    names += [("f1", field, int(there[:, column].sum())) for column, field in enumerate(fields)]
    return bootstrap(
        np.column_stack([np.ones(n), exact.all(axis=1), score, exact, fuzzy, there, told, hits]),
        lambda sums: _metrics(sums, k),
        names,
        resamples=resamples,
        seed=seed,
    )


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return _text(one) == _text(other)


def same_number(one: object, other: object) -> bool:
    """Whether two values are the same number, to nine digits, or the same value.

    A text is the number that it holds, if it holds just one: "1,200.50 USD" is 1200.5.
    """
    first, second = _number(one), _number(other)
    if first is None or second is None:
        return same(one, other)
    return math.isclose(first, second, rel_tol=1e-9)


def word_f1(one: object, other: object) -> float:
    """How many words two JSON values share: 2 c / (a + b) for a and b words, c of them common.

    A word that is there more than once is common as often as it is in both. The words are those of all texts, numbers
    and truth values within, in NFKC form and without case, keys left out (Rajpurkar et al. 2016, arXiv 1606.05250,
    section 6.1, but articles count). Without any words on either side it is 1 where the values are the same, and 0
    otherwise.
    """
    if one is _ABSENT or other is _ABSENT:
        return float(one is other)
    first, second = Counter(_words(one)), Counter(_words(other))
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else float(same(one, other))


def _words(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)
    elif value is not None:
        text = value if isinstance(value, str) else _text(value)
        yield from _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        found = _NUMBER.findall(value)
        return float(found[0].replace(",", "")) if len(found) == 1 else None
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _metrics(sums: Array, k: int) -> Array:
    """All metrics from sums: the five of the whole, then four for each of k fields; nan where undefined."""
    n, record_exact = sums[:, :1], sums[:, 1]
    score, exact, fuzzy, there, told, hits = np.split(sums[:, 2:], 6, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * hits / (there + told)
        micro = 2 * hits.sum(axis=1) / (there + told).sum(axis=1)
    means = [each.sum(axis=1) / (n[:, 0] * k) for each in (score, exact, fuzzy)]
    return np.column_stack([*means, record_exact / n[:, 0], micro, score / n, exact / n, fuzzy / n, f1])
