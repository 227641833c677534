"""The parts of a span tagger: units, what is seen of them, whole sequences of tags, and what is learned of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.tagging.features import Gazetteer, hashed
from annotation_pipelines.distillation.tagging.paths import (
    BEGIN,
    END,
    INSIDE,
    OUTSIDE,
    SINGLE,
    best_paths,
    log_certainty,
    marginals,
)
from annotation_pipelines.distillation.tagging.softmax_regression import SoftmaxRegression, Table
from annotation_pipelines.distillation.tagging.span_tagger import Lessons, SpanTagger
from annotation_pipelines.distillation.tagging.text_units import TextUnits, taught
from annotation_pipelines.distillation.tagging.words import Words, units
from annotation_pipelines.distillation.token_vectors import span_vectors
from annotation_pipelines.tasks.spans import Span, TypedSpan


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30) | st.text("aB1 ’'_-東京パ👍🏽\u0301\u200d#@.", max_size=30))
def test_units_are_all_that_is_not_white_space_in_order(text: str) -> None:
    found = units(text)
    assert "".join("".join(span.of(text) for span in found).split()) == "".join(text.split())
    assert all(a.end <= b.start for a, b in pairwise(found))
    words = Words(text)
    assert len(words.lower) == len(words.shapes) == len(words.runs()) == len(words.joined) or not found


def test_units_are_words_and_characters_of_scripts_without_borders() -> None:
    text = "Emma's #art at https://x.org/a_b, 東京のTokyo-Tower"
    assert [span.of(text) for span in units(text)] == [
        *("Emma", "'", "s", "#", "art", "at", "https://x.org/a_b,", "東", "京", "の", "Tokyo", "-", "Tower")
    ]


def test_what_is_known_from_a_text_does_not_mark_that_text() -> None:
    gazetteer = Gazetteer.of([("in New York", [TypedSpan(3, 11, "place")]), ("York won", [TypedSpan(0, 4, "team")])])
    assert gazetteer.marks(Words("new york or York")) == [
        ["known B place", "known B 2"],
        ["known I place", "known I 2"],
        [],
        ["known B team", "known B 1"],
    ]
    assert gazetteer.marks(Words("in New York"), learning=True)[1:] == [[], ["known B team", "known B 1"]]


_FOLLOWS = {OUTSIDE: "OBS", BEGIN: "IE", INSIDE: "IE", END: "OBS", SINGLE: "OBS"}


def whole(tags: Sequence[int]) -> bool:
    return not tags or (
        (tags[0] not in (INSIDE, END) and tags[-1] not in (BEGIN, INSIDE))
        and all("OBIES"[b] in _FOLLOWS[a] for a, b in pairwise(tags))
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.lists(st.floats(-9, 0), min_size=5, max_size=5), max_size=4), min_size=1, max_size=3))
def test_the_best_tags_are_those_that_enumeration_finds_and_so_are_their_probabilities(
    texts: list[list[list[float]]],
) -> None:
    lengths = [len(rows) for rows in texts]
    odds = np.array([row for rows in texts for row in rows]).reshape(-1, 5)
    paths, shares = best_paths(odds, lengths), marginals(odds, lengths)
    certain = log_certainty(odds, lengths, paths.tags)
    for place, block in enumerate(np.split(odds, np.cumsum(lengths)[:-1])):
        every = [tags for tags in product(range(5), repeat=len(block)) if whole(tags)]
        scores = np.array([sum(block[p, t] for p, t in enumerate(tags)) for tags in every])
        total = np.exp(scores).sum()
        assert whole(paths.tags[place].tolist())
        assert paths.scores[place] == pytest.approx(scores.max())
        assert np.exp(certain[place]) == pytest.approx(np.exp(scores.max()) / total)
        here = shares[sum(lengths[:place]) :][: len(block)]
        for unit in range(len(block)):
            for tag in range(5):
                of_tag = sum(np.exp(s) for s, tags in zip(scores, every, strict=True) if tags[unit] == tag)
                assert here[unit, tag] == pytest.approx(of_tag / total, abs=1e-9)


def test_a_sequence_that_is_not_whole_is_impossible() -> None:
    odds = np.log(np.full((2, 5), 0.2))
    assert log_certainty(odds, [2], [np.array([BEGIN, OUTSIDE])])[0] < -1e6
    assert log_certainty(odds, [2], [np.array([BEGIN, END])])[0] > -3


def test_of_overlapping_entities_the_longest_teaches_and_what_is_cut_teaches_nothing() -> None:
    text = "the New York Times office of Manhattan"
    spans = units(text)
    inner, outer = TypedSpan(4, 12, "place"), TypedSpan(4, 18, "corporation")
    found = taught(spans, [inner, outer])
    assert found.places == [(1, 3, "corporation")]
    assert found.tags.tolist() == [OUTSIDE, BEGIN, INSIDE, END, OUTSIDE, OUTSIDE, OUTSIDE]
    assert found.known.all()
    cut = taught(spans, [TypedSpan(29, 32, "person"), outer, TypedSpan(13, 25, "group")])
    assert cut.places == [(1, 3, "corporation")]
    assert [span.of(text) for span, known in zip(spans, cut.known, strict=True) if not known] == [
        "office",
        "Manhattan",
    ]


def test_vectors_of_words_depend_on_their_context_and_stand_where_the_words_do() -> None:
    encoder = Encoder()
    text = "a bank by the river 東京"
    spans = units(text)
    alone, again = span_vectors(encoder, [text, "she robbed a bank"], [spans, [Span(13, 17)]])
    assert alone.shape == (len(spans), encoder.dimension)
    assert np.linalg.norm(alone, axis=1) == pytest.approx(np.ones(len(spans)), abs=1e-5)
    other = [float(alone[place] @ again[0]) for place in range(len(spans))]
    assert int(np.argmax(other)) == 1
    assert other[1] < 0.999
    assert span_vectors(encoder, [], []) == []


def test_words_beyond_the_window_have_vectors_too() -> None:
    encoder = Encoder()
    text = " ".join(["nothing of note was said"] * 100 + ["Paris"] + ["and then they left"] * 40)
    spans = units(text)
    [far] = span_vectors(encoder, [text], [spans])
    assert np.linalg.norm(far, axis=1) == pytest.approx(np.ones(len(spans)), abs=1e-5)
    [near] = span_vectors(encoder, ["they went to Paris"], [units("they went to Paris")])
    place = [span.of(text) for span in spans].index("Paris")
    assert place > 400
    assert int(np.argmax(far @ near[3])) == place


def names(*found: str) -> Lessons:
    entities = [[TypedSpan(7, 7 + len(name), "person")] for name in found]
    return Lessons.of(TextUnits.cut([f"we met {name} there" for name in found]), entities)


def test_a_tagger_without_vectors_learns_from_words_alone() -> None:
    tagger = SpanTagger.learn(names("Ann", "Bob", "Emma"))
    [guess] = tagger.guess(TextUnits.cut(["we met Carl there"]))
    assert guess.entities == (TypedSpan(7, 11, "person"),)
    assert 0 < guess.confidence < 1
    assert guess.units.sum(axis=1) == pytest.approx(np.ones(4))
    assert guess.units[2, 1] > 0.5 > guess.units[1, 1]
    assert tagger.guess(TextUnits.cut([])) == []
    assert tagger.guess(TextUnits.cut([""]))[0].entities == ()


def test_a_text_without_weight_teaches_nothing() -> None:
    lessons = names("Ann", "Bob", "Emma")
    told = Lessons.of(
        TextUnits.cut([*lessons.units.texts, "in Oslo here"]),
        [*lessons.entities, [TypedSpan(3, 7, "place")]],
        np.array([1, 1, 1, 0]),
    )
    tagger = SpanTagger.learn(told)
    assert tagger.types.present.tolist() == [True, False]
    assert tagger.shares.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="no entity"):
        SpanTagger.learn(Lessons.of(TextUnits.cut(["nothing here"]), [[]]))


def test_regression_minimises_the_stated_loss() -> None:
    generator = np.random.default_rng(0)
    seen = [[f"f{number}" for number in generator.integers(0, 6, 3)] for _ in range(40)]
    vectors = generator.normal(size=(40, 3)).astype(np.float32)
    targets = generator.dirichlet(np.ones(3), 40)
    mass = generator.uniform(0, 2, 40)
    table = Table.of(seen, vectors, scale=2.0)
    model = SoftmaxRegression.fit(table, targets, mass)

    def loss(weights: np.ndarray) -> float:
        trial = SoftmaxRegression(model.columns, weights.astype(np.float32), model.present)
        logs = trial.log_probabilities(table)
        return float(-(targets * logs).sum(axis=1) @ mass + 0.5 * (weights.astype(np.float64) ** 2).sum()) / 40

    least = loss(model.weights)
    for _ in range(20):
        assert loss(model.weights + 0.1 * generator.normal(size=model.weights.shape)) > least
    half = Table(table.columns, table.ends, table.vectors.astype(np.float16), table.scale)
    assert SoftmaxRegression.fit(half, targets, mass).weights == pytest.approx(model.weights, abs=0.02)


def test_some_rows_of_a_table_are_those_rows() -> None:
    seen = [["a", "b"], [], ["c"], ["a", "c", "d"]]
    table = Table.of(seen, np.arange(8, dtype=np.float32).reshape(4, 2))
    rows = np.array([3, 0])
    kept, wanted = table.rows(rows), Table.of([seen[3], seen[0]], table.vectors[rows])
    assert (kept.columns.tolist(), kept.ends.tolist()) == (wanted.columns.tolist(), wanted.ends.tolist())
    assert (kept.vectors == wanted.vectors).all()


def test_of_too_many_columns_those_that_most_rows_have_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [["often", f"once {row}", "seldom"] if row < 3 else ["often", f"once {row}"] for row in range(40)]
    table = Table.of(seen, np.zeros((40, 0), dtype=np.float32))
    targets = np.eye(2)[np.arange(40) % 2]
    every = SoftmaxRegression.fit(table, targets)
    assert len(every.columns) == 42
    monkeypatch.setattr("annotation_pipelines.distillation.tagging.softmax_regression.MOST_COLUMNS", 2)
    few = SoftmaxRegression.fit(table, targets)
    assert few.columns.tolist() == hashed(["often", "seldom"]).tolist()
    # Many entries are counted in another way.
    monkeypatch.setattr("annotation_pipelines.distillation.tagging.softmax_regression.COLUMNS", 80)
    monkeypatch.setattr("annotation_pipelines.distillation.tagging.softmax_regression.MOST_COLUMNS", 10_000)
    assert SoftmaxRegression.fit(table, targets).columns.tolist() == every.columns.tolist()
