"""The toolkit's names cost nothing until they are used."""

from __future__ import annotations

import subprocess
import sys

import anyform.text


def test_importing_the_toolkit_imports_no_library() -> None:
    check = "import sys, anyform.text; print([m for m in ('jinja2', 'llguidance', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"


def test_plain_parts_import_no_library() -> None:
    check = (
        "import sys; from anyform.text import AnswerParser, AnswerStream, Detokenizer, StopStrings, dialect_of;"
        "print([m for m in ('jinja2', 'llguidance', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    assert anyform.text.__all__ == sorted(anyform.text.__all__, key=lambda name: (not name.isupper(), name))
    for name in anyform.text.__all__:
        assert getattr(anyform.text, name) is not None
