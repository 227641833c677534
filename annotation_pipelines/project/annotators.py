"""Who annotates, what they may see and what they may spend."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text, number_only


class EmbeddedAnnotator(Part):
    """A sentence encoder on this machine: no server, no key, no cost.

    A record is compared with the description of each label and with its nearest demonstrations.
    """

    neighbours: int = Field(
        default=15, ge=1, description="How many of the nearest demonstrations vote; on sets of labels all of them do."
    )
    demonstration_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The share of the demonstrations' vote against the descriptions'.",
    )


class Price(Part):
    """US dollars for a million tokens."""

    input: float = Field(ge=0, description="For tokens read: the prompt.")
    output: float = Field(ge=0, description="For tokens written: the answer.")
    cached_input: float | None = Field(
        default=None, ge=0, description="For tokens read that the endpoint had cached; default: as input."
    )
    batch: float = Field(default=0.5, ge=0, le=1, description="The share of these prices that the batch API takes.")

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return number_only(value)


class Limits(Part):
    """What the endpoint allows a minute, where it is known. All runs on this machine share it."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, description="Default: learned from the endpoint's headers and refusals."
    )
    tokens_per_minute: int | None = Field(default=None, ge=1, description="Tokens read and written, likewise.")


class Batch(Part):
    """How the batch API is used: `mode: batch` or `auto`."""

    max_requests: int = Field(default=50_000, ge=1, description="The most requests of one batch.")
    max_megabytes: float = Field(default=150, gt=0, description="The largest input file; OpenAI takes 200 MB.")
    max_enqueued_tokens: int | None = Field(
        default=None,
        ge=1,
        description="The most prompt tokens in batches that are not done yet; the rest waits for the next run.",
    )
    late_after_hours: float = Field(
        default=24, gt=0, description="mode: auto cancels a batch after this time and asks the rest live."
    )


class OpenAIAnnotator(Part):
    """A model behind an OpenAI-compatible endpoint."""

    model: NonEmpty = Field(description="The model's name, as the endpoint knows it.")
    base_url: Text | None = Field(
        default=None,
        description="The endpoint; default: what the SDK takes (OPENAI_BASE_URL, or OpenAI's own).",
    )
    api_key_env: NonEmpty = Field(default="OPENAI_API_KEY", description="The environment variable that holds the key.")
    temperature: float | None = Field(
        default=0.0, ge=0, le=2, description="0 for the least random answers; null leaves it out of the request."
    )
    api: Literal["chat", "responses"] = Field(
        default="chat", description="Chat completions, which every server has, or OpenAI's Responses API."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="The most tokens of an answer; one that is cut off there is invalid. Default: 256, with "
        "`rationale` 1024; more for tasks with long answers.",
    )
    seed: int | None = Field(default=None, description="Sent with the request, where given.")
    rationale: StrictBool = Field(
        default=False, description="Chain of thought: whether the model gives its reasons before the label."
    )
    samples: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Self-consistency: so many answers to each request, of which the most frequent counts. Needs a "
        "temperature above 0.",
    )
    confidence: Literal["stated", "votes", "logprobs", "none"] | None = Field(
        default=None,
        description="stated: the model is asked how sure it is, from 0 to 1; votes: the share of the samples that "
        "agree; logprobs: the probability of the label's tokens, where the endpoint gives it; none. Default: votes "
        "with several samples, otherwise stated.",
    )
    repairs: int = Field(
        default=1,
        ge=0,
        le=5,
        description="How often an invalid answer is asked again, with what was wrong with it.",
    )
    concurrency: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="The most requests in flight at once, of all runs on this machine together. It starts lower, grows "
        "while the endpoint keeps up, and shrinks when it is overloaded.",
    )
    timeout: float = Field(default=60, gt=0, description="Seconds for one request, all of it.")
    max_retries: int = Field(
        default=4, ge=0, le=20, description="Tries after a transport error, a timeout or a 5xx, with growing pauses."
    )
    patience: float = Field(
        default=600,
        gt=0,
        description="Seconds without a single answer, for rate limits or an outage, after which records end as failed.",
    )
    limits: Limits = Limits()
    mode: Literal["live", "batch", "auto"] = Field(
        default="live",
        description="live: one request after the other; batch: the batch API, at half the price and within a day; "
        "auto: batch, and live for what is late.",
    )
    batch: Batch = Batch()
    price: Price | None = Field(
        default=None,
        description="Default: from the price table, where it has the endpoint and model. An unknown price is unknown, "
        "not zero.",
    )
    extra_body: dict[str, Any] = Field(default_factory=dict, description="Further fields of the request.")

    @model_validator(mode="after")
    def _samples(self) -> OpenAIAnnotator:
        if self.samples > 1 and not self.temperature and self.temperature is not None:
            raise ValueError("samples: several answers at temperature 0 are the same: set temperature, such as 0.7")
        if self.confidence == "votes" and self.samples == 1:
            raise ValueError("confidence: votes needs samples: how many answers vote")
        if self.api == "responses" and (self.confidence == "logprobs" or self.mode != "live"):
            raise ValueError("api: responses serves neither confidence: logprobs nor the batch API here: use api: chat")
        return self

    @property
    def confidence_from(self) -> Literal["stated", "votes", "logprobs", "none"]:
        """Where confidence comes from, the default resolved."""
        return self.confidence or ("votes" if self.samples > 1 else "stated")

    @property
    def answer_tokens(self) -> int:
        """The most tokens of an answer, the default resolved."""
        return self.max_tokens or (1024 if self.rationale else 256)


def bare_annotator(value: object) -> object:
    return {value: {}} if isinstance(value, str) else value


class Annotator(Part):
    """Who annotates: exactly one of embedded, openai."""

    embedded: EmbeddedAnnotator | None = None
    openai: OpenAIAnnotator | None = None
    name: NonEmpty | None = Field(
        default=None, description="How tables and the UI call it; default: embedded, or openai:MODEL."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Annotator:
        found = [k for k in ("embedded", "openai") if getattr(self, k) is not None]
        if len(found) != 1:
            raise ValueError(f"expected exactly one of embedded, openai, found {' and '.join(found) or 'neither'}")
        return self

    @property
    def called(self) -> str:
        """The name, the default resolved."""
        return self.name or (f"openai:{self.openai.model}" if self.openai else "embedded")


class Panel(Part):
    """How several annotators make one label."""

    combine: Literal["jury", "cascade"] = Field(
        default="jury",
        description="jury: all are asked, and their votes are counted; cascade: the first is asked, and each further "
        "one only about records of which those before were not sure.",
    )
    min_confidence: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="cascade: a label with at least this confidence is kept. One without confidence is not.",
    )
    weights: dict[Text, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="jury: the weight of an annotator's vote, by its name; default: 1."
    )
