"""Damaged files and sidecars: each is refused or described, without a crash, a hang or much memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anyform.contract.facts import MemoryEstimate, Settings, Severity
from anyform.kernel.files import FolderFiles
from anyform.testing import rkllm
from anyform.testing.asking import Asked
from anyform.testing.damage import distorted, scrambled
from anyform.testing.subject import check_wire

HEADERS, MEASURED, SIDECARS = 1000, 60, 150
SEED = 20_261
MOST_BYTES = 8 << 20
NAME = "Tiny-0.1B_W8A8_RK3588.rkllm"
FIRST = 40
"""Bytes of the first numbers, which are damaged more often than the rest."""
PIECES = (
    b"\x09\0\0\0\x08\0\0\0" + b"\xff" * 8, b"\x08\0\0\0" + b"\xff" * 8, b"\x08\0\0\0" + (1 << 40).to_bytes(8, "little"),
    b"\x09\0\0\0\x09\0\0\0" + (2).to_bytes(8, "little"), b"rkllm-toolkit version: ", b"GGUF", bytes(32),
)  # fmt: skip
VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**70,
    1e308,
    "",
    "RK3588",
    "w8a8",
    "1.2.3",
    "x" * 5000,
    "\ud800",
    [],
    {},
    [[]],
    [1],
)


def damaged(chance: random.Random, content: bytes) -> bytes:
    """*content*, wrong in its first numbers, its directory, or its end."""
    if chance.random() < 0.4:
        return scrambled(chance, content[:FIRST], PIECES) + content[FIRST:]
    if chance.random() < 0.2:
        return content[: chance.randrange(len(content))]
    return scrambled(chance, content, PIECES)


def originals() -> list[bytes]:
    few = rkllm.tiny_keys(40) | {"merges": ["a b"] * 20, "llama.list": [1.0, 2.0], "flag": True}
    return [
        rkllm.assemble(keys=few), rkllm.assemble(keys=few, trailer=None), rkllm.assemble(keys=few, version=2),
        rkllm.assemble(keys=few, trailer="1.3.0", stand_in=None), rkllm.assemble(keys={"general.architecture": "x"}),
    ]  # fmt: skip


def outcome(plugin: Asked, folder: Path) -> str:
    """Refused or described."""
    files = FolderFiles(folder)
    ended: set[str] = set()
    for match in plugin.ask("detect_format", files=files):
        found = plugin.ask("validate", files=files, match=match)
        said = plugin.ask("extract_metadata", files=files, match=match)
        settings = Settings(context=4096)
        (backend,) = plugin.ask("list_backends")
        told = plugin.ask("estimate_memory", backend=backend, metadata=said, settings=settings)
        assert isinstance(told, MemoryEstimate)
        assert 0 < told.at(settings) < 1 << 62
        assert said.tasks
        assert all(one.text and one.code.startswith("rkllm.") for one in found)
        for fact in (match, said, told, *found):
            check_wire(fact)
        ended.add("refused" if any(one.severity is Severity.CRITICAL for one in found) else "described")
    assert len(ended) == 1, "one file is one model"
    return ended.pop()


def ends(folder: Path, count: int) -> Counter[str]:
    """How *count* damaged files end."""
    chance, plugin = random.Random(SEED), Asked("anyform_rkllm.plugin", {"root": str(folder / "none")})
    whole, found = originals(), Counter[str]()
    for _ in range(count):
        (folder / NAME).write_bytes(damaged(chance, chance.choice(whole)))
        found[outcome(plugin, folder)] += 1
    return found


def test_1000_damaged_headers_are_refused_or_described(tmp_path: Path) -> None:
    found = ends(tmp_path, HEADERS)
    assert found.total() == HEADERS
    assert found["refused"] > HEADERS // 4
    assert found["described"] > HEADERS // 10


def test_damaged_headers_take_little_memory(tmp_path: Path) -> None:
    ends(tmp_path, 1)
    tracemalloc.start()
    ends(tmp_path, MEASURED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


def mutants(folder: Path) -> Iterator[None]:
    """*folder*, with one of its sidecars distorted at a time."""
    chance = random.Random(SEED)
    rkllm.write_model(folder, NAME, meta={"target_platform": "rk3588", "rkllm": {"toolkit": "1.2.3", "opt": 1}})
    names = ("config.json", "meta.json", "generation_config.json", "tokenizer_config.json")
    whole: dict[str, Any] = {name: json.loads((folder / name).read_bytes()) for name in names}
    for _ in range(SIDECARS):
        name = chance.choice(names)
        (folder / name).write_text(json.dumps(distorted(chance, whole[name], VALUES)))
        yield
        (folder / name).write_text(json.dumps(whole[name]))


def test_distorted_sidecars_are_refused_or_described(tmp_path: Path) -> None:
    plugin = Asked("anyform_rkllm.plugin", {"root": str(tmp_path / "none")})
    found = Counter(outcome(plugin, tmp_path) for _ in mutants(tmp_path))
    assert found.total() == SIDECARS
    assert found["described"] > SIDECARS // 2


def test_damaged_files_in_the_command_line(tmp_path: Path) -> None:
    """A handful by the kernel, its catalogue and the command."""
    chance, whole = random.Random(SEED), originals()
    for number in range(8):
        rkllm.write(tmp_path / "models" / f"m{number}" / NAME)
        (tmp_path / "models" / f"m{number}" / NAME).write_bytes(damaged(chance, chance.choice(whole)))
    known = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")
    environment = {name: value for name, value in os.environ.items() if name in known}
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "OLLAMA_MODELS"):
        environment[name] = str(tmp_path / "home")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "anyform", *words, "--models", str(tmp_path / "models"), "--json"],
            capture_output=True, encoding="utf-8", cwd=tmp_path, env=environment, timeout=60, check=False,
        )  # fmt: skip

    done = command("list")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    names = [model["name"] for model in json.loads(done.stdout)]
    assert len(names) == 8
    for name in names[:2]:
        shown = command("show", name)
        told = json.loads(shown.stdout)
        assert "Traceback" not in shown.stderr
        assert told["match"]["format"] == "rkllm"
        critical = [one for one in told["findings"] if one["severity"] == "critical"]
        assert shown.returncode == bool(critical), shown.stdout
