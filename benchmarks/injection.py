"""What the defences against instructions in records are worth, and what they cost.

hijack_share: of the red team's records those that end with the attacker's label, by defence and by how a gullible
model obeys; the whole engine over HTTP. The row `fixed tags` is what the numbers of the fence's tags are worth.
injection_prompt_characters, injection_answer_characters: what a defence adds to the average request and answer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from _common import figure

from annotation_pipelines.project import Injection
from tests.gullible import LEVELS, Level
from tests.injection_trial import Outcome, attacked

DEFENCES = {
    "fence": Injection(),
    "fence and canary": Injection(canary=True),
    "fence and aliases": Injection(aliases=True),
    "all": Injection(canary=True, aliases=True),
}


def trial(injection: Injection, level: Level, *, fixed_tags: bool = False) -> Outcome:
    """The red team in a store that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        return attacked(Path(folder), injection, level, fixed_tags=fixed_tags)


def share(outcome: Outcome, defence: str, level: Level) -> None:
    """Print what came of a trial."""
    figure(
        "hijack_share",
        round(outcome.hijack_share, 3),
        "of records",
        defence=defence,
        model=level,
        records=outcome.attacks,
        states=dict(outcome.states),
    )


if __name__ == "__main__":
    unrepaired: dict[str, Outcome] = {}
    for level in LEVELS:
        for name, injection in DEFENCES.items():
            outcome = trial(injection, level)
            share(outcome, name, level)
            if level == "spirit":  # nothing is repaired: each record is one request
                unrepaired[name] = outcome
    share(trial(Injection(), "outside", fixed_tags=True), "fixed tags", "outside")
    plain = unrepaired.pop("fence")
    for name, outcome in unrepaired.items():
        read = (outcome.prompt_characters - plain.prompt_characters) / plain.attacks
        written = (outcome.answer_characters - plain.answer_characters) / plain.attacks
        figure("injection_prompt_characters", round(read, 1), "characters a request", defence=name)
        figure("injection_answer_characters", round(written, 1), "characters an answer", defence=name)
