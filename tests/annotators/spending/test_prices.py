"""Prices: what a call costs, from which of three places, and what is wrong with a file of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.spending.prices import (
    cost,
    find_price,
    load_prices,
    read_prices,
    workspace_folder,
)
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import OpenAIAnnotator, Price

OPENAI = "https://api.openai.com/v1"
GATEWAY = "https://gateway.example.com/team-a/v1"


def write(folder: Path, text: str) -> Path:
    file = folder / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("gpt-4o", (2.5, 1.25, 10.0)),
        ("gpt-4o-mini", (0.15, 0.075, 0.6)),
        ("gpt-4.1-mini", (0.4, 0.1, 1.6)),
        ("o4-mini", (1.1, 0.275, 4.4)),
        ("gpt-5", (1.25, 0.125, 10.0)),
    ],
)
def test_openais_list_prices_are_known(model: str, listed: tuple[float, float, float]) -> None:
    price = load_prices(None).price(OPENAI, model)
    assert price
    assert (price.input, price.cached_input, price.output) == listed
    assert price.batch == 0.5


def test_a_dated_snapshot_costs_what_its_model_costs_unless_it_is_listed() -> None:
    table = load_prices(None)
    assert table.price(OPENAI, "gpt-4o-2024-08-06") == table.price(OPENAI, "gpt-4o")
    assert table.price(OPENAI, "gpt-4o-mini-2024-07-18") == table.price(OPENAI, "gpt-4o-mini")
    earliest = table.price(OPENAI, "gpt-4o-2024-05-13")
    assert earliest
    assert earliest.output == 15


@pytest.mark.parametrize(
    "model",
    ["gpt-4o-audio-preview", "gpt-4o-latest", "ft:gpt-4o-mini-2024-07-18:us::x", "gpt-4o-2024", "GPT-4o", "", "llama3"],
)
def test_another_name_is_another_model_and_its_price_is_unknown(model: str) -> None:
    assert load_prices(None).price(OPENAI, model) is None


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:8000/v1",
        "http://127.0.0.1:11434/v1",
        "https://eu.api.openai.com/v1",
        "https://api.openai.com.example.com/v1",
        "https://example.com/api.openai.com/v1",
    ],
)
def test_another_server_has_no_price_for_a_model_of_the_same_name(endpoint: str) -> None:
    assert load_prices(None).price(endpoint, "gpt-4o") is None


def test_the_workspaces_file_wins_over_ours_and_the_declaration_over_all(tmp_path: Path) -> None:
    project_folder = tmp_path / "assets" / "mine"
    project_folder.mkdir(parents=True)
    (tmp_path / "workspace.yaml").touch()
    write(tmp_path, "api.openai.com:\n  gpt-4o: {input: 2, output: 8}\n")
    assert workspace_folder(project_folder) == tmp_path.resolve()
    found = find_price(OpenAIAnnotator(model="gpt-4o"), OPENAI, project_folder)
    assert found == Price(input=2, output=8)
    assert find_price(OpenAIAnnotator(model="gpt-4o-2024-05-13"), OPENAI, project_folder) == found
    assert find_price(OpenAIAnnotator(model="gpt-4o-mini"), OPENAI, project_folder), "ours still counts for the others"
    own = Price(input=1, output=1)
    assert find_price(OpenAIAnnotator(model="gpt-4o", price=own), OPENAI, project_folder) == own


def test_outside_a_workspace_our_own_prices_count(tmp_path: Path) -> None:
    assert workspace_folder(tmp_path) is None
    assert find_price(OpenAIAnnotator(model="gpt-4o"), OPENAI, tmp_path)


def test_the_most_exact_endpoint_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
gateway.example.com: {m: {input: 1, output: 1}, other: {input: 9, output: 9}}
gateway.example.com:8443: {m: {input: 2, output: 2}}
https://gateway.example.com/team-a: {m: {input: 3, output: 3}}
https://gateway.example.com/team-a/v1/: {m: {input: 4, output: 4}}
""",
    )
    table = load_prices(tmp_path)

    def price(endpoint: str, model: str = "m") -> float | None:
        found = table.price(endpoint, model)
        return found.input if found else None

    assert price(GATEWAY) == 4
    assert price("https://gateway.example.com/team-a/v2") == 3
    assert price("https://gateway.example.com/team-ab") == 1
    assert price("https://GATEWAY.example.com:8443/v1") == 2
    assert price(GATEWAY, "other") == 9
    assert price("https://elsewhere.example.com/v1") is None


