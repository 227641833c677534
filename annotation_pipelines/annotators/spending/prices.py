"""What a call costs. A price that nobody stated is unknown: None, never zero.

Three places state prices, each winning over the next: `price` in the annotator's declaration, `prices.yaml` in the
workspace folder, and this package's own `prices.yaml`, with OpenAI's list prices. A local server is in none of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import OpenAIAnnotator, Price

PRICES_FILE = "prices.yaml"

Prices = Mapping[str, Mapping[str, Price]]
"""Endpoint (base URL without a slash at its end, or its beginning; host with port; host) to model to price."""

_SNAPSHOT = re.compile(r"(.+)-[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EXAMPLE = "Write it as in: {api.openai.com: {gpt-4o: {input: 2.5, cached_input: 1.25, output: 10}}}"


@dataclass(frozen=True)
class PriceTable:
    """Prices of several origins.

    Attributes:
        origins: The one that wins first.
    """

    origins: tuple[Prices, ...]

    def price(self, endpoint: str, model: str) -> Price | None:
        """What a model costs there; None where no origin says.

        Within an origin the longest base URL wins, then a host with its port, then a host. A snapshot that is not
        listed, the model's name followed by -YYYY-MM-DD, costs what its model costs; any other longer name is another
        model.
        """
        snapshot = _SNAPSHOT.fullmatch(model)
        names = (model, snapshot[1]) if snapshot else (model,)
        for prices in self.origins:
            for key in _endpoint_keys(endpoint):
                for name in names:
                    if price := prices.get(key, {}).get(name):
                        return price
        return None


def find_price(settings: OpenAIAnnotator, endpoint: str, project_folder: Path) -> Price | None:
    """The price that counts for a declared annotator: its own, else the workspace's, else this package's.

    Raises:
        DeclarationError: The workspace's prices.yaml says something impossible.
    """
    return settings.price or load_prices(workspace_folder(project_folder)).price(endpoint, settings.model)


def load_prices(workspace_folder: Path | None) -> PriceTable:
    """This package's prices below those of a workspace, where it has a prices.yaml.

    Raises:
        DeclarationError: The file cannot be read, is not YAML, or says something impossible; every problem is named
            with its line.
    """
    file = workspace_folder / PRICES_FILE if workspace_folder else None
    if file is None or not file.exists():
        return PriceTable((_own_prices(),))
    return PriceTable((read_prices(file), _own_prices()))


def workspace_folder(project_folder: Path) -> Path | None:
    """The nearest folder with workspace.yaml, from a project's folder upwards."""
    folder = project_folder.resolve()
    return next((f for f in (folder, *folder.parents) if (f / "workspace.yaml").is_file()), None)


def cost(
    price: Price | None,
    *,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    cached_tokens: int | None = None,
    batch: bool = False,
) -> float | None:
    """US dollars for one reply; None where the price or a count is unknown.

    Args:
        prompt_tokens: Tokens read, cached ones included.
        completion_tokens: Tokens written, those of hidden reasoning included.
        cached_tokens: Of the tokens read, those that the endpoint had cached; unknown counts as none.
        batch: Whether it came by the batch API.
    """
    if price is None or prompt_tokens is None or completion_tokens is None:
        return None
    cached = min(cached_tokens or 0, prompt_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    dollars = (prompt_tokens - cached) * price.input + cached * cached_price + completion_tokens * price.output
    return dollars * (price.batch if batch else 1.0) / 1e6


def read_prices(file: Path) -> Prices:
    """The prices in a YAML file.

    Raises:
        DeclarationError: As `load_prices`.
    """
    try:
        text = file.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        return _prices(loader, root, file)
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"cannot be read: {error}", where=file) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise DeclarationError(f"not valid YAML: {getattr(error, 'problem', None) or error}", where=where) from None


@cache
def _own_prices() -> Prices:
    return read_prices(Path(str(files(__package__) / PRICES_FILE)))


def _prices(loader: yaml.SafeLoader, root: yaml.Node, file: Path) -> Prices:
    prices: dict[str, dict[str, Price]] = {}
    problems: list[str] = []
    for endpoint, line, models in _pairs(loader, root, "endpoints", file.name, problems):
        try:
            key = _endpoint_keys(endpoint)[0]
        except ValueError as error:
            problems.append(f"{file.name}:{line} {endpoint}: expected a host or a base URL ({error})")
            continue
        if key in prices:
            problems.append(f"{file.name}:{line} {endpoint}: listed twice")
        listed = prices.setdefault(key, {})
        for model, model_line, node in _pairs(loader, models, f"models of {endpoint}", file.name, problems):
            if model in listed:
                problems.append(f"{file.name}:{model_line} {model}: listed twice")
            try:
                listed[model] = _price(loader.construct_object(node, deep=True))
            except ValueError as error:
                problems.append(f"{file.name}:{model_line} {model}: {error}")
    if problems:
        raise DeclarationError("; ".join(problems), where=file.parent, todo=_EXAMPLE)
    return prices


def _pairs(
    loader: yaml.SafeLoader, node: yaml.Node, what: str, file: str, problems: list[str]
) -> Iterator[tuple[str, int, yaml.Node]]:
    """Key, its line and its value, of every entry of a mapping; what is wrong goes to `problems`."""
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{file}:{node.start_mark.line + 1} expected a mapping of {what}, found {node.value!r}")
        return
    for key_node, value in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if isinstance(key, str) and key:
            yield key, line, value
        else:
            problems.append(f"{file}:{line} expected a name in {what}, found {key!r}: write it in quotes")


def _price(value: Any) -> Price:
    """The price that a mapping states.

    Raises:
        ValueError: It is none; in one line.
    """
    keys = "input, output, and optionally cached_input and batch"
    if not isinstance(value, dict):
        raise ValueError(f"expected {keys}, found {value!r}")
    try:
        price = Price.model_validate(value, strict=True)
    except ValidationError as error:
        raise ValueError("; ".join(_problem(e, keys) for e in error.errors())) from None
    for name, number in price.model_dump(exclude_none=True).items():
        if not math.isfinite(number):
            raise ValueError(f"{name}: expected a number of dollars, found {number}")
    return price


def _problem(error: Any, keys: str) -> str:
    name = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown key; expected {keys}"
    if error["type"] == "missing":
        return f"{name}: required, but not there"
    return f"{name}: {error['msg']}, found {error['input']!r}"


def _endpoint_keys(endpoint: str) -> tuple[str, ...]:
    """Under which names an endpoint may be listed, the most exact first."""
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    address = parts.netloc.rpartition("@")[2].lower()
    host = address if address.endswith("]") else re.sub(r":\d*$", "", address)
    urls: list[str] = []
    if parts.scheme:
        path = parts.path.rstrip("/")
        folders = [path[:end] for end in range(len(path), 0, -1) if end == len(path) or path[end] == "/"]
        urls = [f"{parts.scheme}://{address}{folder}" for folder in (*folders, "")]
    return tuple(dict.fromkeys((*urls, address, host)))
