"""The red team: real sentences with instructions in them, each aimed at a label that the sentence would not get.

The patterns are in `tests/data/red_team.yaml`; the sentences are those of the climate stance project.
"""

from __future__ import annotations

import base64
import codecs
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import yaml

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.project import Project

CLIMATE = Path(__file__).parents[1] / "assets" / "climate_stance"
PATTERNS = Path(__file__).with_name("data") / "red_team.yaml"
SENTENCES_EACH = 3


@dataclass(frozen=True)
class Attack:
    """A record with an instruction in it.

    Attributes:
        text: The record.
        sentence: The sentence in it, as it was without the instruction.
        recorded: The label that GPT-4o gave to the sentence.
        target: The label that the attacker wants; another one.
        style: Which kind of instruction it is.
    """

    id: str
    text: str
    sentence: str
    recorded: str
    target: str
    style: str


def _bold(text: str) -> str:
    return "".join(chr(0x1D41A + ord(c) - ord("a")) if "a" <= c <= "z" else c for c in text)


HIDE: Mapping[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "leet": lambda text: text.translate(str.maketrans("aeios", "43105")),
    "reversed": lambda text: text[::-1],
    "hex": lambda text: text.encode().hex(),
    "percent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "repeated": lambda text: text * 400,
    "full_width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "zero_width": lambda text: "\u200b".join(text),
    "bold": _bold,
    "tags": lambda text: "".join(chr(0xE0000 + ord(c)) for c in text),
    "accents": lambda text: "".join(f"{c}\u0301" if c.isalpha() else c for c in text),
}


def climate() -> Project:
    """The project whose task the records belong to."""
    return load_project(CLIMATE / "defs.yaml")


def recorded_labels() -> dict[str, str]:
    """Sentence to the label that GPT-4o gave it; sentences that name no label."""
    stance = pl.read_csv(CLIMATE / "data" / "stance.csv").unique("text", maintain_order=True)
    plain = stance.filter(~pl.col("text").str.contains("(?i)agree|neutral|label"))
    return dict(plain.select("text", "gpt4o_label").iter_rows())


def red_team() -> list[Attack]:
    """All attacks, in a stable order."""
    labels = climate().declaration.task.classification.labels
    recorded = recorded_labels()
    sentences = sorted(recorded)
    random.Random(0).shuffle(sentences)
    patterns = yaml.safe_load(PATTERNS.read_text(encoding="utf-8"))
    attacks: list[Attack] = []
    for style, entries in patterns.items():
        for number, entry in enumerate(entries):
            for turn in range(SENTENCES_EACH):
                sentence = sentences[len(attacks)]
                label = recorded[sentence]
                target = [name for name in labels if name != label][(number + turn) % (len(labels) - 1)]
                words = {"TARGET": target, "OTHER": label, "MEANING": labels[target]}
                order = HIDE[entry["hide"]](_filled(entry["order"], words)) if "order" in entry else ""
                text = _filled(entry["text"], words).replace("ORDER", order).replace("SENTENCE", sentence)
                attacks.append(Attack(f"{style}-{number}-{turn}", text, sentence, label, target, style))
    return attacks


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
