"""The project's partitions as Dagster knows them."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any

import dagster as dg

from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Partitions


def partitions_definition(partitions: Partitions) -> dg.PartitionsDefinition[str] | None:
    """Dagster's definition of the declared partitions; None without any. Its keys are those of `Calendar`."""
    if partitions.every == "none":
        return None
    calendar = Calendar(partitions)
    assert calendar.first_day
    bounds: dict[str, Any] = {
        "start_date": datetime.combine(calendar.first_day, time()),
        "end_date": datetime.combine(calendar.end_day, time()) if calendar.end_day else None,
        "timezone": partitions.timezone,
        "end_offset": 1 if partitions.include_current else 0,
    }
    match partitions.every:
        case "hour":
            return dg.HourlyPartitionsDefinition(**bounds)
        case "day":
            return dg.DailyPartitionsDefinition(**bounds)
        case "week":
            return dg.WeeklyPartitionsDefinition(day_offset=1, **bounds)
        case "month":
            return dg.MonthlyPartitionsDefinition(**bounds)
