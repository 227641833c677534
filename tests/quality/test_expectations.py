"""The list of expectations follows from the declaration, without Great Expectations."""

import re
import subprocess
import sys

import pytest
from labelled_partitions import declare

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.quality.catalogue import offered
from annotation_pipelines.quality.expectations import check_names, expectations_for

WARNINGS = {"share_labelled", "label_distribution_stable"}


def test_the_names_of_checks_are_valid_unique_and_stable():
    declaration = declare(
        expectations=[
            {"expect_column_values_to_not_be_null": {"column": "text"}},
            {"expect_column_values_to_not_be_null": {"column": "text", "mostly": 0.5}},
            {"expect_column_values_to_be_in_set": {"column": "attributes.lang-uage", "value_set": ["en"]}},
            {"expect_column_pair_values_to_be_equal": {"column_A": "label", "column_B": "gold"}},
        ]
    )
    names = check_names(declaration)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in names)
    assert names == check_names(declaration)
    assert names[-4:] == [
        "expect_column_values_to_not_be_null_text",
        "expect_column_values_to_not_be_null_text_2",
        "expect_column_values_to_be_in_set_attributes_lang_uage",
        "expect_column_pair_values_to_be_equal_label_gold",
    ]


def test_another_bound_changes_no_name():
    assert check_names(declare(min_labelled=0.5)) == check_names(declare(max_label_shift=0.1, blocking=False))


@pytest.mark.parametrize("blocking", [True, False])
def test_structural_expectations_block_where_declared_and_the_others_only_warn(blocking):
    for expectation in expectations_for(declare(blocking=blocking)):
        assert expectation.blocking is (blocking and expectation.check_name not in WARNINGS)


def test_a_declared_expectation_blocks_only_where_it_says_so():
    entry = {"expect_column_values_to_not_be_null": {"column": "gold"}}
    first, second = expectations_for(declare(expectations=[entry, {**entry, "blocking": True}]))[-2:]
    assert (first.blocking, second.blocking) == (False, True)


def test_what_is_declared_on_labels_looks_at_labelled_rows():
    kwargs = {"min_value": 0.5}
    by_column = {
        column: expectations_for(
            declare(expectations=[{"expect_column_mean_to_be_between": {"column": column, **kwargs}}])
        )[-1].on
        for column in ("confidence", "score")
    }
    assert by_column == {"confidence": "labelled", "score": "selected"}


def test_every_generated_expectation_is_one_that_great_expectations_offers():
    for expectation in expectations_for(declare()):
        entry = offered()[expectation.type]
        assert entry.on_pandas
        assert set(expectation.kwargs) <= set(entry.arguments or {})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"expect_column_values_to_not_be_nul": {"column": "text"}},
            ["no expectation expect_column_values_to_not_be_nul", "did you mean expect_column_values_to_not_be_null?"],
        ),
        ({"expect_column_values_to_be_between": {"colum": "score"}}, ["'colum'", "did you mean column?"]),
        ({"expect_column_values_to_be_in_set": {"column": "label"}}, ["needs value_set"]),
        (
            {"expect_column_mean_to_be_between": {"column": "score", "min_value": [1]}},
            ["min_value must be number", "[1]"],
        ),
        (
            {"expect_column_values_to_not_be_null": {"column": "texts"}},
            ["the column 'texts'", "did you mean text?", "attributes.NAME"],
        ),
        ({"expect_column_values_to_match_like_pattern": {"column": "text", "like_pattern": "a%"}}, ["SQL"]),
        ({"expect_column_values_to_not_be_null": {"column": "text", "result_format": "BASIC"}}, ["'result_format'"]),
    ],
)
def test_a_declared_expectation_that_cannot_work_is_refused_when_the_declaration_is_loaded(entry, words):
    with pytest.raises(DeclarationError) as caught:
        check_names(declare(expectations=[entry]), "colours")
    for word in ["colours: quality.expectations", *words]:
        assert word in str(caught.value)


def test_the_checks_are_known_without_importing_great_expectations_or_pandas():
    code = (
        "import sys\n"
        "from annotation_pipelines.quality import agreement, data_docs, expectations, suite, trust, validation\n"
        "from annotation_pipelines.project import Declaration\n"
        "d = Declaration.model_validate({'source': {'csv': 'x'}, 'task': {'classification': {'labels': ['a', 'b']}},"
        "'quality': {'expectations': [{'expect_column_values_to_not_be_null': {'column': 'text'}}]}})\n"
        "assert len(expectations.check_names(d)) == 15\n"
        "heavy = {'great_expectations', 'pandas', 'scipy', 'sklearn', 'dagster'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
