"""Plots: readable whatever the labels, small, and the same for the same counts."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from PIL import Image

from annotation_pipelines.reports import plots

WRITTEN = ["costs $5 or $x_1^2", "_underscore", "意図 カード 🎉", "<b>&amp;", "\\frac{", "100%"]
HOSTILE = [*WRITTEN, "two\nlines\x00\x0b", "n" * 200]
MANY = [f"intent number {index} about cards_and_$payments" for index in range(77)]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _partitioned(partitions: int, labels: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"partition_key": f"{2000 + index // 12}-{index % 12 + 1:02}", "label": label, "records": 1 + index % 5}
            for index in range(partitions)
            for label in labels
        ]
    )


def _confusion(labels: list[str]) -> pl.DataFrame:
    pairs = [(gold, label) for index, gold in enumerate(labels) for label in (gold, labels[index - 1])]
    return pl.DataFrame([{"gold": gold, "label": label, "records": 3 if gold == label else 1} for gold, label in pairs])


BINS = pl.DataFrame(
    {"n": [0, 10, 30], "mean_confidence": [None, 0.55, 0.95], "accuracy": [None, 0.5, 1.0]},
    schema={"n": pl.Int64, "mean_confidence": pl.Float64, "accuracy": pl.Float64},
)
OVER_TIME = _partitioned(34, ["a"]).select("partition_key", "records", correct=pl.col("records") - 1)
COSTS = _partitioned(34, ["a"]).select("partition_key", calls="records", cost_usd=pl.col("records") * 0.001)

DRAWINGS: dict[str, Callable[[], Any]] = {
    "labels": lambda: plots.label_distribution({"a": 3, "b": 0}),
    "many labels": lambda: plots.label_distribution({label: index for index, label in enumerate(MANY)}),
    "hostile labels": lambda: plots.label_distribution(dict.fromkeys(HOSTILE, 5)),
    "partitions": lambda: plots.distribution_over_partitions(_partitioned(34, ["a", "b", "c"])),
    "one partition": lambda: plots.distribution_over_partitions(_partitioned(1, ["a"])),
    "many partitions, hostile labels": lambda: plots.distribution_over_partitions(_partitioned(1000, HOSTILE)),
    "confusion": lambda: plots.confusion_matrix(_confusion(["a", "b", "c"])),
    "confusion of many": lambda: plots.confusion_matrix(_confusion(MANY)),
    "confusion of hostile": lambda: plots.confusion_matrix(_confusion(HOSTILE)),
    "calibration": lambda: plots.calibration(BINS),
    "accuracy": lambda: plots.accuracy_over_partitions(OVER_TIME),
    "cost": lambda: plots.cost_over_partitions(COSTS),
    "nothing": lambda: plots.no_data("no data $x_1$"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_png_is_small_and_a_screen_wide(name: str) -> None:
    picture = plots.png(DRAWINGS[name]())
    assert len(picture) < 40_000
    width, height = Image.open(io.BytesIO(picture)).size
    assert width == 700
    assert height < 1000


@pytest.mark.parametrize("name", DRAWINGS)
def test_an_svg_is_well_formed_and_calls_nobody(name: str) -> None:
    document = plots.svg(DRAWINGS[name]())
    root = ET.fromstring(document)
    links = [value for node in root.iter() for key, value in node.attrib.items() if key.endswith("href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not list(root.iter(f"{SVG}script"))
    assert len(document) < 150_000


@pytest.mark.parametrize("name", ["hostile labels", "partitions", "confusion", "calibration"])
def test_the_same_counts_give_the_same_bytes(name: str) -> None:
    assert plots.png(DRAWINGS[name]()) == plots.png(DRAWINGS[name]())
    assert plots.svg(DRAWINGS[name]()) == plots.svg(DRAWINGS[name]())


def test_no_time_and_no_version_is_written_into_a_picture() -> None:
    figure = plots.label_distribution({"a": 1})
    assert not Image.open(io.BytesIO(plots.png(figure))).info.keys() & {"Software", "Creation Time"}
    assert not re.search(r"20\d\d-\d\d-\d\d|Matplotlib v", plots.svg(figure))


def _texts(figure: Any) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(plots.svg(figure)).iter(f"{SVG}text")]


def test_labels_are_drawn_as_they_are_written() -> None:
    texts = _texts(plots.label_distribution(dict.fromkeys(HOSTILE, 5)))
    assert {*WRITTEN, "two lines"} <= set(texts)


def test_a_legend_names_a_label_that_begins_with_an_underscore() -> None:
    assert "_underscore" in _texts(plots.distribution_over_partitions(_partitioned(3, ["_underscore", "b"])))


def test_a_long_label_is_cut() -> None:
    assert any(text.startswith("nnnn") and text.endswith("…") for text in _texts(DRAWINGS["hostile labels"]()))


def test_the_frequent_labels_are_named_and_the_rest_is_one_row() -> None:
    counts = pl.DataFrame({"label": MANY, "records": list(range(77))})
    folded = plots.fold_labels(counts, 20)
    assert len(folded) == 21
    assert folded.row(20) == ("other 57 labels", sum(range(57)), True)
    assert folded["records"].sum() == sum(range(77))
    assert "other 57 labels" in _texts(plots.label_distribution(counts))


def test_one_label_too_many_is_named_instead_of_folded_alone() -> None:
    counts = pl.DataFrame({"label": ["a", "b", "c"], "records": [3, 2, 1]})
    assert plots.fold_labels(counts, 2)["label"].to_list() == ["a", "b", "c"]


def test_a_confusion_matrix_keeps_the_declared_order_and_counts_agreement() -> None:
    texts = _texts(plots.confusion_matrix(_confusion(["a", "b", "c"]), ["c", "a", "b"]))
    assert [text for text in texts if text in ("a", "b", "c")][:3] == ["c", "a", "b"]
    assert "Teacher against gold: 9 of 12 records agree (75.0%)" in texts


def test_labels_folded_together_do_not_count_as_agreement() -> None:
    rows = [{"gold": label, "label": MANY[index - 1], "records": 1} for index, label in enumerate(MANY)]
    assert "Teacher against gold: 0 of 77 records agree (0.0%)" in _texts(plots.confusion_matrix(pl.DataFrame(rows)))


def test_calibration_states_the_expected_calibration_error() -> None:
    expected = (10 * abs(0.55 - 0.5) + 30 * abs(0.95 - 1)) / 40
    assert any(f"error {expected:.3f}, 40 records" in text for text in _texts(plots.calibration(BINS)))


def test_more_partitions_than_bars_share_bars_without_losing_records() -> None:
    counts = _partitioned(1000, ["a", "b"])
    texts = _texts(plots.distribution_over_partitions(counts))
    assert f"Labels over partitions: {counts['records'].sum():,} records" in texts
    assert "17 partitions a bar, named by the first" in texts


def test_an_unknown_cost_is_said_and_never_drawn_as_zero() -> None:
    some = COSTS.with_columns(cost_usd=pl.when(pl.col("calls") > 3).then(None).otherwise("cost_usd"))
    texts = _texts(plots.cost_over_partitions(some))
    assert "× cost unknown" in texts
    assert any(text.startswith("Cost over partitions: unknown for") for text in texts)
    none = COSTS.with_columns(cost_usd=pl.lit(None, pl.Float64))
    assert not any("$0" in text for text in _texts(plots.cost_over_partitions(none)))


def test_a_cost_of_zero_is_zero() -> None:
    free = COSTS.with_columns(cost_usd=pl.lit(0.0))
    assert any(text.startswith("Cost over partitions: $0 for") for text in _texts(plots.cost_over_partitions(free)))


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.label_distribution({}),
        lambda: plots.label_distribution({"a": 0}),
        lambda: plots.distribution_over_partitions(_partitioned(1, ["a"]).clear()),
        lambda: plots.confusion_matrix(_confusion(["a", "b"]).clear()),
        lambda: plots.calibration(BINS.head(1)),
        lambda: plots.calibration(BINS.clear()),
        lambda: plots.accuracy_over_partitions(OVER_TIME.clear()),
        lambda: plots.cost_over_partitions(COSTS.clear()),
    ],
)
def test_empty_input_gives_a_small_figure_that_says_so(figure: Callable[[], Any]) -> None:
    drawn = figure()
    assert Image.open(io.BytesIO(plots.png(drawn))).size == (700, 110)
    assert re.search(r"no (labels|record|labelled record|calls)", " ".join(_texts(drawn)))


def test_drawing_leaves_the_users_matplotlib_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.png(DRAWINGS["hostile labels"]())
    assert dict(matplotlib.rcParams) == before


def test_threads_that_draw_at_the_same_time_give_the_same_picture() -> None:
    alone = plots.png(DRAWINGS["confusion"]())
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda _: plots.png(DRAWINGS["confusion"]()), range(8)))
    assert set(together) == {alone}


def test_a_plot_is_made_without_pyplot() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from annotation_pipelines.reports import plots; assert 'matplotlib' not in sys.modules; "
        "plots.png(plots.label_distribution({'a': 1})); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_markdown_image_carries_its_bytes_and_a_plain_description() -> None:
    image = plots.markdown_image(b"\x89PNG", "labels ](javascript:alert(1)) `x`")
    assert image == "![labels javascript:alert 1 x](data:image/png;base64,iVBORw==)"
