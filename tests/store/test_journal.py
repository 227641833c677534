"""The journal: what a killed run paid for is found again, and nothing damaged is taken for an answer."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.errors import StoreError
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal, fold_leftovers, read_journal
from annotation_pipelines.store.ledger import call_row, find_replies


def row(key: str, *, status: str = "ok", reply: str | None = "{}") -> dict[str, object]:
    return call_row(
        request_key=key, record_id="r", content_hash="h", annotator="a", status=status, reply=reply, cost_usd=0.1
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "project")


def calls(store: Store) -> int:
    return int(store.query("SELECT count(*) AS n FROM llm_calls")["n"].item())


def test_folding_moves_the_replies_into_the_ledger_and_the_archive(store: Store) -> None:
    with Journal(store.home) as journal:
        for n in range(5):
            journal.append(row(f"k{n}"))
        assert journal.fold(store).replies == 5
        journal.append(row("k5"))
        assert journal.fold(store).replies == 1
    assert calls(store) == 6
    assert [path.name for path in (store.home / "journal").iterdir()] == ["folded"]
    assert len(list((store.home / "journal" / "folded").iterdir())) == 2


def test_the_journal_of_a_killed_process_is_folded_by_the_next_one(store: Store) -> None:
    code = """
import sys, time
from pathlib import Path
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row
with Journal(Path(sys.argv[1])) as journal:
    for n in range(20):
        journal.append(call_row(request_key=f"k{n}", record_id="r", content_hash="h", annotator="a", status="ok"))
    print("written", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code, str(store.home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout and victim.stdout.readline() == "written\n"
        assert fold_leftovers(store).replies == 0, "the journal of a living process was taken from it"
        victim.send_signal(signal.SIGKILL)
    assert fold_leftovers(store).replies == 20
    assert fold_leftovers(store).replies == 0
    assert calls(store) == 20


def test_folding_the_same_file_twice_adds_nothing(store: Store) -> None:
    with Journal(store.home) as journal:
        journal.append(row("k"))
        content = journal.path.read_bytes()
        journal.fold(store)
    journal.path.write_bytes(content)
    assert fold_leftovers(store).replies == 0
    assert calls(store) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_costs_only_the_lines_it_hits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    home = tmp_path_factory.mktemp("home")
    with Journal(home) as journal:
        for n in range(10):
            journal.append(row(f"k{n}", reply=f'{{"label": "{n}"}}'))
        whole, _ = read_journal(journal.path)
        content = bytearray(journal.path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(position, len(content)))
    damaged_file = home / "damaged.jsonl"
    damaged_file.write_bytes(content[:cut])
    rows, damaged = read_journal(damaged_file)
    expected = set(whole.rows())
    assert set(rows.rows()) <= expected, "a damaged line was taken for an answer"
    assert len(rows) >= content[:cut].count(b"\n") - 2
    assert damaged >= 1 or len(rows) + 1 >= content[:cut].count(b"\n")


def test_a_cut_off_line_is_set_aside_and_the_rest_is_kept(store: Store) -> None:
    with Journal(store.home) as journal:
        journal.append(row("k0"))
        journal.append(row("k1"))
        content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-7])
    folded = fold_leftovers(store)
    assert (folded.replies, folded.damaged) == (1, 1)
    assert [file.name for file in (store.home / "journal" / "damaged").iterdir()] == [journal.path.name]


def test_a_full_disk_is_one_clear_error_and_also_the_reply_that_met_it_is_kept(store: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Journal(store.home) as journal:
            journal.append(row("k0"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 40, hard))
            with pytest.raises(
                StoreError, match=r"jsonl: cannot be written: No space.*nothing that was written before is lost"
            ):
                journal.append(row("k1"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    folded = fold_leftovers(store)
    assert (folded.replies, folded.damaged) == (2, 1)
    assert [path.name for path in (store.home / "journal").glob("*.reserve")] == []


def test_a_reply_after_one_that_did_not_fit_is_whole(store: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Journal(store.home) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
            with pytest.raises(StoreError):
                journal.append(row("lost"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            journal.append(row("kept"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    fold_leftovers(store)
    assert find_replies(store, ["lost", "kept"])["request_key"].to_list() == ["kept"]


def test_what_a_lost_database_held_comes_back_from_the_archive(store: Store) -> None:
    with Journal(store.home) as journal:
        for n in range(30):
            journal.append(row(f"k{n}", reply=f"reply {n}"))
            if n % 10 == 9:
                journal.fold(store)
    before = store.query("SELECT * FROM llm_calls ORDER BY call_id")
    store.path.unlink()
    assert fold_leftovers(store).replies == 30
    assert store.query("SELECT * FROM llm_calls ORDER BY call_id").equals(before)
    assert fold_leftovers(store).replies == 0


def test_what_an_old_backup_lacks_comes_back_from_the_archive(store: Store) -> None:
    with Journal(store.home) as journal:
        journal.append(row("old"))
        journal.fold(store)
        backup = store.path.read_bytes()
        journal.append(row("new"))
        journal.fold(store)
    store.path.write_bytes(backup)
    assert calls(store) == 1
    assert fold_leftovers(store).replies == 1
    assert calls(store) == 2


def test_a_damaged_archive_gives_what_can_be_read_and_is_asked_once(store: Store) -> None:
    with Journal(store.home) as journal:
        for n in range(200):
            journal.append(row(f"k{n}", reply=f"reply {n}" * n))
        journal.fold(store)
    (file,) = (store.home / "journal" / "folded").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    store.path.unlink()
    found = fold_leftovers(store).replies
    assert 0 <= found < 200
    assert fold_leftovers(store).replies == 0
    assert calls(store) == found


def test_errors_are_recorded_and_never_served_as_answers(store: Store) -> None:
    with Journal(store.home) as journal:
        journal.append(row("failed", status="error", reply=None))
        journal.append(row("refused", status="refused"))
        journal.append(row("answered"))
        journal.fold(store)
    assert calls(store) == 3
    found = find_replies(store, ["failed", "refused", "answered", "never asked"])
    assert sorted(found["request_key"]) == ["answered", "refused"]


def test_the_latest_reply_to_a_request_is_served(store: Store) -> None:
    with Journal(store.home) as journal:
        journal.append(row("k", reply="first"))
        journal.append(row("k", reply="second"))
        journal.fold(store)
    assert find_replies(store, ["k", "k"]).rows() == [("k", "ok", "second")]
