"""Lines of the batch API: written as the endpoint wants them, read whatever it sends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annotation_pipelines.annotators.endpoint.batch_files import (
    PrivateFile,
    input_line,
    key_of,
    output_lines,
    read_output_line,
)
from annotation_pipelines.errors import StoreError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SPACING = st.sampled_from([(",", ":"), (", ", ": "), (" ,  ", "\t: ")])
KEY = "0123456789abcdef0123456789abcdef"


@given(body=st.dictionaries(st.text(), JSON, max_size=3), indent=st.sampled_from([None, 2]))
def test_an_input_line_is_one_line_with_key_method_url_and_the_body(
    body: dict[str, object], indent: int | None
) -> None:
    line = input_line(KEY, json.dumps(body, indent=indent).encode(), "/v1/chat/completions")
    assert line.count(b"\n") == 1 and key_of(line) == KEY
    assert json.loads(line) == {"custom_id": KEY, "method": "POST", "url": "/v1/chat/completions", "body": body}


@given(body=st.dictionaries(st.text(), JSON), spacing=SPACING, raw=st.booleans(), order=st.permutations(range(4)))
def test_the_body_is_cut_out_as_it_stands(
    body: dict[str, object], spacing: tuple[str, str], raw: bool, order: list[int]
) -> None:
    text = json.dumps(body, separators=spacing, ensure_ascii=not raw)
    response = json.dumps({"status_code": 200, "request_id": "}{\"'", "body": None}).replace("null", text)
    members = ['"id": "batch_req_1"', f'"custom_id": "{KEY}"', f'"response": {response}', '"error": null']
    line = "{" + " , ".join(members[index] for index in order) + "}\n"
    found = read_output_line(line.encode("utf-8", errors="surrogatepass"))
    assert found is not None
    assert (found.custom_id, found.status, found.error) == (KEY, 200, None)
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        assert found.body == text


def test_a_body_in_quotes_is_taken_out_of_them() -> None:
    line = {"custom_id": "a", "response": {"status_code": 200, "body": '{"choices": []}'}}
    found = read_output_line(json.dumps(line).encode())
    assert found and found.body == '{"choices": []}'


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_a_request_that_the_batch_ended_before_was_not_tried(code: str) -> None:
    line = {"custom_id": "a", "response": None, "error": {"code": code, "message": "too\nlate"}}
    found = read_output_line(json.dumps(line).encode())
    assert found and not found.tried and found.error == f"{code}: too late"


def test_an_error_of_the_batch_itself_is_an_error_of_the_request() -> None:
    line = {"custom_id": "a", "error": {"code": "server_error", "message": None}}
    found = read_output_line(json.dumps(line).encode())
    assert found and found.tried and (found.status, found.error) == (None, "server_error")


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"custom_id": "a"')
@example(b'{"custom_id": 1}')
@example(b'{"custom_id": "a", "response": {"status_code": "200"}}')
@example(b'{"custom_id": "a", "response": {')
@example(b"[" * 100_000)
def test_any_other_bytes_are_no_line_and_raise_nothing(line: bytes) -> None:
    found = read_output_line(line)
    assert found is None or found.custom_id is not None


def test_a_file_is_read_line_by_line_without_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "output.jsonl"
    good = b'{"custom_id": "a", "response": {"status_code": 200, "body": {}}}'
    path.write_bytes(b"\n".join([good, b"", b"  ", b"nonsense", good.replace(b'"a"', b'"b"')]))
    assert [line and line.custom_id for line in output_lines(path)] == ["a", None, "b"]


def test_a_private_file_is_its_owner_s_and_says_where_it_cannot_be_written(tmp_path: Path) -> None:
    with PrivateFile(tmp_path / "batches" / "a") as file:
        file.write(b"text")
    assert file.size == 4 and file.path.read_bytes() == b"text"
    assert (file.path.stat().st_mode & 0o777, file.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with pytest.raises(StoreError, match="Is a directory"), PrivateFile(tmp_path / "batches"):
        pass
    with pytest.raises(StoreError, match="No space left on device"), PrivateFile(Path("/dev/full")) as full:
        full.write(b"x" * 100_000)
