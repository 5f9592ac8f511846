"""A server over echo models, with Ollama's API and all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.kernel.rule import Rule
from anyform.testing import serving as kit
from anyform.testing.echo import write_echo

RULES: dict[str, dict[str, Any]] = {
    "caller": {"request": {"tool_choice": "required"}},
    "told": {
        "system": "Be kind.",
        "messages": ({"role": "user", "content": "A."}, {"role": "assistant", "content": "B."}),
    },
    "remarking": {"settings": Settings(options={"remark": "This is an echo."})},
    "cutting": {"request": {"truncate": True}},
    "cutter": {"request": {"truncate": True}},
    "brief": {"request": {"max_tokens": 2, "stop": ["three"]}},
}
"""What the settings say of some of the models."""
ECHOES: dict[str, dict[str, Any]] = {"cutting": {"context": 12}, "cutter": {"tasks": ["embed"], "context": 8}}
"""What is special about the models themselves."""


class Served(kit.Served):
    """A server with a client of its own."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.http = httpx.Client(base_url=self.url, timeout=20)

    def close(self) -> None:
        self.http.close()
        super().close()


@pytest.fixture(scope="session")
def serving() -> type[Served]:
    """For fixtures that end their server themselves."""
    return Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over echo models of several kinds."""
    root = tmp_path_factory.mktemp("models")
    write_echo(root / "parrot.echo.json", features=["tools", "thinking", "vision"])
    write_echo(root / "plain.echo.json", features=[])
    write_echo(root / "small.echo.json", context=12)
    write_echo(root / "base.echo.json", tasks=["complete"], context=64)
    write_echo(root / "embedder.echo.json", tasks=["embed"], context=8)
    write_echo(root / "slow.echo.json", options={"delay_s": 0.02})
    for name in RULES:
        write_echo(root / f"{name}.echo.json", **ECHOES.get(name, {}))
    runtime = start(
        folders=[root],
        where="here",
        state=tmp_path_factory.mktemp("state"),
        defaults=Settings(parallel=4),
        rules=lambda entry: Rule(**RULES.get(entry.name, {})),
    )
    here = Served(runtime)
    yield here
    here.close()


@pytest.fixture
def post(served: Served) -> Callable[..., httpx.Response]:
    """Posts a JSON body, given as keywords, to a path."""
    return lambda path, **body: served.http.post(path, json=body)
