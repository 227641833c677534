"""The requests of a JSON Lines file by litellm: concurrent `acompletion` calls, each label parsed, nothing stored.

Its faster settings: 256 workers in one loop, a price given so that none is looked up, no logging callbacks, no retries.
The route is litellm's provider prefix: openai (through the openai SDK), hosted_vllm (its own client on aiohttp), or
aiohttp_openai (barer still; its answers come without token counts).
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import litellm

url, requests_file, concurrency, route = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
litellm.suppress_debug_info = True


async def label(requests: list[dict[str, Any]]) -> tuple[dict[str, str], int]:
    """Label by id, and how many answers came with a count of tokens."""
    labels, counted = {}, 0
    queue = iter(requests)

    async def work() -> None:
        nonlocal counted
        for request in queue:
            body = dict(request["body"])
            reply: Any = await litellm.acompletion(
                model=f"{route}/{body.pop('model')}",
                api_base=url,
                api_key="none",
                num_retries=0,
                input_cost_per_token=0.0000025,
                output_cost_per_token=0.00001,
                **{"no-log": True},
                **body,
            )
            labels[request["id"]] = json.loads(reply.choices[0].message.content)["label"]
            counted += bool(getattr(reply, "usage", None) and reply.usage.total_tokens)

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return labels, counted


if __name__ == "__main__":
    requests = [json.loads(line) for line in requests_file.read_text(encoding="utf-8").splitlines()]
    start, cpu = time.perf_counter(), time.process_time()
    labels, counted = asyncio.run(label(requests))
    print(
        json.dumps(
            {
                "labelled": len(labels),
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - cpu,
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "with_tokens": counted,
            }
        )
    )
