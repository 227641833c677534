"""Responses with scores, for reward models: prompt, response, score.

A rating scores the record (its last part is the response, the others are the prompt); a preference scores both
responses, 1 for the better one and 0 for the other, 0.5 each where they are equal, as in the Bradley-Terry model; a
critique scores the response that it is about.
"""

from __future__ import annotations

import json

from annotation_pipelines.exports.formats import Column, Entry, Format
from annotation_pipelines.exports.responses import prompt_of, responses_of
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.preference import FIRST, SECOND, TIE, PreferenceTask
from annotation_pipelines.tasks.rating import RatingTask

_GAIN = {FIRST: 1.0, TIE: 0.5, SECOND: 0.0}


class Reward(Format):
    """{"prompt": ..., "response": ..., "score": ...}"""

    @property
    def columns(self) -> list[Column]:
        """prompt, response, score."""
        task = self.task
        meaning = "the critique's score of the response as it stands"
        if isinstance(task, RatingTask):
            low, high = task.ends
            named = f": the place on the scale {', '.join(task.anchors)}, from 0" if task.anchors and low == 0 else ""
            meaning = f"the rating, from {low:g} to {high:g}{named}"
        elif isinstance(task, PreferenceTask):
            meaning = "1 for the better response, 0 for the other, 0.5 for both where neither is better"
            if task.criteria:
                meaning += "; the mean over the criteria"
        return [
            Column("prompt", "string", "what the response answers; empty where the record is the response alone"),
            Column("response", "string", "what is scored"),
            Column("score", "float", meaning),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One entry a response."""
        task, content = self.task, row.content
        if isinstance(task, PreferenceTask):
            gains = [_GAIN[answer] for answer in task.by_criterion(row.label).values()]
            first = sum(gains) / len(gains)
            prompt = prompt_of(content, responses_of(self.project, content))
            return [
                {"prompt": prompt, "response": content[task.first], "score": first},
                {"prompt": prompt, "response": content[task.second], "score": 1 - first},
            ]
        (response,) = responses_of(self.project, content)
        score = task.position(row.label) if isinstance(task, RatingTask) else json.loads(row.label)["score"]
        return [{"prompt": prompt_of(content, [response]), "response": content[response], "score": float(score)}]
