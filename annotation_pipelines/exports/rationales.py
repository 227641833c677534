"""Labels with the reasons for them, for distilling step by step (Hsieh et al. 2023, arXiv 2305.02301).

There a small model learns two tasks from one input: to give the label, and to give the rationale.
"""

from __future__ import annotations

from annotation_pipelines.exports.formats import Column, Entry, Format, LeftOut
from annotation_pipelines.exports.rows import Row

NO_RATIONALE = "there is no rationale for this label"


class Rationales(Format):
    """{"input": ..., "label": ..., "rationale": ...}"""

    @property
    def columns(self) -> list[Column]:
        """input, label, rationale."""
        return [
            Column("input", "string", "the record as one text"),
            Column("label", "string", "the label, in its canonical form"),
            Column("rationale", "string", "the annotator's reasons for it"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One entry a row with reasons for its very label: people's labels have none of their own."""
        if not row.rationale:
            raise LeftOut(NO_RATIONALE)
        return [{"input": row.text, "label": row.label, "rationale": row.rationale}]
