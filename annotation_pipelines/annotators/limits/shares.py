"""Max-min fair shares of a number of slots."""

from __future__ import annotations

from collections.abc import Sequence


def fair_shares(demands: Sequence[int], capacity: int) -> list[int]:
    """How many slots each gets: all it demands, or as many as any other that gets less than it demands.

    What cannot be divided goes to the first ones.
    """
    shares = [0] * len(demands)
    left = max(capacity, 0)
    hungry = [index for index, demand in enumerate(demands) if demand > 0]
    while hungry and left:
        each = left // len(hungry)
        if not each:
            for index in hungry[:left]:
                shares[index] += 1
            break
        for index in hungry:
            more = min(each, demands[index] - shares[index])
            shares[index] += more
            left -= more
        hungry = [index for index in hungry if shares[index] < demands[index]]
    return shares
