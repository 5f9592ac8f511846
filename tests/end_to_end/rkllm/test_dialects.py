"""Every dialect gives the stand-in library's answer, streamed and not."""

from __future__ import annotations

import pytest

from anyform.testing.ways import answers

from .house import Served

pytestmark = pytest.mark.engine

WORDS = "the same in every dialect, and all of it"


def test_every_dialect_says_the_same(served: Served) -> None:
    said = answers(served.http, "chat", f"!say {WORDS}", 60)
    assert len(said) == 14
    assert set(said.values()) == {WORDS}, said
