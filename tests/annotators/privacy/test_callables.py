"""Recognizers that lie beside defs.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Privacy

STAFF = """
import re

def find(text):
    for match in re.finditer(r"E-\\d+", text):
        yield match.start(), match.end(), "employee_id"
"""


def redactor(folder: Path, code: str, reference: str = "staff.py:find") -> Redactor:
    (folder / "staff.py").write_text(code, encoding="utf-8")
    return Redactor(Privacy(redact=["email"], recognizers=[reference]), folder)


def test_what_a_function_finds_is_taken_out_too(tmp_path: Path) -> None:
    redacted = redactor(tmp_path, STAFF).redact("E-123 is ana@example.org, E-7 is not E-123")
    assert redacted.text == "[EMPLOYEE_ID_1] is [EMAIL_1], [EMPLOYEE_ID_2] is not [EMPLOYEE_ID_1]"
    assert redacted.mapping["[EMPLOYEE_ID_2]"] == "E-7"


def test_a_function_may_return_a_list_and_find_persons_without_a_model(tmp_path: Path) -> None:
    code = "def find(text): return [(0, 3, 'person')]"
    assert redactor(tmp_path, code).redact("Ana met Bo").text == "[PERSON_1] met Bo"


def test_recognizers_alone_make_the_redactor_active(tmp_path: Path) -> None:
    assert Redactor(Privacy(recognizers=["staff.py:find"]), tmp_path).active


@pytest.mark.parametrize(
    "given", ["(0, 99, 'x')", "(2, 2, 'x')", "(0, 1, 'Not A Kind')", "(0, 1)", "('0', 1, 'x')", "7"]
)
def test_a_finding_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(DeclarationError, match=r"staff.py \(find\): expected \(start, end, kind\)") as error:
        redactor(tmp_path, f"def find(text): return [{given}]").redact("secret")
    assert "secret" not in str(error.value)


def test_a_function_that_gives_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"expected an iterable of .*, found NoneType"):
        redactor(tmp_path, "def find(text): pass").redact("a text")


def test_a_failure_names_the_line_and_does_not_repeat_the_text(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"staff.py:2 \(find\): raised ValueError") as error:
        redactor(tmp_path, "def find(text):\n    raise ValueError(text)").redact("secret")
    assert "secret" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize(
    ("code", "reference", "problem"),
    [
        ("", "staff.py", "expected file.py:function"),
        ("", "other.py:find", "there is no such file"),
        ("", "staff.py:find", "there is no function 'find'"),
        ("find = 7", "staff.py:find", "there is no function 'find'"),
        ("def find(:", "staff.py:find", "staff.py:1: cannot be loaded: SyntaxError"),
    ],
)
def test_a_recognizer_that_is_not_there_is_refused(tmp_path: Path, code: str, reference: str, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        redactor(tmp_path, code, reference).redact("a text")
