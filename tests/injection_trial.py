"""The red team against a gullible model, through the whole annotation engine: real HTTP, real journal, real store."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from annotation_pipelines.annotators.annotation import annotate
from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.project import Injection
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.registry import make_task
from tests.gullible import Gullible, Level
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.red_team import Attack, climate, red_team


@dataclass(frozen=True)
class Outcome:
    """How the attacked records ended.

    Attributes:
        hijacked: Those that ended with the label that the attacker wanted.
        states: How many ended in each state.
        prompt_characters: Characters of all messages, over all requests.
        answer_characters: Characters of all answers.
    """

    attacks: int
    hijacked: list[Attack]
    states: Counter[str]
    prompt_characters: int
    answer_characters: int

    @property
    def hijack_share(self) -> float:
        """The share of the records that were hijacked."""
        return len(self.hijacked) / self.attacks


def attacked(home: Path, injection: Injection, level: Level, *, fixed_tags: bool = False) -> Outcome:
    """Annotate the red team's records in a new store.

    Args:
        home: A folder for the store.
        fixed_tags: Whether the model overlooks the numbers of tags, as if every record stood between the same ones.
    """
    project, attacks = climate(), red_team()
    labels = project.declaration.task.classification.labels
    model = Gullible({attack.sentence: attack.recorded for attack in attacks}, labels, level, fixed_tags=fixed_tags)
    rows = [{"record_id": attack.id, "content_hash": attack.id, "content": attack.text} for attack in attacks]
    store = Store(home)
    answers: list[str] = []

    def obey(call: Call) -> Act:
        answers.append(model.answer(call.body))
        return completion(answers[-1])

    with MockEndpoint(obey) as mock:
        annotator = OpenAIAnnotator(
            Settings(model="gullible", base_url=mock.url),
            make_task(project.declaration.task),
            project.guideline,
            injection=injection,
        )
        annotate(store, annotator, Wanted.of_frame(pl.DataFrame(rows)), "all")
        characters = sum(len(m["content"]) for call in mock.calls for m in call.body["messages"])
    ended = dict(store.query("SELECT record_id, label FROM llm_labels").iter_rows())
    states = Counter(store.query("SELECT state FROM llm_labels")["state"].to_list())
    return Outcome(
        len(attacks), [a for a in attacks if ended[a.id] == a.target], states, characters, sum(map(len, answers))
    )
