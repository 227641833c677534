"""Batches: submitted once, harvested whole, whatever the endpoint makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from annotation_pipelines.annotators.base import Request
from annotation_pipelines.annotators.endpoint import batches
from annotation_pipelines.annotators.endpoint.batch_api import BatchApi, Unavailable
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import Batch
from tests.batch_scene import ANNOTATOR, KEY, Scene, half_a_cent, key, keys, line, request, scene
from tests.mock_batches import MockBatches
from tests.mock_endpoint import Call, answer, completion, error


def later() -> datetime:
    """When it is clear that nothing is under way any more; the suite may reach a test long after it was collected."""
    return datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as made:
        yield made


def test_a_batch_is_submitted_and_its_replies_come_into_the_ledger(shop: Scene) -> None:
    submitted = shop.submit(range(5))
    assert (submitted.requests, submitted.batches, submitted.left) == (5, ["batch_0"], [])
    assert {asked["custom_id"] for asked in shop.server.requests("batch_0")} == keys(*range(5))
    assert shop.server.requests("batch_0")[3]["body"] == json.loads(line(request(3)))
    (row,) = shop.poll()
    assert (row.status, row.open, shop.ledger()) == ("in_progress", True, [])

    shop.server.finish("batch_0")
    (row,) = shop.poll()
    assert (row.status, row.open, row.answered, row.failed) == ("completed", False, 5, 0)
    facts = "record_id, content_hash, status, http_status, prompt_tokens, completion_tokens, cost_usd, run_id"
    more = "backfill_id, batch_id, purpose, annotator, endpoint"
    assert shop.ledger(f"{facts}, {more}")[2] == (
        *("record 2", "content 2", "ok", 200, 100, 10, 0.005, "run"),
        *("backfill", "batch_0", "ask", ANNOTATOR, shop.url),
    )
    assert shop.ledger("DISTINCT reply") == [(answer("agrees").body,)], "the reply is kept as it was sent"
    assert batches.batch_rows(shop.store, open_only=True) == [] and shop.poll() == []
    assert list((shop.store.home / "batches").iterdir()) == [], "no text stays behind"


def test_metadata_names_project_annotator_and_partition(shop: Scene) -> None:
    shop.submit([1])
    metadata = shop.server.batches["batch_0"]["metadata"]
    assert (metadata["project"], metadata["annotator"], metadata["partition"]) == ("shop", ANNOTATOR, "2026-11")


def test_a_request_that_waits_in_an_open_batch_is_not_submitted_again(shop: Scene) -> None:
    shop.submit([1, 2])
    again = shop.submit([2, 3, 3])
    assert (again.requests, again.waiting) == (1, 2)
    assert batches.waiting(shop.store, [key(n) for n in range(5)]) == keys(1, 2, 3)
    for batch_id in shop.server.open:
        shop.server.finish(batch_id)
    shop.poll()
    assert batches.waiting(shop.store, [key(n) for n in range(5)]) == set()
    assert shop.server.billed == dict.fromkeys(keys(1, 2, 3), 1)


def test_lines_in_any_order_twice_missing_or_of_others_are_joined_by_custom_id(shop: Scene) -> None:
    shop.submit(range(6))

    def edit(lines: list[bytes]) -> list[bytes]:
        stranger = lines[0].replace(json.loads(lines[0])["custom_id"].encode(), b"f" * 32)
        kept = [text for text in lines if key(4).encode() not in text]
        return [*kept[::-1], stranger, b'{"custom_id": "cut', b"", b"[]", kept[0], kept[0]]

    shop.server.finish("batch_0", edit=edit)
    (row,) = shop.poll()
    assert (row.answered, row.failed) == (5, 0)
    assert [row[0] for row in shop.ledger()] == sorted(keys(0, 1, 2, 3, 5))
    assert batches.unanswered(shop.store, [key(n) for n in range(9)]) == keys(4)
    assert any((shop.store.home / "batches").iterdir()), "a file with lines that cannot be read is kept"

    assert shop.submit(range(6)).requests == 6  # the ledger is the caller's affair: here only what is waiting counts


def test_errors_are_recorded_and_never_served_and_refusals_are_answers(tmp_path: Path) -> None:
    def behave(call: Call):  # type: ignore[no-untyped-def]
        match call.text:
            case "text 0":
                return error(429, "slow down")
            case "text 1":
                return error(400, "the prompt was filtered", code="content_filter")
            case "text 2":
                return completion(None, refusal="I would rather not")
            case "text 3":
                return completion(None, finish="content_filter")
            case "text 4":
                return error(400, f"no, {KEY} is wrong")
        return answer("agrees")

    with scene(tmp_path, MockBatches(behave)) as shop:
        shop.submit(range(6))
        shop.server.finish("batch_0")
        (row,) = shop.poll()
        assert (row.answered, row.failed) == (4, 2)
        found = {row[0]: row[1:] for row in shop.ledger("request_key, status, http_status, reply, error, cost_usd")}
        assert [found[key(n)][0] for n in range(6)] == ["error", "refused", "refused", "refused", "error", "ok"]
        assert found[key(0)][1] == 429 and "slow down" in found[key(0)][3] and found[key(0)][4] is None
        assert found[key(2)][3] == "I would rather not"
        assert KEY not in str(found) and "***" in found[key(4)][2]
        assert batches.unanswered(shop.store, [key(n) for n in range(6)]) == keys(0, 4)


def test_where_a_request_has_an_error_and_an_answer_the_answer_counts(shop: Scene) -> None:
    shop.submit([1])

    def edit(lines: list[bytes]) -> list[bytes]:
        return [json.dumps({"custom_id": key(1), "response": None, "error": {"code": "x"}}).encode(), *lines]

    shop.server.finish("batch_0", edit=edit)
    assert (shop.poll()[0].answered, shop.ledger()) == (1, [(key(1), "ok")])


def test_of_an_expired_batch_only_the_remainder_is_submitted_again(shop: Scene) -> None:
    shop.submit(range(10))
    shop.server.finish("batch_0", "expired", answered=keys(*range(7)))
    (row,) = shop.poll()
    assert (row.status, row.answered, row.failed) == ("expired", 7, 0)
    assert len(shop.ledger()) == 7, "what was never tried is no error"
    rest = [n for n in range(10) if key(n) not in shop.answered()]
    assert shop.submit(rest).requests == 3
    shop.server.finish("batch_1")
    shop.poll()
    assert shop.answered() == keys(*range(10))
    assert set(shop.server.billed.values()) == {1}


def test_a_batch_that_fails_its_validation_frees_its_requests_and_says_why(shop: Scene) -> None:
    shop.submit([1, 2])
    shop.server.fail("batch_0", "token_limit_exceeded", "Enqueued token limit reached\nfor mock.", line=2)
    (row,) = shop.poll()
    assert (row.status, row.answered) == ("failed", 0)
    assert row.error == "token_limit_exceeded: line 2: Enqueued token limit reached for mock."
    assert batches.waiting(shop.store, [key(1)]) == set()
    assert shop.submit([1, 2]).requests == 2


def test_a_cancelled_batch_is_harvested_as_far_as_it_came(shop: Scene) -> None:
    shop.submit(range(4))
    shop.submit([9])
    (row,) = batches.cancel(shop.store, shop.api, ["batch_0"], annotator=ANNOTATOR)
    assert (row.status, row.error) == ("cancelling", batches.BY_HAND)
    assert shop.poll()[0].open
    shop.server.finish("batch_0", "cancelled", answered=keys(0, 1))
    row, other = shop.poll()
    assert (row.status, row.error, row.answered) == ("cancelled", batches.BY_HAND, 2)
    assert other.status == "in_progress"
    assert shop.answered() == keys(0, 1)

    shop.server.finish("batch_1")
    (row,) = batches.cancel(shop.store, shop.api, annotator=ANNOTATOR)
    assert row.status == "completed", "one that has ended meanwhile is harvested as it is"
    assert shop.poll()[0].answered == 1
    with pytest.raises(AnnotatorError, match="no open batch batch_1 of openai:mock; open are: none"):
        batches.cancel(shop.store, shop.api, ["batch_1"], annotator=ANNOTATOR)


def test_batches_are_late_after_the_declared_hours_and_once_only(shop: Scene) -> None:
    shop.submit([1])
    settings, now = Batch(late_after_hours=2), datetime.now(UTC)
    assert batches.late(shop.store, ANNOTATOR, now + timedelta(hours=1), settings) == []
    (late,) = batches.late(shop.store, ANNOTATOR, now + timedelta(hours=3), settings)
    batches.cancel(shop.store, shop.api, [late.batch_id], annotator=ANNOTATOR, why=batches.LATE)
    assert batches.late(shop.store, ANNOTATOR, now + timedelta(hours=3), settings) == []
    shop.server.finish("batch_0", "cancelled", answered=())
    assert shop.poll()[0].error == batches.LATE
    assert batches.unanswered(shop.store, [key(1), key(2)]) == keys(1), "these are asked live"


def test_a_file_holds_no_more_requests_and_bytes_than_declared(shop: Scene) -> None:
    assert len(shop.submit(range(10), max_requests=4).batches) == 3
    sizes = [len(shop.server.requests(batch_id)) for batch_id in shop.server.open]
    assert sizes == [4, 4, 2]
    size = len(shop.server.files["file-0"]) // 4 + 5
    assert len(shop.submit(range(100, 110), max_megabytes=3 * size / 1e6).batches) == 4
    assert max(map(len, shop.server.files.values())) <= 4 * size
    huge = shop.submit([200, 201], max_megabytes=50 / 1e6)
    assert (huge.batches, huge.left) == ([], [key(200), key(201)])


def test_open_batches_hold_no_more_tokens_than_declared_and_the_rest_is_left(shop: Scene) -> None:
    first = shop.submit(range(8), max_enqueued_tokens=50, max_requests=3)  # 10 tokens each
    assert (first.requests, first.left) == (5, [key(5), key(6), key(7)])
    assert shop.submit([5, 6, 7], max_enqueued_tokens=50).requests == 0
    shop.server.finish("batch_0")
    shop.poll()
    second = shop.submit([5, 6, 7], max_enqueued_tokens=50)
    assert (second.requests, second.left) == (3, [])
    assert shop.submit([99], max_enqueued_tokens=9).left == [key(99)], "larger than the limit itself"


def test_an_endpoint_that_takes_no_more_leaves_the_rest_for_later(shop: Scene) -> None:
    shop.server.trouble("POST /batches", 429, headers={"Retry-After": "3600"})
    submitted = shop.submit(range(3), max_requests=2)
    assert (submitted.requests, submitted.left) == (0, [key(0), key(1), key(2)])
    assert batches.batch_rows(shop.store) == [] and shop.server.open == []


def test_a_batch_that_the_endpoint_does_not_know_any_more_is_lost_and_its_requests_are_free(shop: Scene) -> None:
    shop.submit([1])
    shop.submit([2])
    del shop.server.batches["batch_0"]
    shop.server.finish("batch_1")
    del shop.server.files[shop.server.batches["batch_1"]["output_file_id"]]
    first, second = shop.poll()
    assert [first.status, second.status] == ["lost", "lost"]
    assert "does not know it any more" in str(first.error) and "output file" in str(second.error)
    assert shop.submit([1, 2]).requests == 2


def test_a_404_of_a_gateway_gives_up_no_batch(shop: Scene) -> None:
    shop.submit([1])
    shop.server.trouble("GET /batches/{id}", 404, body="<html>Not Found</html>")
    shop.server.trouble("GET /batches", 404, body="<html>Not Found</html>")
    with pytest.raises(AnnotatorError, match="does not know the list of batches"):
        shop.poll()
    assert shop.poll()[0].status == "in_progress"


def test_an_answer_file_that_appears_late_is_waited_for_and_not_for_ever(shop: Scene) -> None:
    shop.submit([1])
    shop.server.finish("batch_0")
    file_id = shop.server.batches["batch_0"].pop("output_file_id")
    assert shop.poll()[0].open
    (row,) = shop.poll(datetime.now(UTC) + timedelta(hours=2))
    assert row.status == "lost"
    shop.submit([1])
    shop.server.finish("batch_1")
    shop.server.batches["batch_1"]["output_file_id"] = file_id
    assert shop.poll()[0].answered == 1


def test_a_cancellation_that_never_ends_is_given_up(shop: Scene) -> None:
    shop.submit([1])
    batches.cancel(shop.store, shop.api, annotator=ANNOTATOR)
    assert shop.poll()[0].status == "cancelling"
    (row,) = shop.poll(datetime.now(UTC) + timedelta(hours=2))
    assert (row.status, row.open) == ("lost", False)


def test_trouble_with_one_batch_keeps_no_other_from_its_harvest(shop: Scene) -> None:
    shop.submit([1])
    shop.submit([2])
    for batch_id in shop.server.open:
        shop.server.finish(batch_id)
    impatient = BatchApi(shop.url, KEY, tries=1)
    shop.server.trouble("GET /batches/{id}", 503)
    with pytest.raises(Unavailable, match="batch batch_0: the endpoint is in trouble"):
        batches.poll(shop.store, impatient, annotator=ANNOTATOR, model="mock", cost=half_a_cent)
    assert shop.answered() == keys(2)
    shop.poll()
    assert shop.answered() == keys(1, 2)


def test_polling_stops_in_time_and_goes_on_later(shop: Scene) -> None:
    shop.submit([1])
    shop.server.finish("batch_0")
    rows = batches.poll(shop.store, shop.api, annotator=ANNOTATOR, model="mock", cost=half_a_cent, seconds=0)
    assert rows[0].open and shop.server.calls["GET /batches/{id}"] == 0


def test_other_annotators_and_endpoints_are_left_alone(shop: Scene) -> None:
    shop.submit([1])
    shop.server.finish("batch_0")
    assert batches.poll(shop.store, shop.api, annotator="other", model="m", cost=half_a_cent) == []
    with BatchApi(shop.url.replace("127.0.0.1", "localhost"), KEY) as elsewhere:
        (row,) = batches.poll(shop.store, elsewhere, annotator=ANNOTATOR, model="mock", cost=half_a_cent)
    assert row.open and shop.ledger() == []


def test_a_creation_whose_answer_is_lost_is_looked_up_and_not_sent_again(shop: Scene) -> None:
    shop.server.trouble("POST /batches", "reset_after")
    assert shop.submit([1, 2]).batches == ["batch_0"]
    assert list(shop.server.batches) == ["batch_0"]


def test_a_creation_that_failed_and_is_not_listed_is_sent_again(shop: Scene) -> None:
    shop.server.trouble("POST /batches", 503)
    assert shop.submit([1, 2]).batches == ["batch_0"]
    assert list(shop.server.batches) == ["batch_0"]


def test_a_creation_of_which_nobody_knows_waits_and_is_settled_by_a_later_poll(shop: Scene) -> None:
    shop.server.trouble("POST /batches", "reset_before")
    submitted = shop.submit([1, 2])
    (name,) = submitted.batches
    assert submitted.requests == 2 and name.startswith("submission-")
    assert batches.waiting(shop.store, [key(1)]) == keys(1)
    assert shop.poll()[0].status == "creating", "it may still be under way"
    assert shop.submit([1, 2]).requests == 0
    assert shop.poll(later()) == []
    assert shop.submit([1, 2]).requests == 2
    assert list(shop.server.batches) == ["batch_0"]


@pytest.mark.parametrize("latest_first", [True, False])
def test_a_created_batch_is_found_among_many_whatever_their_order(tmp_path: Path, latest_first: bool) -> None:
    with scene(tmp_path, MockBatches(latest_first=latest_first)) as shop:
        for number in range(230):
            shop.server.batches[f"other_{number}"] = {
                "id": f"other_{number}",
                "status": "completed",
                "created_at": number,
            }
        shop.server.trouble("POST /batches", "reset_after")
        assert shop.submit([1]).batches == ["batch_0"]
        assert shop.server.calls["GET /batches"] == (1 if latest_first else 3)


def test_an_endpoint_that_drops_metadata_is_recognized_by_the_file(shop: Scene) -> None:
    shop.server.trouble("POST /batches", "reset_before")
    shop.submit([1])
    (row,) = batches.batch_rows(shop.store)
    shop.server.batches["mine"] = {"id": "mine", "status": "in_progress", "input_file_id": row.input_file_id}
    assert shop.poll()[0].batch_id == "mine"
    assert batches.waiting(shop.store, [key(1)]) == keys(1)


def test_without_a_list_a_submission_in_doubt_waits_until_its_window_is_over(tmp_path: Path) -> None:
    with scene(tmp_path, MockBatches(listed=False)) as shop:
        shop.server.trouble("POST /batches", "reset_before")
        shop.submit([1])
        assert shop.poll(later())[0].status == "creating"
        assert shop.poll(datetime.now(UTC) + timedelta(hours=30)) == []
        assert shop.submit([1]).requests == 1


def test_requests_are_taken_as_they_are_needed(shop: Scene) -> None:
    taken = 0

    def stream() -> Iterator[Request]:
        nonlocal taken
        for number in range(12_000):
            taken += 1
            yield request(number)

    def seen(asked: Request) -> bytes:
        assert taken <= int(asked.record_id.split()[1]) + 5_000
        return line(asked)

    submitted = batches.submit(
        shop.store,
        shop.api,
        stream(),
        line=seen,
        partition_key="all",
        annotator=ANNOTATOR,
        settings=Batch(max_requests=5_000),
        tokens_of=lambda asked: 1,
    )
    assert (submitted.requests, len(submitted.batches)) == (12_000, 3)


def test_a_server_that_starts_over_and_gives_its_ids_again_loses_no_answer(tmp_path: Path) -> None:
    moody = MockBatches(lambda call: error(500, "no"))
    with scene(tmp_path, moody) as shop:
        shop.submit([1])
        moody.finish("batch_0")
        shop.poll()
        moody.start_over()
        moody.behave = lambda call: answer("agrees")
        assert shop.submit([1]).batches == ["batch_0"]
        moody.finish("batch_0")
        assert shop.poll()[0].answered == 1
        assert [status for _, status in shop.ledger()] == ["error", "ok"]


def test_what_the_purse_does_not_pay_for_is_not_submitted(shop: Scene) -> None:
    with shop.purse(per_run_tokens=1_000) as purse:
        submitted = shop.submit(range(20), purse=purse)
        fit = submitted.requests
        assert 0 < fit < 20 and submitted.left == []
        assert submitted.over_budget == [key(n) for n in range(fit, 20)]
        assert len(shop.server.requests("batch_0")) == fit
        assert shop.submit([50], purse=purse).over_budget == [key(50)], "the batch holds what it may cost"
    shop.server.finish("batch_0", answered=keys(0))
    with shop.purse(per_run_tokens=1_000) as purse:
        shop.poll(purse=purse)
        assert purse.spent()["run"].tokens == 110
        assert shop.submit([50], purse=purse).requests == 1, "what it did not cost is free again"


def test_what_came_to_nothing_costs_nothing(shop: Scene) -> None:
    with shop.purse(per_run_tokens=1_000) as purse:
        shop.server.trouble("POST /files", 400, body="no")
        with pytest.raises(AnnotatorError, match="the upload of a batch: the endpoint refused the request"):
            shop.submit([1], purse=purse)
        shop.server.trouble("POST /batches", 400, body="no")
        with pytest.raises(AnnotatorError, match="the creation of a batch: the endpoint refused the request"):
            shop.submit([1], purse=purse)
        shop.server.trouble("POST /batches", "reset_before")
        assert shop.submit([1], purse=purse).requests == 1
        assert shop.poll(later(), purse=purse) == []
        assert shop.submit(range(2), purse=purse).requests == 2
        shop.server.fail("batch_0", "invalid", "no")
        shop.poll(purse=purse)
    with shop.purse(per_run_tokens=1_000) as purse:
        assert purse.spent()["run"].tokens == 0


def test_a_creation_in_doubt_stays_so_where_the_endpoint_takes_no_more_afterwards(shop: Scene) -> None:
    shop.server.trouble("POST /batches", 503)
    shop.server.trouble("POST /batches", 429, headers={"Retry-After": "3600"})
    assert shop.submit([1]).requests == 1
    assert shop.poll()[0].status == "creating"
    assert shop.poll(later()) == []
