"""One server over the sample models as each installed engine reads them, and over echo; and where npm's clients lie."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.sources.stores import Stores
from anyform.testing.echo import write_echo
from anyform.testing.serving import Served

NPM = Path(__file__).parent / "npm"
MODULES = "node_modules"
PROJECT = ("package.json", "package-lock.json")
INSTALL_S = 60
ONCE = "--prefer-offline --fetch-timeout=5000 --fetch-retries=1 --fetch-retry-mintimeout=500"
INSTALL = f"npm ci --ignore-scripts --no-audit --no-fund {ONCE}"
"""Where the registry is not there, or says nothing, it ends within some 12 s."""
FORMS = {
    "echo": (),
    "gguf": ("llama_cpp", "anyform_samples"),
    "transformers": ("torch", "transformers", "anyform_samples"),
    "onnx": ("onnxruntime", "tokenizers", "numpy", "anyform_samples"),
    "genai": ("onnxruntime_genai", "tokenizers", "numpy", "anyform_samples"),
}
"""Models by name, and what must be there for each."""


def installed(name: str) -> bool:
    """Whether all that the model needs is."""
    return all(importlib.util.find_spec(one) is not None for one in FORMS[name])


def write(name: str, root: Path) -> None:
    """The sample decoder in that form; echo for echo."""
    if name == "echo":
        write_echo(root / "echo.echo")
        return
    from anyform_samples import layout

    source = Path(layout.SAMPLE)
    if name == "gguf":
        shutil.copyfile(source / layout.SAMPLE_GGUF, root / "gguf.gguf")
    elif name == "transformers":
        shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("*.gguf"))
    else:
        from anyform.testing.onnxdecoder import write_decoder

        write_decoder(root / name, source, layout="onnx_genai" if name == "genai" else "onnx")


@pytest.fixture(scope="session", autouse=True)
def quiet() -> Iterator[None]:
    """Clients that ask no other server: litellm would for its prices, langchain for its traces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("LANGSMITH_TRACING", "false")
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """All models whose engine is here, and the sample encoder."""
    root = tmp_path_factory.mktemp("models")
    for name in FORMS:
        if installed(name):
            write(name, root)
    if installed("gguf"):
        from anyform_samples.embedding import layout

        shutil.copyfile(Path(layout.DATA) / layout.GGUF, root / "embed.gguf")
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("state")
    stores = Stores(home=home, names=("anyform",))
    settings = Settings(context=1024, parallel=2)
    running = Served(start(folders=[root], where="here", state=state, stores=stores, defaults=settings))
    yield running
    running.close()


@pytest.fixture(scope="session")
def model(served: Served) -> str:
    """One that chats and calls tools."""
    if not installed("gguf"):
        pytest.skip("llama_cpp is not installed")
    return "gguf"


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and npm's clients, installed once for as long as their versions stay."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    stamp = hashlib.sha256(b"".join((NPM / name).read_bytes() for name in PROJECT)).hexdigest()[:16]
    clients, folder = Path(sys.prefix) / "npm-clients" / stamp, tmp_path_factory.mktemp("npm")
    if not (clients / MODULES).is_dir():
        _install(clients)
    for script in NPM.glob("*.mjs"):
        shutil.copyfile(script, folder / script.name)
    (folder / MODULES).symlink_to(clients / MODULES)
    return folder


def _install(clients: Path) -> None:
    """All of them or none, whoever else does the same now."""
    clients.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=clients.parent) as name:
        made = Path(name) / "made"
        made.mkdir()
        for one in PROJECT:
            shutil.copyfile(NPM / one, made / one)
        try:
            done = subprocess.run(
                INSTALL.split(), cwd=made, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm ci did not end within {INSTALL_S} s")
        if done.returncode:
            errors = (line.removeprefix("npm error ") for line in done.stderr.splitlines() if "error" in line)
            pytest.skip(f"npm ci failed: {' '.join(errors)[:300]}")
        with suppress(OSError):  # another was first
            made.rename(clients)
