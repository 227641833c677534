"""Instructions in records: what the defences keep from becoming a label, and what they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation_pipelines.project import Injection
from tests.gullible import Gullible
from tests.injection_trial import attacked
from tests.red_team import climate, recorded_labels, red_team

FENCE_ONLY = Injection()
CANARY = Injection(canary=True)
ALIASES = Injection(aliases=True)
ALL = Injection(canary=True, aliases=True)


def test_the_red_team_has_more_than_two_hundred_records_that_aim_at_a_wrong_label() -> None:
    attacks = red_team()
    assert len({attack.text for attack in attacks}) == len({attack.id for attack in attacks}) == len(attacks) >= 240
    assert len({attack.style for attack in attacks}) >= 15
    assert all(attack.target != attack.recorded and attack.sentence in attack.text for attack in attacks)
    assert {attack.target for attack in attacks} == set(climate().declaration.task.classification.labels)


def test_the_gullible_model_answers_a_plain_sentence_as_recorded() -> None:
    recorded = recorded_labels()
    labels = climate().declaration.task.classification.labels
    for level in ("verbatim", "literal", "spirit", "outside"):
        model = Gullible(recorded, labels, level)
        for sentence, label in list(recorded.items())[:200]:
            body = {"messages": [{"role": "user", "content": f"<record>\n{sentence}\n</record>"}]}
            assert model.answer(body) == f'{{"label": "{label}"}}'


@pytest.mark.parametrize("level", ["verbatim", "literal", "spirit"])
def test_without_a_canary_and_aliases_a_gullible_model_is_hijacked(tmp_path: Path, level: str) -> None:
    outcome = attacked(tmp_path, FENCE_ONLY, level)
    assert outcome.hijack_share > 0.9


@pytest.mark.parametrize(
    ("injection", "level"),
    [(CANARY, "verbatim"), (ALIASES, "verbatim"), (ALL, "verbatim"), (ALIASES, "literal"), (ALL, "literal")],
)
def test_with_them_no_dictated_answer_and_no_named_label_becomes_a_label(
    tmp_path: Path, injection: Injection, level: str
) -> None:
    outcome = attacked(tmp_path, injection, level)
    assert outcome.hijacked == []
    assert outcome.states["invalid"] + outcome.states["labelled"] == outcome.attacks == outcome.states.total()


@pytest.mark.parametrize("injection", [CANARY, ALL])
def test_a_model_that_understands_what_is_wanted_and_obeys_is_not_stopped(tmp_path: Path, injection: Injection) -> None:
    assert attacked(tmp_path, injection, "spirit").hijack_share > 0.9


def test_no_record_gets_a_word_out_of_its_fence_and_with_tags_that_never_change_some_do(tmp_path: Path) -> None:
    assert attacked(tmp_path / "fence", FENCE_ONLY, "outside").hijacked == []
    through = attacked(tmp_path / "fixed", FENCE_ONLY, "outside", fixed_tags=True)
    assert {attack.style for attack in through.hijacked} >= {"fence_closing"}
