"""The requests of a JSON Lines file by distilabel: a pipeline of one `ChatGeneration` on `OpenAILLM`, no cache.

Two replicas of the step, each with batches as large as the concurrency: of those tried (1, 2 and 4 replicas, batches of
64 to 512) the fastest on two cores. The time is that of `Pipeline.run`, the start of its processes included, which
cannot be had without.
"""

import json
import resource
import sys
import time
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepResources
from distilabel.steps.tasks import ChatGeneration

if __name__ == "__main__":
    url, requests_file, concurrency = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    requests = [json.loads(line) for line in requests_file.read_text(encoding="utf-8").splitlines()]
    body = requests[0]["body"]
    rows = [{"id": request["id"], "messages": request["body"]["messages"]} for request in requests]
    start = time.perf_counter()
    with Pipeline("labels") as pipeline:
        model = OpenAILLM(
            model=body["model"],
            base_url=url,
            api_key="none",
            generation_kwargs={
                "temperature": body["temperature"],
                "max_new_tokens": body["max_tokens"],
                "extra_body": {"response_format": body["response_format"]},
            },
        )
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        ask = ChatGeneration(
            llm=model,
            input_batch_size=concurrency,
            add_raw_output=False,
            add_raw_input=False,
            resources=StepResources(replicas=2),
        )
        load >> ask
    done = pipeline.run(use_cache=False)["default"]["train"]
    labels = {key: json.loads(reply)["label"] for key, reply in zip(done["id"], done["generation"], strict=True)}
    seconds = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "labelled": len(labels),
                "seconds": seconds,
                "cpu_seconds": sum(each.ru_utime + each.ru_stime for each in used),
                "memory_mb": max(each.ru_maxrss for each in used) / 1024,
            }
        )
    )
