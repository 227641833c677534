"""What requests that are not sent yet will take: learned from earlier replies of the same annotator, else assumed."""

from __future__ import annotations

from dataclasses import dataclass

from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.project import OpenAIAnnotator, Price
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.ledger import SERVED_AGAIN

ASSUMED_TOKENS_PER_BYTE = 0.25
"""Of plain English."""

ASSUMED_ANSWER_TOKENS = 24
"""Of an answer with a label and a confidence."""

ASSUMED_RATIONALE_TOKENS = 160
"""Of an answer that gives its reasons first."""

LATEST_REPLIES = 20_000
"""So many replies are learned from, the latest ones."""


@dataclass(frozen=True)
class Experience:
    """What the latest replies of an annotator took.

    Attributes:
        replies: Those with counts of tokens.
        asks: Of these, replies to first questions; the others are further samples and repairs.
        prompt_tokens: Of all of them.
        cached_tokens: Of the tokens read, those that the endpoint had cached.
        completion_tokens: Of all of them.
        comparable: First questions under the present declaration, about records that have not changed since.
        comparable_prompt_tokens: Of those.
        comparable_content_bytes: Of their records.
    """

    replies: int = 0
    asks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    comparable: int = 0
    comparable_prompt_tokens: int = 0
    comparable_content_bytes: int = 0


@dataclass(frozen=True)
class Forecast:
    """An estimate, not a bound.

    Attributes:
        calls: Replies to buy, repairs and further samples included.
        cost_usd: None where the price is unknown.
        words: What the estimate rests on.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    words: str

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.completion_tokens


def experience(store: Store, annotator: str, fingerprint: str) -> Experience:
    """What the ledger says of an annotator.

    Args:
        annotator: Its name.
        fingerprint: Of the present declaration: only prompts made under it tell how long its prompts are.
    """
    row = store.query(
        f"""
        WITH replies AS (
            SELECT request_key, record_id, content_hash, coalesce(purpose, 'ask') = 'ask' AS ask,
                   prompt_tokens, completion_tokens, coalesce(cached_tokens, 0) AS cached_tokens
            FROM llm_calls
            WHERE annotator = $annotator AND status IN {SERVED_AGAIN}
                  AND prompt_tokens IS NOT NULL AND completion_tokens IS NOT NULL
            ORDER BY called_at DESC LIMIT {LATEST_REPLIES}
        ),
        present AS (
            SELECT request_key FROM llm_labels WHERE annotator = $annotator AND fingerprint = $fingerprint
            UNION SELECT request_key FROM llm_votes WHERE annotator = $annotator AND fingerprint = $fingerprint
        ),
        comparable AS (
            SELECT prompt_tokens, strlen(content) AS content_bytes
            FROM replies JOIN records USING (record_id, content_hash)
            WHERE ask AND request_key IN (SELECT request_key FROM present)
        )
        SELECT count(*), count(*) FILTER (ask), coalesce(sum(prompt_tokens), 0)::BIGINT,
               coalesce(sum(cached_tokens), 0)::BIGINT, coalesce(sum(completion_tokens), 0)::BIGINT,
               (SELECT count(*) FROM comparable),
               (SELECT coalesce(sum(prompt_tokens), 0)::BIGINT FROM comparable),
               (SELECT coalesce(sum(content_bytes), 0)::BIGINT FROM comparable)
        FROM replies
        """,
        {"annotator": annotator, "fingerprint": fingerprint},
    ).row(0)
    return Experience(*row)


def forecast(
    settings: OpenAIAnnotator,
    price: Price | None,
    known: Experience,
    *,
    requests: int,
    prompt_bytes: int,
    content_bytes: int,
    answer_tokens: int | None = None,
) -> Forecast:
    """What the first requests about some records will take, with what follows them.

    Args:
        known: What earlier replies took.
        requests: How many.
        prompt_bytes: Of the messages of all of them.
        content_bytes: Of the records in them.
        answer_tokens: What an answer takes without reasons, as long as no reply says so; default: a label's few.
    """
    words = []
    ratio = ASSUMED_TOKENS_PER_BYTE
    # The ledger does not keep prompts: beside its record, each is taken to be as long as the present ones.
    fixed = (prompt_bytes - content_bytes) / requests if requests else 0.0
    compared_bytes = known.comparable_content_bytes + known.comparable * fixed
    if known.comparable and compared_bytes > 0:
        ratio = known.comparable_prompt_tokens / compared_bytes
        words.append(f"{ratio:.2f} tokens for a byte of prompt, as in {_replies(known.comparable)}")
    else:
        words.append(f"assumed: {ratio:.2f} tokens for a byte of prompt")
    if known.replies:
        answer = known.completion_tokens / known.replies
        words.append(f"{answer:.0f} tokens an answer, as in {_replies(known.replies)}")
    else:
        answer = float(min(settings.answer_tokens, _assumed_answer(settings, answer_tokens)) * settings.samples)
        words.append(f"assumed: {answer:.0f} tokens an answer")
    following = known.replies / known.asks if known.asks else 1.0
    if following > 1:
        words.append(f"{following:.2f} calls a record, as in the same")
    calls = round(requests * following)
    prompt_tokens = round(prompt_bytes * ratio * following)
    completion_tokens = round(calls * answer)
    batch = settings.mode != "live"
    cached = 0 if batch or not known.prompt_tokens else known.cached_tokens / known.prompt_tokens
    dollars = cost(
        price,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=round(prompt_tokens * cached),
        batch=batch,
    )
    if price is None:
        words.append("the price is not known")
    elif cached:
        words.append(f"{cached:.0%} of the prompts cached, likewise")
    return Forecast(calls, prompt_tokens, completion_tokens, dollars, "; ".join(words))


def total(forecasts: list[Forecast]) -> Forecast:
    """What several annotators will take together; money is unknown as soon as one's is."""
    costs = [forecast.cost_usd for forecast in forecasts]
    return Forecast(
        calls=sum(f.calls for f in forecasts),
        prompt_tokens=sum(f.prompt_tokens for f in forecasts),
        completion_tokens=sum(f.completion_tokens for f in forecasts),
        cost_usd=None if None in costs else sum(dollars or 0.0 for dollars in costs),
        words=" | ".join(dict.fromkeys(f.words for f in forecasts)),
    )


def _assumed_answer(settings: OpenAIAnnotator, answer_tokens: int | None) -> int:
    assumed = ASSUMED_RATIONALE_TOKENS if settings.rationale else ASSUMED_ANSWER_TOKENS
    return assumed + (answer_tokens or 0)


def _replies(count: int) -> str:
    return f"{count:,} {'reply' if count == 1 else 'replies'}"
