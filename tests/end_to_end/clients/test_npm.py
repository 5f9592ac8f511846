"""Clients of other servers, from npm: each script uses one, and fails where an answer is not as it should be."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine

LONGEST_S = 120


@pytest.mark.parametrize("script", ["ollama", "openai", "anthropic"])
def test_a_client_of_npm(npm: Path, served: Any, model: str, script: str) -> None:
    command = ["node", f"{script}.mjs", served.url, model, "embed"]
    done = subprocess.run(command, cwd=npm, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
