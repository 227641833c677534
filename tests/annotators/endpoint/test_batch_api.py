"""The client of the batch API: what it sends, and what it says when something is wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation_pipelines.annotators.endpoint import batch_api
from annotation_pipelines.annotators.endpoint.batch_api import BatchApi, NotOffered, Refused, Unavailable, Unclear
from annotation_pipelines.errors import AnnotatorError, StoreError
from annotation_pipelines.project import OpenAIAnnotator
from tests.mock_batches import MockBatches
from tests.mock_endpoint import MockEndpoint

KEY = "sk-secret-0123456789"
LINE = b'{"custom_id":"0","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"content":"a"}]}}\n'


@pytest.fixture
def server() -> MockBatches:
    return MockBatches(key=KEY)


@pytest.fixture
def endpoint(server: MockBatches) -> Iterator[MockEndpoint]:
    with MockEndpoint(routes=server.routes) as mock:
        yield mock


@pytest.fixture
def api(endpoint: MockEndpoint) -> Iterator[BatchApi]:
    with BatchApi(endpoint.url, KEY, seconds=1.0) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(LINE)
    return path


def test_a_file_goes_up_becomes_a_batch_and_its_output_comes_down(
    api: BatchApi, server: MockBatches, file: Path, tmp_path: Path
) -> None:
    file_id = api.upload(file)
    assert server.files[file_id] == LINE
    made = api.create(file_id, {"project": "shop", "long": "x" * 1000})
    assert (made.status, made.input_file_id, made.ended) == ("in_progress", file_id, False)
    assert server.batches[made.batch_id]["completion_window"] == "24h"
    assert len(made.metadata["long"]) == 512, "the longest value that is taken"
    server.finish(made.batch_id)
    ended = api.retrieve(made.batch_id)
    assert ended and ended.ended and ended.completed == 1 and ended.output_file_id
    path = tmp_path / "below" / "output.jsonl"
    assert api.download(ended.output_file_id, path)
    assert path.read_bytes() == server.files[ended.output_file_id]
    assert [entry.name for entry in path.parent.iterdir()] == ["output.jsonl"]
    assert [batch.batch_id for batch in api.recent()] == [made.batch_id]


def test_what_the_endpoint_does_not_know_is_none(api: BatchApi, tmp_path: Path) -> None:
    assert api.retrieve("batch_9") is None
    assert api.cancel("batch_9") is None
    assert not api.download("file-9", tmp_path / "output.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_cancelling_what_has_ended_gives_it_as_it_stands(api: BatchApi, server: MockBatches, file: Path) -> None:
    made = api.create(api.upload(file), {})
    assert (cancelled := api.cancel(made.batch_id)) and cancelled.status == "cancelling"
    assert (again := api.cancel(made.batch_id)) and again.status == "cancelling"
    server.finish(made.batch_id, "cancelled", answered=())
    assert (ended := api.cancel(made.batch_id)) and ended.status == "cancelled"


def test_a_list_of_many_pages_is_read_to_its_end(api: BatchApi, server: MockBatches) -> None:
    for number in range(201):
        server.batches[f"b{number}"] = {"id": f"b{number}", "status": "completed"}
    assert [batch.batch_id for batch in api.recent()] == [f"b{number}" for number in range(200, -1, -1)]
    assert server.calls["GET /batches"] == 3


def test_a_refused_key_is_one_line_that_names_the_variable_and_not_the_key(
    endpoint: MockEndpoint, server: MockBatches, file: Path
) -> None:
    settings = OpenAIAnnotator(model="mock", api_key_env="SHOP_KEY")
    with (
        batch_api.batch_api(settings, endpoint.url, "sk-wrong-987654321") as wrong,
        pytest.raises(AnnotatorError) as raised,
    ):
        wrong.upload(file)
    message = str(raised.value)
    assert "the endpoint refused the key (HTTP 401)" in message and "SHOP_KEY" in message
    assert "\n" not in message and "sk-wrong" not in message
    assert server.calls["POST /files"] == 1, "it is not tried again"


def test_an_endpoint_without_a_batch_api_is_one_line_that_says_what_to_do(file: Path) -> None:
    with MockEndpoint() as bare, BatchApi(bare.url, KEY) as api, pytest.raises(NotOffered) as raised:
        api.upload(file)
    assert "does not know the upload of a batch (HTTP 404)" in str(raised.value) and "mode: live" in str(raised.value)


def test_no_server_is_one_line_after_a_bounded_number_of_tries(file: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with BatchApi(url, KEY, tries=2) as api, pytest.raises(Unavailable, match="no server answers: Connection refused"):
        api.create("file-0", {})


@pytest.mark.parametrize("manner", [429, 500, 503, "reset_before", "hang_before", "half"])
def test_passing_trouble_is_tried_again(api: BatchApi, server: MockBatches, manner: int | str) -> None:
    server.batches["b"] = {"id": "b", "status": "in_progress"}
    server.trouble("GET /batches/{id}", manner)  # type: ignore[arg-type]
    assert (found := api.retrieve("b")) and found.batch_id == "b"
    assert server.calls["GET /batches/{id}"] == 2


def test_lasting_trouble_ends_after_a_bounded_number_of_tries(endpoint: MockEndpoint, server: MockBatches) -> None:
    server.trouble("GET /batches/{id}", 500, times=9, body="oh no, " + KEY)
    with (
        BatchApi(endpoint.url, KEY, tries=3) as api,
        pytest.raises(Unavailable, match=r"batch b: .*HTTP 500") as raised,
    ):
        api.retrieve("b")
    assert server.calls["GET /batches/{id}"] == 3
    assert KEY not in str(raised.value)


def test_who_asks_for_a_long_pause_is_not_waited_for(api: BatchApi, server: MockBatches) -> None:
    server.trouble("GET /batches/{id}", 429, headers={"Retry-After": "600"})
    with pytest.raises(Unavailable):
        api.retrieve("b")
    assert server.calls["GET /batches/{id}"] == 1


@pytest.mark.parametrize("manner", ["reset_before", "reset_after", "hang_after", "half", 500, 504])
def test_a_creation_that_may_have_been_taken_is_not_sent_again(
    api: BatchApi, server: MockBatches, file: Path, manner: int | str
) -> None:
    file_id = api.upload(file)
    server.trouble("POST /batches", manner)  # type: ignore[arg-type]
    with pytest.raises(Unclear) as raised:
        api.create(file_id, {})
    assert raised.value.answered == (manner == 500)
    assert server.calls["POST /batches"] == 1


def test_a_creation_that_certainly_was_not_taken_is_sent_again(api: BatchApi, server: MockBatches, file: Path) -> None:
    file_id = api.upload(file)
    server.trouble("POST /batches", 429, headers={"Retry-After": "0.01"})
    assert api.create(file_id, {}).batch_id == "batch_0"
    with pytest.raises(Refused, match="Invalid file id"):
        api.create("file-9", {})


def test_a_download_that_breaks_is_begun_again_and_never_stands_half(
    api: BatchApi, server: MockBatches, tmp_path: Path
) -> None:
    server.files["f"] = b"x" * 1_000_000
    server.trouble("GET /files/{id}/content", "half")
    path = tmp_path / "output.jsonl"
    assert api.download("f", path) and path.stat().st_size == 1_000_000


def test_a_full_disk_is_said_in_one_line(api: BatchApi, server: MockBatches) -> None:
    server.files["f"] = b"x"
    with pytest.raises(StoreError, match="cannot be written"):
        api.download("f", Path("/proc/output.jsonl"))


@pytest.mark.parametrize("body", ["<html>", "[]", '{"object": "something"}'])
def test_a_reply_of_another_kind_is_said_in_one_line(api: BatchApi, server: MockBatches, body: str) -> None:
    server.trouble("GET /batches/{id}", 200, body=body)
    with pytest.raises(Unavailable, match="expected"):
        api.retrieve("b")


def test_a_file_of_requests_goes_from_disk_to_the_wire_piece_by_piece(
    api: BatchApi, server: MockBatches, tmp_path: Path
) -> None:
    import tracemalloc

    path = tmp_path / "input.jsonl"
    path.write_bytes(b"x" * 20_000_000)
    api.retrieve("none")  # everything is imported now
    server.trouble("POST /files", 413)
    tracemalloc.start()
    with pytest.raises(Refused, match="Lower max_megabytes"):
        api.upload(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000
