"""A journal that was damaged behind our back costs the lines that were hit, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.killing import kill_after
from tests.faults.labelling import filled_store, label, ledger, record_ids
from tests.mock_endpoint import MockEndpoint, answer

RECORDS = 300


def _random_bytes(content: bytes) -> bytes:
    return content + random.Random(0).randbytes(700)


def _cut_line(content: bytes) -> bytes:
    return content[:-100]


def _zeros(content: bytes) -> bytes:
    return content + bytes(4096)


def _zeroed_tail(content: bytes) -> bytes:
    """The last lines as some file systems leave them when the power fails."""
    return content[:-1500] + bytes(1500)


def _flipped_bit(content: bytes) -> bytes:
    """Within a line: where two of them meet, both would be hit."""
    middle = content.index(b"\n", len(content) // 2) - 100
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "lines_hit"),
    [(_random_bytes, 0), (_cut_line, 1), (_zeros, 0), (_zeroed_tail, 3), (_flipped_bit, 1)],
)
def test_the_rest_is_kept_and_only_what_was_hit_is_bought_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes], lines_hit: int
) -> None:
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(tmp_path / "state"))
    home = tmp_path / "project"
    filled_store(home, RECORDS)
    with MockEndpoint(lambda call: answer("agrees"), latency=0.005) as mock:
        kill_after(100, home, mock, concurrency=4, state=tmp_path / "state")
        (segment,) = [path for path in (home / "journal").glob("*.jsonl") if path.stat().st_size]
        before = ledger(home)
        assert len(before.journalled) >= 90
        segment.write_bytes(damage(segment.read_bytes()))
        left = ledger(home)
        assert len(before.journalled) - lines_hit <= len(left.journalled) <= len(before.journalled)
        paid = len(mock.billed)

        counts = label(home, mock.url, concurrency=4)

        assert counts["labelled"] == RECORDS
        assert counts["recovered"] == len(left.journalled)
        assert left.calls.keys() <= ledger(home).calls.keys()
        kept = {text for text, record in record_ids(RECORDS).items() if record in left.calls.values()}
        assert not kept & set(mock.billed[paid:]), "an answer that could be read was bought again"
        again = Counter(mock.billed).total() - len(set(mock.billed))
        assert again <= lines_hit + 4, "more was bought again than was hit or in flight at the kill"
    if counts["damaged"]:
        assert (home / "journal" / "damaged" / segment.name).exists()