def test_a_price_of_zero_counts_where_somebody_wrote_it(tmp_path: Path) -> None:
    write(tmp_path, "localhost:8000: {llama3: {input: 0, output: 0}}")
    price = load_prices(tmp_path).price("http://localhost:8000/v1", "llama3")
    assert cost(price, prompt_tokens=10, completion_tokens=10) == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n  m: {input: 1}\n", r"prices\.yaml:2 m: output: required"),
        ("a:\n  m: {input: 1, output: 2, outputs: 3}\n", r"prices\.yaml:2 m: outputs: unknown key; expected input"),
        ("a:\n  m: {input: -1, output: 2}\n", r"prices\.yaml:2 m: input: .*greater than or equal to 0, found -1"),
        ("a:\n  m: {input: yes, output: 2}\n", r"prices\.yaml:2 m: input: .*found True"),
        ('a:\n  m: {input: "1", output: 2}\n', r"prices\.yaml:2 m: input: .*found '1'"),
        ("a:\n  m: {input: .inf, output: 2}\n", r"prices\.yaml:2 m: input: .*"),
        ("a:\n  m: 3\n", r"prices\.yaml:2 m: expected input, output.*found 3"),
        ("a:\n  m:\n", r"prices\.yaml:2 m: expected input, output.*found None"),
        ("a:\n  4.1: {input: 1, output: 1}\n", r"prices\.yaml:2 expected a name in models of a, found 4\.1"),
        ("a: [m]\n", r"prices\.yaml:1 expected a mapping of models of a"),
        ("- a\n", r"prices\.yaml:1 expected a mapping of endpoints"),
        ("a:\n  m: {input: 1, output: 1}\n  m: {input: 1, output: 2}\n", r"prices\.yaml:3 m: listed twice"),
        ("a: {}\nA: {}\n", r"prices\.yaml:2 A: listed twice"),
        ('"http://[a": {}\n', r"prices\.yaml:1 http://\[a: expected a host or a base URL"),
        ("a:\n  m: {input: 1,\n", r"prices\.yaml:3: not valid YAML"),
        ("a:\n  m: {input: !!python/name:os.system , output: 1}\n", r"prices\.yaml:2: not valid YAML"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, text)
    with pytest.raises(DeclarationError, match=message) as caught:
        load_prices(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_problem_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "a:\n  m: {input: 1}\n  n: {output: 1}\n")
    with pytest.raises(DeclarationError, match=r"yaml:2 m: .*yaml:3 n: "):
        read_prices(file)


def test_an_empty_file_lists_nothing(tmp_path: Path) -> None:
    assert read_prices(write(tmp_path, "# nothing yet\n")) == {}


def test_a_file_that_is_no_text_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeclarationError, match=r"prices\.yaml: cannot be read"):
        load_prices(tmp_path)


def test_cached_tokens_cost_their_own_price_and_a_batch_its_share() -> None:
    price = Price(input=2, cached_input=0.5, output=8, batch=0.5)
    assert cost(price, prompt_tokens=1_000_000, completion_tokens=0) == 2
    assert cost(price, prompt_tokens=1_000_000, completion_tokens=1_000_000) == 10
    assert cost(price, prompt_tokens=1_000_000, completion_tokens=0, cached_tokens=600_000) == pytest.approx(1.1)
    assert cost(price, prompt_tokens=1_000_000, completion_tokens=1_000_000, batch=True) == 5
    without = Price(input=2, output=8)
    assert cost(without, prompt_tokens=1_000_000, completion_tokens=0, cached_tokens=600_000) == 2


def test_an_unknown_price_or_count_is_unknown_and_not_zero() -> None:
    price = Price(input=2, output=8)
    assert cost(None, prompt_tokens=1, completion_tokens=1) is None
    assert cost(price, prompt_tokens=None, completion_tokens=1) is None
    assert cost(price, prompt_tokens=1, completion_tokens=None) is None


@given(
    prompt=st.integers(0, 10**7),
    cached=st.integers(0, 2 * 10**7) | st.none(),
    answer=st.integers(0, 10**6),
    batch=st.booleans(),
)
def test_a_cost_lies_between_all_cached_and_nothing_cached(
    prompt: int, cached: int | None, answer: int, batch: bool
) -> None:
    price = Price(input=2, cached_input=0.5, output=8)
    found = cost(price, prompt_tokens=prompt, completion_tokens=answer, cached_tokens=cached, batch=batch)
    share = 0.5 if batch else 1
    assert found is not None
    least, most = (0.5 * prompt + 8 * answer) * share / 1e6, (2 * prompt + 8 * answer) * share / 1e6
    assert least - 1e-9 <= found <= most + 1e-9
