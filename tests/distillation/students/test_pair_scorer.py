"""The student for preferences: a score for each response, and the same answer mirrored when the two change places."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.embedding import Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.prediction import predict
from annotation_pipelines.distillation.preference.davidson import Davidson, choose_and_fit
from annotation_pipelines.distillation.preference.features import mean_vectors, pair_texts, response_features
from annotation_pipelines.distillation.students.files import read_model, write_model
from annotation_pipelines.distillation.students.pair_scorer import PairScorer
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.preference import Preference, PreferenceTask
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.students.scene import Scene, asked, examples, part_content, source_rows

TASK: PreferenceTask = Preference().make()
VECTORS = Uncached(Encoder())
SWAPPED = {"A": "B", "B": "A", "tie": "tie"}

THINGS = [
    "a lost parcel",
    "a broken lamp",
    "a late train",
    "a wrong bill",
    "a cold meal",
    "a noisy room",
    "a torn coat",
]
KIND = [
    "We are very sorry about {} and will help you today.",
    "Thank you for telling us about {}, we will put it right.",
]
RUDE = ["Nobody here cares about {}, go away.", "Stop whining about {}, it is your own fault."]


def content(prompt: str, first: str, second: str) -> str:
    return part_content(instruction=prompt, response_a=first, response_b=second)


@cache
def pairs() -> tuple[list[str], list[str]]:
    """56 pairs in which people like the kind response, or neither of two kind ones."""
    contents, labels = [], []
    for place, thing in enumerate(THINGS):
        prompt = f"A customer writes about {thing}. Answer."
        for number, (kind, rude) in enumerate((k, r) for k in KIND for r in RUDE):
            two = [kind.format(thing), rude.format(thing)]
            turned = (place + number) % 2 == 1
            contents.append(content(prompt, *(reversed(two) if turned else two)))
            labels.append("B" if turned else "A")
        contents.append(content(prompt, *(text.format(thing) for text in KIND)))
        labels.append("tie")
    return contents, labels


@cache
def student() -> PairScorer:
    contents, labels = pairs()
    return PairScorer(TASK, Distillation()).fit(examples(contents, labels), VECTORS)


def test_it_prefers_what_people_prefer_to_prompts_that_it_has_not_seen() -> None:
    kind, rude = (one.format("a scratched table") for one in (KIND[0], RUDE[0]))
    prompt = "A customer writes about a scratched table. Answer."
    said = student().predict(asked([content(prompt, kind, rude), content(prompt, rude, kind)]), VECTORS)
    assert said.labels == ["A", "B"]
    assert (said.confidence > 0.6).all()
    good, bad = student().scores(pl.DataFrame({"prompt": [prompt] * 2, "response": [kind, rude]}), VECTORS)[:, 0]
    [[a, b, _], _] = said.probabilities
    assert good - bad == pytest.approx(np.log(a / b), abs=1e-4)


def test_with_the_responses_exchanged_the_answer_is_mirrored() -> None:
    rows = source_rows("pandalm")[:10]
    there = [part_content(**{k: r[k] for k in ("instruction", "input", "response_a", "response_b")}) for r in rows]
    back = [
        part_content(
            instruction=r["instruction"], input=r["input"], response_a=r["response_b"], response_b=r["response_a"]
        )
        for r in rows
    ]
    one, other = (student().predict(asked(contents), VECTORS) for contents in (there, back))
    assert np.array(one.probabilities)[:, [1, 0, 2]] == pytest.approx(np.array(other.probabilities), abs=1e-5)
    clear = np.abs(np.array(one.probabilities)[:, 0] - np.array(one.probabilities)[:, 1]) > 1e-4
    mirrored = [SWAPPED[label] for label in other.labels]
    assert [label for label, sure in zip(one.labels, clear, strict=True) if sure] == [
        label for label, sure in zip(mirrored, clear, strict=True) if sure
    ]
    assert one.confidence == pytest.approx(other.confidence, abs=1e-5)


def test_training_on_exchanged_pairs_gives_the_same_scores() -> None:
    contents, labels = pairs()
    turned = []
    for stored in contents:
        prompt, first, second = pair_texts(TASK, stored)
        turned.append(content(prompt, second, first))
    other = PairScorer(TASK, Distillation()).fit(examples(turned, [SWAPPED[label] for label in labels]), VECTORS)
    rows = pl.DataFrame({"prompt": ["Answer."] * 2, "response": [KIND[0], RUDE[1]]})
    assert other.scores(rows, VECTORS) == pytest.approx(student().scores(rows, VECTORS), abs=1e-3)


def test_without_ties_in_the_task_none_is_given() -> None:
    task = Preference(tie=False).make()
    contents, labels = (
        list(kept) for kept in zip(*((c, x) for c, x in zip(*pairs(), strict=True) if x != "tie"), strict=True)
    )
    said = PairScorer(task, Distillation()).fit(examples(contents, labels), VECTORS).predict(asked(contents), VECTORS)
    assert set(said.labels) == {"A", "B"}
    assert np.array(said.probabilities)[:, 2].max() < 1e-6
    assert said.labels == labels


def test_each_criterion_has_a_score_of_its_own(tmp_path: Path) -> None:
    task = Preference(criteria={"kindness": "k", "rudeness": "r"}).make()
    contents, labels = pairs()
    both = [json.dumps({"kindness": label, "rudeness": SWAPPED[label]}) for label in labels]
    given = [task.canonical(label, None) for label in both]  # type: ignore[arg-type]
    scores = [json.dumps({f"kindness: {label}": 0.9, f"rudeness: {SWAPPED[label]}": 0.9}) for label in labels]
    told = examples(contents, given, gold=[False] * len(contents), weights=[0.9] * len(contents))
    told = type(told)(told.rows.with_columns(scores=pl.Series(scores)), told.audit)
    config = Distillation.model_validate({"robust": {"soft_labels": "scores"}})
    taught = PairScorer(task, config).fit(told, VECTORS)
    said = taught.predict(asked(contents[:2]), VECTORS)
    assert said.labels == given[:2]
    assert [array.shape for array in said.probabilities] == [(2, 3), (2, 3)]
    rows = pl.DataFrame({"prompt": ["Answer."], "response": [KIND[0]]})
    assert taught.scores(rows, VECTORS).shape == (1, 2)
    assert taught.scores(rows, VECTORS)[0, 0] == pytest.approx(-taught.scores(rows, VECTORS)[0, 1], abs=0.05)
    write_model(taught, {}, told.rows, tmp_path / "model")
    assert read_model(tmp_path / "model", task)[0].predict(asked(contents[:2]), VECTORS).labels == given[:2]
    assert taught.figures()["kindness: soft_labels"] == len(contents)


def test_it_is_saved_as_data_and_says_the_same_when_it_is_read(tmp_path: Path) -> None:
    contents, labels = pairs()
    write_model(student(), {}, examples(contents, labels).rows, tmp_path / "model")
    read, card = read_model(tmp_path / "model", TASK)
    before, after = (one.predict(asked(contents), VECTORS) for one in (student(), read))
    assert before.labels == after.labels
    assert np.array(before.probabilities) == pytest.approx(np.array(after.probabilities))
    assert read.figures() == student().figures()
    assert card["own"]["criteria"] == [""]


def test_the_length_counts_unless_it_is_switched_off() -> None:
    encoder = Encoder()
    texts = ["short", "short " * 30]
    with_length, without = (response_features(encoder, ["?"] * 2, texts, length=length) for length in (True, False))
    assert with_length[1, -1] > with_length[0, -1] > 0
    assert without[:, -1].tolist() == [0.0, 0.0]
    assert (with_length[:, :-1] == without[:, :-1]).all()
    # Of the 30 words 29 were said before; none is in the prompt; neither response is empty.
    assert with_length[1, -4:-1] / with_length[1, -4:-1].max() == pytest.approx([1, 0, 0])
    contents = [content("Say something.", "word " * (number + 2), "word") for number in range(24)]
    turned = [content("Say something.", "word", "word " * (number + 2)) for number in range(24)]
    told = examples([*contents, *turned], ["A"] * 24 + ["B"] * 24)
    odd = asked([content("Say something.", "word " * 40, "word " * 20)])
    gaps = []
    for length in (True, False):
        taught = PairScorer(TASK, Distillation(length=length)).fit(told, VECTORS)
        assert (taught.models[0].weights[-1] != 0) == length
        gaps.append(float(taught.predict(odd, VECTORS).probabilities[0][0]))  # type: ignore[index]
    assert gaps[0] > gaps[1]


def test_ties_alone_teach_nothing() -> None:
    contents, _ = pairs()
    with pytest.raises(TrainingError, match="ties alone"):
        PairScorer(TASK, Distillation()).fit(examples(contents, ["tie"] * len(contents)), VECTORS)


def test_what_lies_beyond_the_window_counts() -> None:
    encoder = Encoder()
    start = "the weather was fine and we walked along the river . " * 40
    one, other = mean_vectors(encoder, [start, start + "he was rude and shouted at all of us . " * 40])
    assert float(one @ other) < 0.99
    assert mean_vectors(encoder, ["short", ""]) == pytest.approx(encoder.encode(["short", ""]), abs=1e-5)


@pytest.mark.parametrize("robust", [{"reweight": True}, {"weights": "audit", "prune": "confident_learning"}])
def test_a_teacher_that_is_often_wrong_misleads_less_where_that_is_known(robust: dict[str, Any]) -> None:
    contents, labels = pairs()
    generator = np.random.default_rng(0)
    wrong = [SWAPPED[x] if generator.random() < 0.4 else x for x in labels]
    truth = [False] * len(contents) + [True] * len(contents)
    others = [stored.replace("customer", "guest") for stored in contents]
    told = examples([*contents, *others], [*wrong, *labels], gold=truth)
    taught = PairScorer(TASK, Distillation.model_validate({"robust": robust})).fit(told, VECTORS)
    said = taught.predict(asked(contents), VECTORS).labels
    assert sum(a == b for a, b in zip(said, labels, strict=True)) >= 0.75 * len(labels)
    assert len(taught.figures()) > 4


# -- the model itself --------------------------------------------------------------------------------------------------


def drawn(n: int, weights: np.ndarray, tie: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Differences, and answers drawn from the model, as targets."""
    generator = np.random.default_rng(seed)
    differences = generator.normal(size=(n, len(weights)))
    chances = Davidson(weights, tie).probabilities(differences)
    answers = (generator.random((n, 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return differences, np.eye(3)[np.minimum(answers, 2)]


def test_weights_and_ties_that_made_the_answers_are_found_again() -> None:
    weights = np.array([2.0, -1.0, 0.0])
    differences, targets = drawn(6_000, weights, -0.5)
    found = Davidson.fit(differences, targets, np.ones(6_000), 10.0)
    assert found.weights == pytest.approx(weights, abs=0.15)
    assert found.tie == pytest.approx(-0.5, abs=0.1)


def test_pairs_of_one_group_are_held_out_together_and_the_strength_follows() -> None:
    # Within a group all pairs are the same, with an answer at random: only the groups tell how little is learned.
    generator = np.random.default_rng(1)
    group = np.repeat(np.arange(12), 10)
    differences = generator.normal(size=(12, 30))[group]
    targets = np.eye(3)[generator.integers(0, 2, 12)[group]]
    say = np.full(120, 1 / 120)
    together = choose_and_fit(differences, targets, np.ones(120), targets, say, group, 0)
    apart = choose_and_fit(differences, targets, np.ones(120), targets, say, np.arange(120), 0)
    assert together.log_loss is not None
    assert apart.log_loss is not None
    assert apart.log_loss < 0.1 < together.log_loss
    assert (
        choose_and_fit(differences, targets, np.ones(120), targets, say, np.zeros(120, dtype=int), 0).log_loss is None
    )


def test_it_is_the_student_of_the_task_from_labels_to_predictions(tmp_path: Path) -> None:
    parts = {name: "{" + name + "}" for name in ("instruction", "response_a", "response_b")}
    scene = Scene(
        tmp_path,
        {"preference": {}},
        {"parts": parts},
        {"annotators": [{"openai": {"model": "m"}}]},
        encoder=str(write_encoder(tmp_path / "tiny")),
        min_labels=10,
    )
    assert student_class(scene.project.task, None) is PairScorer
    contents, labels = pairs()
    rows = scene.add(contents)
    scene.trust(rows[:25], labels[:25])
    scene.hold_out(rows[25:], labels[25:])
    model = train(scene.store, scene.project, scene.embedder)
    assert model.silver + model.leaked == 25
    evaluation = evaluate(scene.store, scene.project, scene.embedder)
    assert evaluation.champion == model.version
    assert evaluation.value(model.version, "accuracy") is not None
    assert predict(scene.store, scene.project, scene.embedder).predictions == len(contents)
    assert set(scene.store.query("SELECT label FROM predictions")["label"]) <= {"A", "B", "tie"}
