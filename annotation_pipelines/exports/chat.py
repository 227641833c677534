"""Chat messages for supervised fine-tuning, as OpenAI and TRL read them.

A row is the very conversation that an annotator behind an endpoint has about a record, without demonstrations: so a
model that was tuned on it can take the annotator's place. Of a generation task the rows are what was generated: a task
and its output, a dialogue, or a text and its label.

OpenAI: https://platform.openai.com/docs/guides/supervised-fine-tuning; TRL: the conversational format of
https://huggingface.co/docs/trl/dataset_formats
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from annotation_pipelines.annotators.factory import system_template
from annotation_pipelines.annotators.prompts import Message, Prompts
from annotation_pipelines.exports.formats import Column, Entry, Format, LeftOut
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.project import Injection
from annotation_pipelines.tasks.base import Invalid

THIRD_ROLE = "a dialogue of more than two roles has no user and assistant"
NO_EXCHANGE = "a dialogue without a turn of the user that is answered"
UNWRITABLE = "the label cannot be written as an answer"


class Chat(Format):
    """{"messages": [{"role": "system", "content": ...}, {"role": "user", ...}, {"role": "assistant", ...}]}"""

    @property
    def columns(self) -> list[Column]:
        """The messages, and nothing else: OpenAI refuses further keys."""
        return [
            Column(
                "messages",
                "list of {role: string, content: string}",
                "system (the task, where there is one), user (the record) and assistant (the answer as JSON)"
                if self.task.kind != "generation"
                else "what was generated, as a conversation of user and assistant",
            )
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One conversation a row; of what was generated one an entry."""
        if self.task.kind == "generation":
            return [{"messages": self._generated(entry)} for entry in json.loads(row.label)["generated"]]
        stored = row.content.stored
        try:
            _, answer = self._prompts.demonstration(stored, row.label)
        except Invalid:
            raise LeftOut(UNWRITABLE) from None
        # Where the annotator is shown some labels with each record, a tuned model is shown all: no selection is needed.
        asked = self._prompts.record(stored, list(self.task.labels))
        return [{"messages": [self._prompts.system, asked, answer]}]

    @cached_property
    def _prompts(self) -> Prompts:
        return Prompts(
            self.task,
            self.project.guideline,
            template=system_template(self.project),
            confidence=False,
            rationale=False,
            injection=Injection(),
        )

    def _generated(self, entry: dict[str, Any]) -> list[Message]:
        if "turns" in entry:
            return self._dialogue(entry["turns"])
        if "instruction" in entry:
            asked = "\n\n".join(text for text in (entry["instruction"], entry["input"]) if text)
            return _exchange(asked, entry["output"])
        labels = ", ".join(json.dumps(label, ensure_ascii=False) for label in self.task.labels)
        system = f"Say which of these labels the text has: {labels}."
        return [{"role": "system", "content": system}, *_exchange(entry["text"], entry["label"])]

    def _dialogue(self, turns: list[dict[str, str]]) -> list[Message]:
        """The first declared role is the user, the second the assistant; it ends with an answer.

        What the assistant says before the user does, and what the user says at last, is cut; turns of one role that
        follow one another are joined.
        """
        roles: list[str] = self.task.mode.roles  # type: ignore[attr-defined]
        if len(roles) != 2:
            raise LeftOut(THIRD_ROLE)
        names = {roles[0]: "user", roles[1]: "assistant"}
        messages: list[Message] = []
        for turn in turns:
            role, content = names[turn["role"]], turn["content"]
            if messages and messages[-1]["role"] == role:
                messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{content}"}
            else:
                messages.append({"role": role, "content": content})
        if messages and messages[0]["role"] == "assistant":
            messages = messages[1:]
        if messages and messages[-1]["role"] == "user":
            messages = messages[:-1]
        if not messages:
            raise LeftOut(NO_EXCHANGE)
        return messages


def _exchange(asked: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
