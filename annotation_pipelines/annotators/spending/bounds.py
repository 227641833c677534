"""What a request may use at most, before anybody knows what it uses. Pure."""

from __future__ import annotations

import math

from annotation_pipelines.annotators.spending.budget import Amount
from annotation_pipelines.project import Price

FIRST_TOKENS_PER_BYTE = 0.5
"""What a byte of a prompt may take before replies have shown it: twice what plain English takes."""

LEAST_TOKENS_PER_BYTE = 0.125

MARGIN = 1.1
"""On the most tokens for a byte that replies have shown."""

REPLIES_TO_LEARN = 8
"""Fewer replies do not lower what a byte may take."""


class Bounds:
    """Upper bounds for the requests of one run to one model, which learn from its replies.

    A tokenizer gives at most a token for a byte, and far fewer for text. The size of the messages stands for the whole
    prompt: what else the endpoint counts, such as a schema, is in the ratio that is learned.

    Args:
        price: None where it is unknown: bounds have no money then.
    """

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self._largest, self._replies = 0.0, 0

    @property
    def tokens_per_byte(self) -> float:
        """The most tokens that a byte of a prompt may take, as it looks now."""
        learned = max(LEAST_TOKENS_PER_BYTE, self._largest * MARGIN)
        return learned if self._replies >= REPLIES_TO_LEARN else max(learned, FIRST_TOKENS_PER_BYTE)

    def learn(self, prompt_bytes: int, prompt_tokens: int) -> None:
        """Take in how many tokens the endpoint counted for a prompt."""
        if prompt_bytes > 0:
            self._replies += 1
            self._largest = max(self._largest, prompt_tokens / prompt_bytes)

    def bound(self, prompt_bytes: int, completion_tokens: int, *, batch: bool = False) -> Amount:
        """What a request may use: money is rounded up to a billionth of a dollar.

        Args:
            prompt_bytes: Of its messages.
            completion_tokens: The most that it lets the model write.
            batch: Whether it goes by the batch API.
        """
        prompt_tokens = math.ceil(prompt_bytes * self.tokens_per_byte)
        tokens, price = prompt_tokens + completion_tokens, self._price
        if price is None:
            return Amount(None, tokens)
        read = max(price.input, price.cached_input or 0.0)
        dollars = (prompt_tokens * read + completion_tokens * price.output) * (price.batch if batch else 1.0) / 1e6
        return Amount(math.ceil(dollars * 1e9) / 1e9, tokens)
