"""docs/plugins.md is true of dialects too: the page's is made and asked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from anyform.assembly import start
from anyform.builtin import echo, machine
from anyform.http.app import create
from anyform.http.config import HttpConfig, Listener
from anyform.kernel.plugins import Plugins
from anyform.testing.echo import write_echo

PAGE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`(plain_api/\w+\.py)`:\n\n```python\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def plain_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's plugin, imported."""
    for name, content in FILE.findall(PAGE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "plain_api" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("plain_api.plugin")
    for name in [name for name in sys.modules if name.startswith("plain_api")]:
        del sys.modules[name]


def test_the_dialect_of_the_page_answers_and_refuses(plain_api: Any, tmp_path: Path) -> None:
    write_echo(tmp_path / "m" / "parrot.echo.json")
    plugins = Plugins.of({"echo": echo, "machine": machine, "plain_api": plain_api})
    runtime = start(folders=[tmp_path / "m"], where="here", plugins=plugins)
    app = create(runtime, HttpConfig(listeners=(Listener(dialects=("plain_api",)),)))
    assert plugins.failures == []
    assert app.state.faces[1].state.listener.port == 11999
    with TestClient(app, base_url="http://127.0.0.1") as client:
        asked = client.post("/plain/ask", json={"model": "parrot", "question": "one two", "max_tokens": 5})
        assert (asked.status_code, asked.text.strip()) == (200, "one two")
        assert asked.headers["content-type"] == "text/plain; charset=utf-8"
        for body, field in (
            ({"model": "parrot"}, "question"),
            ({"model": "parrot", "question": "a", "seed": "b"}, "seed"),
        ):
            refused = client.post("/plain/ask", content=json.dumps(body))
            assert refused.status_code == 400
            assert refused.text.startswith("sorry: ")
            assert field in refused.text
        assert client.get("/plain/ask").text.startswith("sorry: Not allowed")
    runtime.close()
