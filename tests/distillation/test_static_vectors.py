"""Static vectors: distilled from an encoder's vocabulary, saved as data, the same after loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.static_vectors import StaticVectors, _vocabulary, _weights, distil, tokens
from tests.distillation.fine_tuning.tiny import write_encoder

TEXTS = ["the cat and the dog", "", "fire", "翻訳 🙂", "a broken \ud800 half", "the the the the moon"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(write_encoder(tmp_path_factory.mktemp("encoders") / "small", layers=1)))


@pytest.fixture(scope="module")
def static(encoder: Encoder) -> StaticVectors:
    return distil(encoder)


def test_a_text_is_the_mean_direction_of_its_tokens(static: StaticVectors) -> None:
    vectors = static.encode(TEXTS)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths[[0, 2, 4, 5]], 1, atol=1e-5)
    assert lengths[1] == 0
    ids, _ = tokens(static.tokenizer, ["the cat and the dog"])
    mean = static.table[ids].mean(axis=0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
    frame = pl.DataFrame({"content_hash": TEXTS[:1], "content": TEXTS[:1]})
    np.testing.assert_array_equal(static.vectors(frame), vectors[:1])


def test_tokens_weigh_less_the_further_in_front_of_the_vocabulary_they_stand() -> None:
    weights = _weights(1_000)
    assert (np.diff(weights) > 0).all()
    frequency = 1 / np.arange(2, 1_002)
    np.testing.assert_allclose(weights[0], 1e-4 / (1e-4 + 0.5 / frequency.sum()), rtol=1e-5)


def test_a_token_is_read_alone_whatever_the_tokenizer_pads_to(encoder: Encoder) -> None:
    with_padding = Encoder(encoder.name, device="cpu")  # a model of its own
    with_padding._model().tokenizer.backend_tokenizer.enable_padding(length=32)
    vocabulary = _vocabulary(with_padding, distil(encoder).tokenizer, None)
    cat = encoder._model().tokenizer.convert_tokens_to_ids("cat")
    (alone,) = encoder.encode(["cat"])
    np.testing.assert_allclose(vocabulary[cat] / np.linalg.norm(vocabulary[cat]), alone, atol=2e-3)
    np.testing.assert_array_equal(distil(with_padding).table, distil(encoder).table)


def test_special_tokens_say_nothing(static: StaticVectors) -> None:
    for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]"):
        assert not static.table[static.tokenizer.token_to_id(token)].any()


def test_many_texts_are_tokenized_by_several_threads_in_their_order(
    static: StaticVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"the {word} {number}" for number, word in enumerate(["cat", "dog", "moon"] * 400)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = tokens(static.tokenizer, many)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    together = tokens(static.tokenizer, many)
    np.testing.assert_array_equal(alone[0], together[0])
    np.testing.assert_array_equal(alone[1], together[1])


def test_it_is_saved_as_data_and_says_the_same_when_loaded(static: StaticVectors, tmp_path: Path) -> None:
    facts = static.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    loaded = StaticVectors.load(tmp_path, facts)
    np.testing.assert_array_equal(loaded.encode(TEXTS), static.encode(TEXTS))


def test_the_vocabulary_is_read_once_and_a_damaged_file_is_made_again(encoder: Encoder, tmp_path: Path) -> None:
    first = distil(encoder, tmp_path / "static")
    (file,) = (tmp_path / "static").iterdir()
    written = file.stat().st_mtime_ns
    again = distil(encoder, tmp_path / "static")
    assert file.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.table, again.table)
    file.write_bytes(b"cut off")
    np.testing.assert_array_equal(distil(encoder, tmp_path / "static").table, first.table)
