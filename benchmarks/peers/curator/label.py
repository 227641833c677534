"""The requests of a JSON Lines file by bespokelabs-curator: one `LLM` over the whole data set, rate limits lifted.

Its own OpenAI backend (aiohttp, no SDK). The response format goes as a generation parameter, as other parameters do:
with a pydantic model curator would first ask the server to describe a person, and parse every reply twice. The time
begins when the data set is handed over, after imports and the making of the `LLM`, and ends with curator's data set.
"""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

from bespokelabs import curator

url, requests_file, concurrency = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
logging.getLogger("curator").setLevel(logging.ERROR)


class Labels(curator.LLM):
    """Asks what the file says, and keeps the label."""

    def prompt(self, row: dict[str, Any]) -> Any:
        """The messages, as they are."""
        return row["messages"]

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        """Id and label."""
        return {"id": row["id"], "label": json.loads(response)["label"]}


if __name__ == "__main__":
    requests = [json.loads(line) for line in requests_file.read_text(encoding="utf-8").splitlines()]
    parameters = dict(requests[0]["body"])
    del parameters["messages"]
    labels = Labels(
        model_name=parameters.pop("model"),
        backend="openai",
        generation_params=parameters,
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 100_000_000_000,
            "max_concurrent_requests": concurrency,
        },
    )
    rows = [{"id": request["id"], "messages": request["body"]["messages"]} for request in requests]
    start, cpu = time.perf_counter(), time.process_time()
    done = labels(rows).dataset
    print(
        json.dumps(
            {
                "labelled": sum(1 for label in done["label"] if label),
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - cpu,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
