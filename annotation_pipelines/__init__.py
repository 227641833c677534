"""Scheduled data annotation by large language models, as software-defined assets on Dagster.

`AnnotationProject` is the Dagster component; it is imported when first asked for, so that the library works, and
loads fast, without Dagster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annotation_pipelines.component import AnnotationProject

__all__ = ["AnnotationProject"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "AnnotationProject":
        from annotation_pipelines.component import AnnotationProject

        return AnnotationProject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
