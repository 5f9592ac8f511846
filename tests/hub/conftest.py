"""A hub on loopback, and what pulls from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.plugins import Plugins
from anyform.sources.hub import Hub, Patience
from anyform.sources.hubname import require
from anyform.sources.hubpull import Pulled, Wish, pull
from anyform.testing.gguf import write_llama

from .server import LoopbackHub

QUICK = Patience(tries=3, wait_s=0.01, longest_s=0.05, silence_s=0.5)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture
def tiny(hub: LoopbackHub, tmp_path: Path) -> Path:
    """owner/tiny: two quantizations, and files that no GGUF needs."""
    folder = tmp_path / "origin"
    for quantization in ("Q8_0", "F16"):
        write_llama(folder / f"tiny-{quantization}.gguf", quantization=quantization)
    (folder / "README.md").write_text("# tiny\n")
    (folder / "config.json").write_text("{}")
    hub.add("owner/tiny", {path.name: path for path in sorted(folder.iterdir())})
    return folder


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return Plugins.discover()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No token of whoever runs the tests; where huggingface_hub would keep one."""
    from huggingface_hub import constants

    folder = tmp_path / "account"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "stored_tokens"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return folder


@pytest.fixture
def client(hub: LoopbackHub) -> Hub:
    return Hub(hub.endpoint, patience=QUICK)


@pytest.fixture
def get(client: Hub, plugins: Plugins, home: Path) -> Callable[..., Pulled]:
    """Pulls a name, in this process."""

    def run(name: str, *, include: tuple[str, ...] = (), names: tuple[str, ...] = (), **more: Any) -> Pulled:
        wish = Wish(reference=require(name), include=include, names=names)
        return pull(more.pop("hub", client), more.pop("plugins", plugins), home, wish, **more)

    return run


class Cli:
    """The command in a process of its own, which knows the loopback hub and keeps all it has below *folder*."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.home = folder / "data" / "models"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYFORM_", "HF_", "XDG_"))}
        own = {"HOME": str(self.folder), "USERPROFILE": str(self.folder), "HF_ENDPOINT": self.endpoint}
        own |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HOME": str(self.folder / "hf")}
        return (
            kept
            | own
            | {"ANYFORM_MODELS_HOME": str(self.home), "ANYFORM_MODELS_SOURCES": "anyform"}
            | dict(extra or {})
        )

    def __call__(
        self, *arguments: str | Path, input: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "anyform", *map(str, arguments)],
            input=input,
            capture_output=True,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environment(env),
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The command, left running."""
        return subprocess.Popen(
            [sys.executable, "-m", "anyform", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environment(env),
        )


@pytest.fixture
def cli(hub: LoopbackHub, tmp_path: Path) -> Cli:
    return Cli(tmp_path, hub.endpoint)
