"""A damaged database is one clear error, never a wrong answer; what it held comes back from the archive."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from annotation_pipelines.errors import StoreCorrupted, StoreError
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row
from tests.faults.labelling import command, environment, filled_store, label, ledger, texts
from tests.mock_endpoint import MockEndpoint, answer

CORRUPTIONS = 200


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a project whose ledger has 1,500 replies."""
    home = tmp_path_factory.mktemp("good") / "project"
    store = filled_store(home, 10)
    with Journal(home) as journal:
        for number, text in enumerate(texts(1500)):
            columns = {"request_key": f"k{number}", "record_id": f"r{number}", "content_hash": "h", "annotator": "a"}
            journal.append(call_row(**columns, status="ok", reply=text))
        journal.fold(store)
    return home


def everything(store: Store) -> list[tuple[object, ...]]:
    return store.query("SELECT * FROM llm_calls ORDER BY call_id").rows()


def test_of_200_corruptions_none_is_read_as_if_it_were_right(good: Path, tmp_path: Path) -> None:
    """Flipped bits, zeroed blocks and cut files: every one is either noticed or hit nothing."""
    expected, content = everything(Store(good)), (good / "project.duckdb").read_bytes()
    draw = random.Random(2026)
    silent, noticed = [], 0
    home = tmp_path / "project"
    for number in range(CORRUPTIONS):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        what, damaged = _damaged(content, draw)
        (home / "project.duckdb").write_bytes(damaged)
        try:
            if everything(Store(home)) != expected:
                silent.append((number, what))
        except StoreError as error:
            assert isinstance(error, StoreCorrupted), f"{what}: {error}"
            assert "\n" not in str(error)
            noticed += 1
    assert not silent, "damage that was read without a word"
    assert noticed > CORRUPTIONS / 3


def _damaged(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    damaged = bytearray(content)
    place = draw.randrange(len(content))
    kind = draw.choice(["bit", "bits", "zeros", "cut"])
    if kind == "bit":
        damaged[place] ^= 1 << draw.randrange(8)
    elif kind == "bits":
        for _ in range(100):
            damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "zeros":
        damaged[place : place + 4096] = bytes(len(damaged[place : place + 4096]))
    else:
        damaged = damaged[:place]
    return f"{kind} at {place}", bytes(damaged)


def test_a_run_says_it_in_one_line_buys_nothing_and_after_repair_buys_nothing_again(tmp_path: Path) -> None:
    home, state = tmp_path / "project", tmp_path / "state"
    filled_store(home, 200)
    database = home / "project.duckdb"
    backup = database.read_bytes()
    with MockEndpoint(lambda call: answer("agrees")) as mock:
        label(home, mock.url, concurrency=8)
        paid, calls = len(mock.billed), ledger(home).calls
        content = bytearray(database.read_bytes())
        for place in range(4096, len(content), 8192):
            content[place] ^= 1
        database.write_bytes(content)

        run = subprocess.run(command(home, mock.url), env=environment(state), capture_output=True, text=True)

        assert run.returncode == 2, run.stderr
        assert len(run.stderr.strip().splitlines()) == 1
        assert str(database) in run.stderr
        assert len(mock.billed) == paid, "something was bought for a store that cannot be read"

        database.write_bytes(backup)
        assert label(home, mock.url, concurrency=8)["labelled"] == 200
        assert len(mock.billed) == paid, "what had been paid for was bought again"
        assert ledger(home).calls == calls
