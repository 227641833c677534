"""What keeps records, people and money safe: injection, personal data, budgets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, number_only


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
        return number_only(value)
