"""The system prompt's template: the package's own, or a user's, rendered once a run in a sandbox.

Labels, descriptions and guideline are values of the template, never parts of it: braces in them are only braces. No
record comes near it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from annotation_pipelines.errors import DeclarationError

if TYPE_CHECKING:
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = ("instructions", "labels", "guideline", "records", "answer")
"""What a template may show: the task in words, with every label; a mapping of the answers to their descriptions; the
guideline, empty for none; the paragraph on how records are fenced; the answer's fields, each with name and
description."""

_WHERE = "prompt"


def render(
    template: str | None,
    *,
    instructions: str,
    labels: Mapping[str, str],
    guideline: str,
    records: str,
    answer: Sequence[Mapping[str, str]],
    heading: str | None = None,
) -> str:
    """The text of the system prompt.

    Args:
        template: A Jinja template; None for the package's own.
        heading: Of a list that comes with each record, which the instructions name.

    Raises:
        DeclarationError: The template has a syntax error, names a variable that is not there, tries to leave the
            sandbox, fails, or leaves out what no prompt can do without.
    """
    import jinja2

    source = default_template() if template is None else template
    environment = _sandbox()
    try:
        tree = environment.parse(source)
        _check(environment, tree)
        text = environment.from_string(source).render(
            instructions=instructions, labels=dict(labels), guideline=guideline, records=records, answer=list(answer)
        )
    except jinja2.TemplateSyntaxError as error:
        raise _refused(error.message or "a syntax error", error.lineno) from None
    except DeclarationError:
        raise
    except Exception as error:
        # Whatever a template does wrong is its author's to mend: an unsafe attribute, an index that is not there.
        raise _refused(str(error) or type(error).__name__, _line(error)) from None
    text = text.strip()
    _check_shown(text, labels, [field["name"] for field in answer])
    if heading and heading not in text:
        raise _incomplete(f"does not name the list {heading!r}", "{{ instructions }}")
    return text


def default_template() -> str:
    """The package's own template."""
    return Path(__file__).with_name("system_prompt.jinja").read_text(encoding="utf-8")


def _sandbox() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, loader=None, trim_blocks=True, lstrip_blocks=True
    )
    # The prompt must be the same in every run: what is drawn at random has no place in it.
    del environment.globals["lipsum"], environment.filters["random"]
    return environment


def _check(environment: ImmutableSandboxedEnvironment, tree: nodes.Template) -> None:
    """Refuse unknown variables, in branches that are not taken too, and other files."""
    from jinja2 import meta, nodes

    for kind in (nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport):
        for node in tree.find_all(kind):
            raise _refused(f"expected a template that stands alone, found {kind.__name__.lower()}", node.lineno)
    unknown = meta.find_undeclared_variables(tree) - set(VARIABLES) - set(environment.globals)
    for name in tree.find_all(nodes.Name):
        if name.name in unknown:
            known = ", ".join(VARIABLES)
            raise _refused(f"expected one of the variables {known}, found {name.name!r}", name.lineno)


def _check_shown(text: str, labels: Iterable[str], fields: Iterable[str]) -> None:
    missing = [name for name in labels if not _shows(text, name)]
    if missing:
        raise _incomplete(f"does not show the label {missing[0]!r}", "{{ instructions }}")
    missing = [name for name in fields if not _shows(text, name)]
    if missing or "json" not in text.casefold():
        what = f"the field {missing[0]!r} of the answer" if missing else "that the answer is a JSON object"
        raise _incomplete(
            f"does not say {what}", "JSON, and {% for field in answer %}{{ field.name }}: {{ field.description }}..."
        )
    if "<record>" not in text:
        raise _incomplete("does not say that a record stands between <record> and </record>", "{{ records }}")


def _shows(text: str, name: str) -> bool:
    written = {name, json.dumps(name, ensure_ascii=False)[1:-1]}
    return any(re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) for form in written)


def _line(error: BaseException) -> int | None:
    """The line of the template where an error arose: Jinja writes it into the traceback."""
    found, step = None, error.__traceback__
    while step:
        if step.tb_frame.f_code.co_filename == "<template>":
            found = step.tb_lineno
        step = step.tb_next
    return found


def _refused(problem: str, line: int | None) -> DeclarationError:
    where = _WHERE if line is None else f"{_WHERE}: line {line}"
    return DeclarationError(problem, where=where, todo="Correct the template, or leave prompt out")


def _incomplete(problem: str, write: str) -> DeclarationError:
    return DeclarationError(f"the template {problem}", where=_WHERE, todo=f"Write {write} where it belongs")
