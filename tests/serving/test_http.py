"""The champion over HTTP: real requests to a real server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.errors import StoreLocked, TrainingError, WorkspaceError
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.serving import http
from annotation_pipelines.serving.http import BadRequest, application, read_request, serve
from annotation_pipelines.serving.live import LiveChampion
from annotation_pipelines.store.database import Store
from tests.serving.conftest import TRUTH, Sky


def live(sky: Sky) -> LiveChampion:
    def version() -> str | None:
        champion = ModelRegistry(sky.store).champion()
        return champion.version if champion else None

    return LiveChampion(lambda: Champion.open(sky.store, sky.project), version)


@pytest.fixture(scope="module")
def client(sky: Sky) -> Iterator[httpx.Client]:
    server = uvicorn.Server(uvicorn.Config(application(live(sky), sky.project), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def test_texts_get_labels_with_their_confidence_and_the_model(client: httpx.Client, sky: Sky) -> None:
    reply = client.post("/predict", json={"texts": list(TRUTH.values())})
    assert reply.status_code == 200
    assert reply.json()["model"] == client.get("/health").json()["model"]
    assert [row["label"] for row in reply.json()["predictions"]] == list(TRUTH)
    assert all(0 < row["confidence"] <= 1 and row["abstained"] is False for row in reply.json()["predictions"])


def test_health_and_card_name_the_champion(client: httpx.Client) -> None:
    assert client.get("/health").json()["status"] == "ok"
    card = client.get("/model").json()
    assert (card["student"], card["status"], card["gold"]) == ("static", "champion", 30)


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ("{", 400, "expected JSON"),
        ("[1]", 400, 'either "texts" or "records"'),
        ('{"texts": ["a"], "records": []}', 400, 'either "texts" or "records"'),
        ('{"texts": []}', 400, "an entry or more"),
        ('{"texts": "a"}', 400, "an entry or more"),
        ('{"texts": ["a", 1]}', 400, "texts[1]: expected a text, found int"),
        ('{"texts": ["  "]}', 400, "texts[0]: expected a text, found an empty one"),
        ('{"records": ["a"]}', 400, "records[0]: expected an object with text, found str"),
        (json.dumps({"texts": ["a"] * 1001}), 413, "1,000 texts at most, found 1,001"),
        ('{"texts": ["' + "a" * http.MOST_BYTES + '"]}', 413, "bytes at most"),
    ],
)
def test_a_wrong_request_is_told_what_was_expected(client: httpx.Client, body: str, status: int, problem: str) -> None:
    reply = client.post("/predict", content=body)
    assert reply.status_code == status
    assert problem in reply.json()["error"]


def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_too(client: httpx.Client) -> None:
    reply = client.post("/predict", content=iter([b"a" * (1 << 20)] * 3))
    assert reply.status_code == 413


def test_what_is_not_there_is_answered_with_what_is(client: httpx.Client) -> None:
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert "POST /predict" in client.get("/nothing").json()["error"]


def test_records_of_several_parts_are_read_by_name() -> None:
    assert read_request(b'{"records": [{"b": "y", "a": "x"}]}', ["a", "b"]) == [
        '{"parts":[{"name":"a","text":"x"},{"name":"b","text":"y"}]}'
    ]
    with pytest.raises(BadRequest, match="a record has the parts a, b"):
        read_request(b'{"texts": ["x"]}', ["a", "b"])
    assert read_request(rb'{"texts": [" a\u0000 \ud800 "]}', ["text"]) == ["a\ufffd ?"]


def test_requests_that_wait_together_are_predicted_together(sky: Sky) -> None:
    async def ask() -> tuple[list[str], list[int]]:
        serving, sizes = live(sky), list[int]()
        inner = serving.champion.predict
        serving.champion.predict = lambda contents, progress=None: (  # type: ignore[method-assign]
            sizes.append(len(contents)) or inner(contents, progress)
        )
        waiting = [asyncio.create_task(serving.predict([text])) for text in [*TRUTH.values()] * 4]
        await asyncio.sleep(0)
        await serving.start()
        labels = [found["label"][0] for _, found in await asyncio.gather(*waiting)]
        await serving.stop()
        return labels, sizes

    assert asyncio.run(ask()) == (list(TRUTH) * 4, [12])


def test_a_new_champion_takes_over_and_a_busy_store_changes_nothing(sky: Sky) -> None:
    async def look() -> list[Any]:
        serving = live(sky)
        await serving.start()
        found: list[Any] = [await serving.refresh()]
        version = sky.crown(6)
        found += [await serving.refresh(), serving.champion.model.version == version]

        def busy() -> str:
            raise StoreLocked("somebody else holds it")

        serving._version = busy
        found += [await serving.refresh(), (await serving.predict(["a star"]))[0] == version]
        await serving.stop()
        return found

    assert asyncio.run(look()) == [False, True, True, False, True]


def test_a_failed_prediction_fails_its_request_and_no_other(sky: Sky) -> None:
    async def ask() -> list[Any]:
        serving = live(sky)
        await serving.start()
        failed = (await asyncio.gather(serving.predict([None]), return_exceptions=True))[0]  # type: ignore[list-item]
        answered = await serving.predict(["a star and a dog"])
        await serving.stop()
        return [isinstance(failed, Exception), answered[1]["label"][0]]

    assert asyncio.run(ask()) == [True, "star"]


def test_it_does_not_start_without_a_champion_or_an_address(sky: Sky, tmp_path: Any) -> None:
    declared = Declaration.model_validate(
        {"source": {"csv": "a.csv"}, "task": {"classification": {"labels": {"a": "one", "b": "another"}}}}
    )
    with pytest.raises(TrainingError, match="no champion"):
        serve(Store(tmp_path / "new"), Project("new", tmp_path, declared), "127.0.0.1", 0, print)
    with pytest.raises(WorkspaceError, match="cannot be listened on"):
        serve(sky.store, sky.project, "192.0.2.1", 1, print)
