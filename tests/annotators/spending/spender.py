"""A process that spends until its purse says no, writing down what an endpoint would have billed.

python -m tests.annotators.spending.spender HOME BILL BUDGET_JSON SEED [hold]
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.errors import BudgetSpent
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.store.database import Store

PRICE = Price(input=2, output=8)
PROMPT_BYTES, ANSWER_TOKENS, AT_ONCE = 1000, 100, 8


async def _spend(purse: Purse, bill: int, draw: random.Random) -> None:
    while True:
        try:
            reservation = await purse.reserve(PROMPT_BYTES, ANSWER_TOKENS)
        except BudgetSpent:
            return
        # At most 1.087 times as many tokens as another: bounds that are learned from any reply hold.
        used = {"prompt_tokens": draw.randint(230, 250), "completion_tokens": draw.randint(1, ANSWER_TOKENS)}
        dollars = cost(PRICE, **used) or 0.0
        os.write(bill, b"%.9f %d\n" % (dollars, sum(used.values())))
        await asyncio.sleep(draw.random() * 0.004)
        purse.settle(reservation, **used, cost_usd=dollars)


async def main() -> None:
    home, bill_file, budget, seed, *hold = sys.argv[1:]
    purse = Purse.open(
        Store(Path(home)),
        Budget(**json.loads(budget)),
        run_id=f"run{seed}",
        backfill_id=None,
        price=PRICE,
        where="here",
    )
    bill = os.open(bill_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if hold:
        for _ in range(5):
            reservation = await purse.reserve(PROMPT_BYTES, ANSWER_TOKENS)
        print(json.dumps([reservation.bound.usd, reservation.bound.tokens]), flush=True)
        time.sleep(60)
    print("ready", flush=True)
    sys.stdin.readline()
    with purse:
        draw = random.Random(seed)
        await asyncio.gather(*(_spend(purse, bill, draw) for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main())
