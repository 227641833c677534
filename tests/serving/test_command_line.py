"""What a person types to predict and to serve; a static student, so that neither torch nor an encoder is loaded."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import polars as pl

from tests.serving.conftest import TRUTH, Sky

COMMAND = Path(sys.executable).parent / "annotation-pipelines"


def ap(sky: Sky, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], cwd=sky.folder, input=stdin, capture_output=True, text=True)


def test_texts_from_standard_input_come_back_as_json_lines(sky: Sky) -> None:
    done = ap(sky, "predict", "shop", stdin="\n\n".join(TRUTH.values()))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["label"] for row in rows] == list(TRUTH), done.stderr
    assert [list(row) for row in rows] == [["text", "label", "confidence", "abstained"]] * 3
    assert done.stderr == ""


def test_a_file_is_predicted_into_a_file(sky: Sky, tmp_path: Path) -> None:
    rows = pl.DataFrame({"number": ["007", "8"], "title": ["a storm", "a star"], "body": ["fire on the sun", "dog"]})
    rows.write_csv(tmp_path / "new.csv")
    done = ap(sky, "predict", "shop", str(tmp_path / "new.csv"), "--to", str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 predictions of model ")
    assert pl.read_csv(tmp_path / "out.csv", infer_schema=False).select("number", "text", "label").rows() == [
        ("007", "a storm. fire on the sun", "sun"),
        ("8", "a star. dog", "star"),
    ]
    missing = ap(sky, "predict", "shop", str(tmp_path / "new.csv"), "--text", "nothing")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert re.fullmatch(r"error: .*new.csv: expected a column 'nothing', found 'number', .*\n", missing.stderr)


def test_a_server_answers_until_it_is_told_to_stop(sky: Sky) -> None:
    server = subprocess.Popen(
        [COMMAND, "serve", "shop", "--port", "0"], cwd=sky.folder, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        said = server.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address is not None, said + server.stderr.read()
        reply = httpx.post(f"{address[0]}/predict", json={"texts": ["a star and a dog"]}, timeout=60)
        assert reply.json()["predictions"][0]["label"] == "star"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)
        assert server.stderr.read() == ""
    finally:
        server.kill()
        server.wait()
