"""The open batches of a project: ask after them, bring their replies in, cancel them.

What the sensor of the graph does every minute and the command line on request. The batches of an annotator are found by
its name and endpoint, whatever its `mode` is now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from annotation_pipelines.annotators.endpoint.batch_rows import BatchRow, batch_rows
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store

if TYPE_CHECKING:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.endpoint.batch_api import BatchApi


def poll_batches(
    project: Project, store: Store, *, now: datetime | None = None, seconds: float = float("inf")
) -> list[BatchRow]:
    """Ask after all open batches, and bring in the replies of those that have ended.

    Batches of annotators with `mode: auto` that are late are cancelled; a later poll brings in what they have.

    Args:
        now: Default: the time of the call.
        seconds: No batch is begun after this time.

    Returns:
        The batches that were open before, as they stand now.

    Raises:
        AnnotatorError: A refused key, no batch API, an endpoint in trouble. What other batches had is brought in.
    """
    from annotation_pipelines.annotators.endpoint import batches
    from annotation_pipelines.annotators.spending.purse import Purse

    now = now or datetime.now(UTC)
    rows: list[BatchRow] = []
    trouble: AnnotatorError | None = None
    for annotator in _with_open_batches(project, store):
        settings, price = annotator.settings, annotator.price
        try:
            with (
                _api(annotator) as api,
                Purse.open(
                    store,
                    project.declaration.budget,
                    run_id=None,
                    backfill_id=None,
                    price=price,
                    where=f"{annotator.name} at {annotator.endpoint}",
                ) as purse,
            ):
                rows += batches.poll(
                    store,
                    api,
                    annotator=annotator.name,
                    model=settings.model,
                    cost=batches.at_batch_price(price),
                    purse=purse,
                    now=now,
                    seconds=seconds,
                )
                if settings.mode == "auto" and (late := batches.late(store, annotator.name, now, settings.batch)):
                    ids = [row.batch_id for row in late if row.endpoint == api.url]
                    batches.cancel(store, api, ids, annotator=annotator.name, why=batches.LATE, now=now)
        except AnnotatorError as error:
            trouble = trouble or error
    if trouble:
        raise trouble
    return rows


def cancel_batches(project: Project, store: Store, batch_ids: Sequence[str] | None = None) -> list[BatchRow]:
    """Ask for open batches to be cancelled; default: all. What they have by then comes in with a later poll.

    Raises:
        AnnotatorError: No such open batch, a refused key, no batch API, an endpoint in trouble.
    """
    from annotation_pipelines.annotators.endpoint import batches

    open_now = batch_rows(store, open_only=True)
    if unknown := sorted(set(batch_ids or ()) - {row.batch_id for row in open_now}):
        raise AnnotatorError(
            f"there is no open batch {', '.join(unknown)}; open are: "
            f"{', '.join(row.batch_id for row in open_now) or 'none'}",
            where=project.name,
        )
    cancelled: list[BatchRow] = []
    for annotator in _with_open_batches(project, store):
        own = {row.batch_id for row in open_now if row.annotator == annotator.name}
        chosen = None if batch_ids is None else [batch_id for batch_id in batch_ids if batch_id in own]
        if chosen != []:
            with _api(annotator) as api:
                cancelled += batches.cancel(store, api, chosen, annotator=annotator.name)
    return cancelled


def described(row: BatchRow) -> str:
    """A batch in one line: its id, partition, state, and how far it came."""
    if row.open:
        what = f"{row.requests:,} requests, submitted {row.submitted_at:%Y-%m-%d %H:%M} UTC"
    else:
        what = f"{row.answered or 0:,} of {row.requests:,} answered, {row.failed or 0:,} failed"
    return f"{row.batch_id}  {row.partition_key}  {row.annotator}  {row.status}  {what}" + (
        f" ({row.error})" if row.error else ""
    )


def _with_open_batches(project: Project, store: Store) -> list[OpenAIAnnotator]:
    """The declared annotators that have open batches at their endpoint."""
    found = {(row.annotator, row.endpoint) for row in batch_rows(store, open_only=True)}
    if not found:
        return []
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.factory import make_panel

    members = [m for m in make_panel(project, store).members if isinstance(m, OpenAIAnnotator)]
    return [member for member in members if (member.name, member.endpoint) in found]


@contextmanager
def _api(annotator: OpenAIAnnotator) -> Iterator[BatchApi]:
    from annotation_pipelines.annotators.endpoint.batch_api import batch_api

    with batch_api(annotator.settings, annotator.endpoint, annotator.key()) as api:
        yield api
