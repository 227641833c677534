"""The project's partitions as Dagster knows them."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg

from annotation_pipelines.project import Partitions


def partitions_definition(partitions: Partitions) -> dg.PartitionsDefinition[str] | None:
    """Dagster's definition of the declared partitions; None without any. Weeks begin on Monday."""
    if partitions.every == "none":
        return None
    assert partitions.start
    common = {
        "timezone": partitions.timezone,
        "end_offset": 1 if partitions.include_current else 0,
        "end_date": datetime(*partitions.end.timetuple()[:3]) if partitions.end else None,
    }
    start = partitions.start
    match partitions.every:
        case "hour":
            return dg.HourlyPartitionsDefinition(start_date=datetime(*start.timetuple()[:3]), **common)
        case "day":
            return dg.DailyPartitionsDefinition(start_date=datetime(*start.timetuple()[:3]), **common)
        case "week":
            monday = start - timedelta(days=start.weekday())
            return dg.WeeklyPartitionsDefinition(start_date=datetime(*monday.timetuple()[:3]), day_offset=1, **common)
        case "month":
            return dg.MonthlyPartitionsDefinition(start_date=datetime(start.year, start.month, 1), **common)
