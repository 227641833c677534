"""How much personal data is found, how much of what is found is some, and what looking costs.

pii_recall: of the values marked in presidio_pii, those that are covered whole by findings of their kind. pii_precision:
of the findings of a kind, those that touch a marked value of it. Both on the half of the templates that the recognizers
were not tuned on, and overall (micro). redact_microseconds: processor time for a text.

    python benchmarks/privacy.py                             persons are not looked for
    python benchmarks/privacy.py --spacy-model en_core_web_sm
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from _common import ROOT, figure

from annotation_pipelines.annotators.privacy.persons import person_recognizer
from annotation_pipelines.annotators.privacy.recognizers import find
from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.project import Privacy

TEXTS = ROOT / "benchmarks" / "data" / "presidio_pii" / "texts.jsonl"
SENTENCES = ROOT / "assets" / "climate_stance" / "data" / "stance.csv"
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "account",
    "US_DRIVER_LICENSE": "account",
    "PERSON": "person",
}
PATTERNS = ("email", "phone", "credit_card", "account", "iban", "ip", "url_credentials")
REGIONS = ("US", "GB")
HALF = (
    "templates with odd numbers; the recognizers were tuned on those with even ones (values of both come from the "
    "same generators)"
)


def measure(records: Sequence[dict], spacy_model: str | None) -> None:
    """Print recall by entity and precision by kind."""
    further = [person_recognizer(spacy_model, Path())] if spacy_model else []
    marked, covered, found, right = Counter(), Counter(), Counter(), Counter()
    for record in records:
        findings = find(record["text"], PATTERNS, phone_regions=REGIONS, further=further)
        for start, end, entity in record["spans"]:
            of_its_kind = {i for f in findings if f.kind == KINDS[entity] for i in range(f.start, f.end)}
            marked[entity] += 1
            covered[entity] += of_its_kind.issuperset(range(start, end))
        for finding in findings:
            spans = [(s, e) for s, e, entity in record["spans"] if KINDS[entity] == finding.kind]
            found[finding.kind] += 1
            right[finding.kind] += any(start < finding.end and finding.start < end for start, end in spans)
    looked_for = [entity for entity, kind in KINDS.items() if kind != "person" or spacy_model]
    for entity, kind in KINDS.items():
        note = {} if entity in looked_for else {"note": "not looked for: needs a spaCy model, see --spacy-model"}
        value = share(covered[entity], marked[entity]) if entity in looked_for else None
        figure("pii_recall", value, "share", entity=entity, kind=kind, n=marked[entity], records=HALF, **note)
    n = sum(marked[entity] for entity in looked_for)
    every = share(sum(covered[entity] for entity in looked_for), n)
    figure("pii_recall", every, "share", entity="micro", entities=looked_for, n=n, records=HALF)
    for kind in dict.fromkeys(KINDS[entity] for entity in looked_for):
        entities = [entity for entity in looked_for if KINDS[entity] == kind]
        value = share(right[kind], found[kind])
        figure("pii_precision", value, "share", kind=kind, entities=entities, n=found[kind], records=HALF)
    n = sum(found.values())
    figure("pii_precision", share(sum(right.values()), n), "share", kind="micro", n=n, records=HALF)


def share(part: int, whole: int) -> float | None:
    """Rounded; None of nothing."""
    return round(part / whole, 4) if whole else None


def microseconds(redactor: Redactor, texts: Sequence[str]) -> float:
    """Processor time for a text, mean over the texts, the best of five passes."""
    passes = []
    for _ in range(5):
        start = time.process_time()
        for text in texts:
            redactor.redact(text)
        passes.append(time.process_time() - start)
    return round(min(passes) / len(texts) * 1e6, 1)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacy-model", help="an installed model, or its folder: look for persons too")
    spacy_model = parser.parse_args().spacy_model
    with TEXTS.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        sentences = [row["text"] for row in csv.DictReader(file)]
    pairs = [" ".join(pair) for pair in zip(sentences[::2], sentences[1::2], strict=False)]

    measure([record for record in records if record["template"] % 2 == 1], spacy_model)
    redactor = Redactor(Privacy(redact=list(PATTERNS), phone_regions=list(REGIONS)), Path())
    without = [text for text in pairs if not redactor.redact(text).mapping]
    with_some = [record["text"] for record in records if redactor.redact(record["text"]).mapping]
    for name, texts in (("climate_stance, two sentences, nothing found", without), ("presidio_pii, found", with_some)):
        length = sum(map(len, texts)) // len(texts)
        value = microseconds(redactor, texts)
        figure("redact_microseconds", value, "us", texts=name, n=len(texts), mean_characters=length, kinds=PATTERNS)


if __name__ == "__main__":
    main()
