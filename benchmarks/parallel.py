"""Eight partition runs at once on one database: parallel_partitions_failed."""

from __future__ import annotations

import subprocess
import time

from _common import COMMAND, environment, figure, workspace_copy

WEEKS = [f"2020-{day}" for day in ("03-02", "03-09", "03-16", "03-23", "03-30", "04-06", "04-13", "04-20")]

if __name__ == "__main__":
    with workspace_copy() as folder:
        start = time.perf_counter()
        runs = [
            subprocess.Popen(
                [COMMAND, "run", "ml_projects", "--partition", week, "--no-train"],
                cwd=folder,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for week in WEEKS
        ]
        ended = [run.communicate()[1] for run in runs]
        failed = [error.strip()[-200:] for run, error in zip(runs, ended, strict=True) if run.returncode]
        figure(
            "parallel_partitions_failed",
            len(failed),
            "runs",
            runs=len(runs),
            seconds=round(time.perf_counter() - start, 1),
            errors=failed,
        )
