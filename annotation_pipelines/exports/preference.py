"""Pairs of a chosen and a rejected response, as TRL's DPO trainer reads them.

The conversational form with an explicit prompt of https://huggingface.co/docs/trl/dataset_formats#preference, so that
the trainer applies the chat template of the model. A critique gives a pair, too: its revision is chosen over the
response that it criticises.
"""

from __future__ import annotations

import json
from collections import Counter

from annotation_pipelines.exports.formats import Column, Entry, Format, LeftOut
from annotation_pipelines.exports.responses import prompt_of, responses_of
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.preference import FIRST, SECOND, PreferenceTask

TIE = "a tie: neither response is chosen"
ALIKE = "both responses are the same"
EMPTY = "the chosen response is empty"


class Preference(Format):
    """{"prompt": [user message], "chosen": [assistant message], "rejected": [assistant message]}"""

    @property
    def columns(self) -> list[Column]:
        """prompt, chosen, rejected."""
        messages = "list of {role: string, content: string}"
        return [
            Column("prompt", messages, "what was asked, as one message of the user"),
            Column("chosen", messages, "the better response, as one message of the assistant"),
            Column("rejected", messages, "the other one; it may be empty"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One pair a row; by several criteria the response is chosen that is better by more of them."""
        chosen, rejected = self._pair(row)
        if chosen.strip() == rejected.strip():
            raise LeftOut(ALIKE)
        if not chosen.strip():
            raise LeftOut(EMPTY)
        prompt = prompt_of(row.content, responses_of(self.project, row.content))
        if not prompt:
            self.notes["pairs with an empty prompt"] += 1
        return [
            {
                "prompt": [{"role": "user", "content": prompt}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
            }
        ]

    def _pair(self, row: Row) -> tuple[str, str]:
        parts = responses_of(self.project, row.content)
        if not isinstance(self.task, PreferenceTask):
            return json.loads(row.label)["revision"], row.content[parts[0]]
        won = Counter(self.task.by_criterion(row.label).values())
        if won[FIRST] == won[SECOND]:
            raise LeftOut(TIE)
        first, second = row.content[parts[0]], row.content[parts[1]]
        return (first, second) if won[FIRST] > won[SECOND] else (second, first)
