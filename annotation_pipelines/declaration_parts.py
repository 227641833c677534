"""What every part of a declaration is made of: its base class, and scalar types that YAML cannot confuse."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def text_only(value: object) -> object:
    if isinstance(value, bool | int | float | date):
        raise ValueError(
            f"expected text, found {value!r} ({type(value).__name__}): YAML reads unquoted yes, no, on, off, numbers "
            'and dates as other types. Write it in quotes, as in "yes"'
        )
    return value


def number_only(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {value!r}: YAML reads unquoted yes, no, on and off so")
    return value


def date_only(value: object) -> object:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"expected a date as YYYY-MM-DD, found {value!r}") from None
    return value


Text = Annotated[str, BeforeValidator(text_only)]
NonEmpty = Annotated[str, BeforeValidator(text_only), Field(min_length=1)]
Day = Annotated[date, BeforeValidator(date_only)]


class Part(BaseModel):
    """A part of the declaration: no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
