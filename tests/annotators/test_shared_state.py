"""A document that processes change in turns: no change is lost, and no kill or damage makes it unusable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.annotators.shared_state import SharedState, is_alive, machine_folder, this_process
from annotation_pipelines.errors import StoreError

INCREMENT = """
import sys
from pathlib import Path
from annotation_pipelines.annotators.shared_state import SharedState
state = SharedState(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    with state.turn() as document:
        document["count"] = document.get("count", 0) + 1
"""

HOLD = """
import sys, time
from pathlib import Path
from annotation_pipelines.annotators.shared_state import SharedState
with SharedState(Path(sys.argv[1])).turn() as document:
    document["half"] = "done"
    print("inside", flush=True)
    time.sleep(60)
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_eight_processes_lose_no_increment(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "state.json"
    workers = [python(INCREMENT, path, 200) for _ in range(8)]
    assert [worker.wait(60) for worker in workers] == [0] * 8
    with SharedState(path).turn() as document:
        assert document == {"count": 1600}


def test_a_process_killed_inside_a_turn_frees_the_others_and_leaves_the_document_as_it_was(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "state.json")
    with state.turn() as document:
        document["whole"] = 1
    with python(HOLD, state.path) as victim:
        assert victim.stdout and victim.stdout.readline() == "inside\n"
        victim.send_signal(signal.SIGKILL)
    with state.turn() as document:
        assert document == {"whole": 1}


def test_an_error_inside_a_turn_changes_nothing(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "state.json")
    with pytest.raises(ZeroDivisionError), state.turn() as document:
        document["half"] = 1 / 0
    with state.turn() as document:
        assert document == {}


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_damaged_document_counts_as_empty_or_is_a_document(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    state = SharedState(tmp_path_factory.mktemp("state") / "state.json")
    with state.turn() as document:
        document.update({"spent": 12.5, "by": {"a": [1, 2, 3]}})
    content = bytearray(state.path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.integers(0, 255))
    state.path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with state.turn() as document:
        assert isinstance(document, dict)
        document["after"] = True
    with state.turn() as document:
        assert document["after"] is True


@pytest.mark.parametrize("content", ["[1, 2]", "null", '"text"', "{", "\x00\x00", '{"a": 1}}'])
def test_what_is_no_document_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with SharedState(path).turn() as document:
        assert document == {}


def test_a_shorter_document_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "state.json")
    with state.turn() as document:
        document["text"] = "x" * 1000
    with state.turn() as document:
        document["text"] = "y"
    assert json.loads(state.path.read_text()) == {"text": "y"}


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"state.json: cannot be used: .* Free the disk"):
        SharedState(tmp_path / "file" / "state.json").turn().__enter__()


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "folder" / "state.json")
    with state.turn():
        pass
    assert state.path.stat().st_mode & 0o077 == 0
    assert state.path.parent.stat().st_mode & 0o077 == 0


def test_a_removed_file_is_made_again_for_all(tmp_path: Path) -> None:
    one, other = SharedState(tmp_path / "state.json"), SharedState(tmp_path / "state.json")
    for state in (one, other):
        with state.turn() as document:
            document["n"] = 1
    one.path.unlink()
    with one.turn() as document:
        assert document == {}
        document["n"] = 2
    with other.turn() as document:
        assert document == {"n": 2}


def test_a_closed_state_opens_again(tmp_path: Path) -> None:
    state = SharedState(tmp_path / "state.json")
    with state.turn() as document:
        document["n"] = 1
    state.close()
    with state.turn() as document:
        assert document == {"n": 1}


def test_a_process_is_alive_until_it_ends_and_its_name_is_never_another_s() -> None:
    assert is_alive(this_process())
    assert not is_alive(f"{os.getpid()}:1"), "another process had this id"
    assert not is_alive("nonsense")
    with python("import time; print('up', flush=True); time.sleep(60)") as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        started = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[-1].split()[19]
        name = f"{process.pid}:{started}"
        assert is_alive(name)
        process.kill()
    assert not is_alive(name)


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(tmp_path / "here"))
    assert machine_folder() == tmp_path / "here"
