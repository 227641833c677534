"""What the ledger says was spent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from annotation_pipelines.annotators.spending.budget import Amount, Kind
from annotation_pipelines.store.database import Store


def bought(store: Store, *, run_id: str | None, backfill_id: str | None, day: date) -> dict[Kind, Amount]:
    """What a run, a backfill and a day (UTC) have cost, by the calls in the ledger.

    A batch belongs to the day on which it was submitted. A call of unknown price adds tokens and no money.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    rows = store.query(
        """
        WITH calls AS (
            SELECT coalesce(c.cost_usd, 0) AS usd,
                   coalesce(c.prompt_tokens, 0) + coalesce(c.completion_tokens, 0) AS tokens,
                   coalesce(c.run_id = $run, false) AS of_run,
                   coalesce(c.backfill_id = $backfill, false) AS of_backfill,
                   coalesce(b.submitted_at, c.called_at) BETWEEN $midnight AND $last AS of_day
            FROM llm_calls c LEFT JOIN llm_batches b ON b.batch_id = c.batch_id
            WHERE c.endpoint IS NOT NULL
                  AND (c.called_at >= $midnight OR c.run_id = $run OR c.backfill_id = $backfill)
        )
        SELECT kind, sum(usd)::DOUBLE AS usd, sum(tokens)::BIGINT AS tokens FROM (
            SELECT 'run' AS kind, usd, tokens FROM calls WHERE of_run
            UNION ALL SELECT 'backfill', usd, tokens FROM calls WHERE of_backfill
            UNION ALL SELECT 'day', usd, tokens FROM calls WHERE of_day
        ) GROUP BY kind
        """,
        {
            "run": run_id,
            "backfill": backfill_id,
            "midnight": midnight,
            "last": midnight + timedelta(days=1, microseconds=-1),
        },
    )
    found = {kind: Amount(round(usd, 9), tokens) for kind, usd, tokens in rows.iter_rows()}
    return {
        "run": found.get("run", Amount()),
        "day": found.get("day", Amount()),
        "backfill": found.get("backfill", Amount()),
    }
