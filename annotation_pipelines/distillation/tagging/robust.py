"""What silver labels teach a tagger, made robust: every switch of `distillation: robust`, for each unit by itself.

A silver label is seldom wrong in all of its words. So what is known, corrected, pruned and weighed is the tag of a unit
(as LLMaAA weighs tokens), and the type of an entity; gold is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.robust.noise import Answers, TeacherNoise, estimate
from annotation_pipelines.distillation.robust.pruning import find_label_errors
from annotation_pipelines.distillation.robust.reweighting import learned_weights
from annotation_pipelines.distillation.tagging.held_out import held_out
from annotation_pipelines.distillation.tagging.paths import TAGS
from annotation_pipelines.distillation.tagging.span_tagger import SPAN_SCALES, Lessons
from annotation_pipelines.distillation.tagging.text_units import taught
from annotation_pipelines.distillation.tagging.words import Words
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Robust
from annotation_pipelines.tasks.spans import TypedSpan

Array = NDArray[np.float64]
Figures = dict[str, float | int | str | None]

_AWAY = 0.1
"""Units whose learned weight is less than that are counted: in some batches almost every unit helps a little."""
_SURE = 0.98
"""How far a teacher is taken by its word about one unit, or one type, before anything is known."""


@dataclass(frozen=True)
class Audited:
    """A text with people's entities and the teacher's."""

    text: str
    people: Sequence[TypedSpan]
    teacher: Sequence[TypedSpan]


def check_robust(config: Robust) -> None:
    """See that what is declared can be done for entities.

    Raises:
        DeclarationError: It cannot.
    """
    if config.soft_labels not in ("none", "corrected"):
        raise DeclarationError(
            f"soft_labels: {config.soft_labels} does not apply to task: entities, which has no closed set of labels to "
            "spread a label over",
            where="distillation: robust",
            todo="Choose corrected, which goes by how the teacher errs on gold, or none",
        )
    if config.co_teaching:
        raise DeclarationError(
            "co_teaching does not apply to task: entities: what is easy there is what stands outside of all entities, "
            "and to forget the rest is to forget the entities",
            where="distillation: robust",
            todo="Take co_teaching out, or choose reweight or prune instead",
        )


def robust_lessons(
    lessons: Lessons,
    gold: NDArray[np.bool_],
    groups: Sequence[str],
    audit: Sequence[Audited],
    config: Robust,
    seed: int,
) -> tuple[Lessons, Figures]:
    """Lessons with the targets and weights that the declaration asks for.

    Args:
        gold: Shape (n,): of which texts people gave the entities.
        groups: Texts of one group, copies of one another, are left out together where some are left out.
        audit: What the teacher says of gold texts.
        seed: Of all that is drawn.

    Returns:
        The lessons, and what was done, by name.
    """
    figures: Figures = {}
    units = np.repeat(gold, lessons.units.lengths)
    entities = gold[lessons.owners]
    silver = ~units & (lessons.weights > 0)
    if not silver.any():
        return lessons, figures
    targets, span_targets = lessons.targets.copy(), lessons.span_targets.copy()
    weights, spans = lessons.weights.copy(), lessons.spans.copy()
    given, kinds = targets.argmax(axis=1), span_targets.argmax(axis=1)
    if audit and (config.soft_labels == "corrected" or config.weights == "audit"):
        tags, types = _noise(audit, lessons.kinds)
        beliefs, of_types = _beliefs(tags, given, TAGS), _beliefs(types, kinds, len(lessons.kinds))
        figures |= {"audited_units": tags.audited, "audited_tags_right": tags.right, "audited_types_right": types.right}
        if config.soft_labels == "corrected":
            targets[silver], span_targets[~entities] = beliefs[silver], of_types[~entities]
        if config.weights == "audit":
            weights[silver] = beliefs[silver, given[silver]]
            weighty = ~entities & (spans > 0)
            spans[weighty] = of_types[weighty, kinds[weighty]]
    if config.label_smoothing:
        share = config.label_smoothing
        targets[silver] = (1 - share) * targets[silver] + share / TAGS
        span_targets[~entities] = (1 - share) * span_targets[~entities] + share / max(1, len(lessons.kinds))
    if config.prune == "confident_learning":
        wrong_units = _wrong_units(lessons, groups, seed) & silver
        weights[wrong_units] = 0.0
        figures["pruned_units"] = int(wrong_units.sum())
    vectors = lessons.units.vectors
    if config.reweight and vectors.shape[1]:
        factors = learned_weights(vectors.astype(np.float32), targets.astype(np.float64), weights, units, seed=seed)
        weights *= factors
        figures["reweighted_away"] = int((factors[silver] < _AWAY).sum())
    return replace(lessons, targets=targets, weights=weights, span_targets=span_targets, spans=spans), figures


def _noise(audit: Sequence[Audited], kinds: Sequence[str]) -> tuple[TeacherNoise, TeacherNoise]:
    """How the teacher errs in the tags of units, and in the types of entities whose borders it gets right."""
    tags: list[tuple[int, int]] = []
    types: list[tuple[int, int]] = []
    for one in audit:
        spans = Words(one.text).spans
        people, teacher = taught(spans, one.people), taught(spans, one.teacher)
        known = people.known & teacher.known
        tags += zip(teacher.tags[known].tolist(), people.tags[known].tolist(), strict=True)
        right = {(first, last): kind for first, last, kind in people.places}
        types += (
            (kinds.index(kind), kinds.index(right[first, last]))
            for first, last, kind in teacher.places
            if (first, last) in right and kind in kinds and right[first, last] in kinds
        )
    return _estimated(tags, TAGS), _estimated(types, len(kinds))


def _estimated(pairs: Sequence[tuple[int, int]], classes: int) -> TeacherNoise:
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return estimate(_answers(found[:, 0], classes), found[:, 1], classes)


def _answers(given: NDArray[np.int64], classes: int) -> Answers:
    return Answers(given, np.full(len(given), _SURE), np.full((len(given), classes), np.nan))


def _beliefs(noise: TeacherNoise, given: NDArray[np.int64], classes: int) -> Array:
    """How probable each class is for what is given, shape (n, classes)."""
    known = noise.probabilities(_answers(np.arange(classes), classes))
    found: Array = known[given]
    return found


def _wrong_units(lessons: Lessons, groups: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Units whose tag is found wrong by taggers that have not seen their text; none where texts are too few."""
    wrong = np.zeros(len(lessons.weights), dtype=np.bool_)
    texts = np.arange(len(lessons.units))
    found = held_out(lessons, groups, texts, span_scale=SPAN_SCALES[1], seed=seed)
    if found is None:
        return wrong
    rows = lessons.units.rows(found.texts)
    rows_known = lessons.weights[rows] > 0
    given = lessons.targets[rows].argmax(axis=1)
    wrong[rows[rows_known]] = find_label_errors(np.exp(found.borders[rows_known]), given[rows_known])
    return wrong
