"""Kokoro and Piper's voices come with all that belongs to them, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.sources.hubpull import Pulled
from anyform.testing.kokoro import write_kokoro
from anyform.testing.piper import write_piper

from .server import LoopbackHub

Get = Callable[..., Pulled]
VOICES = ("voices/af_heart.bin", "voices/bm_lewis.bin")


def added(hub: LoopbackHub, name: str, folder: Path) -> None:
    (folder / "README.md").write_text("# A model\n")
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    hub.add(name, files)


def there(home: Path) -> set[str]:
    """The files that came, without the folder of the repository."""
    found = (path for path in home.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {"/".join(path.relative_to(home).parts[2:]) for path in found}


FILES = {"": "model", ":q8f16": "model_q8f16", ":quantized": "model_quantized"}


@pytest.mark.parametrize(("asked", "file"), FILES.items())
def test_a_variant_of_kokoro_and_its_voices(
    hub: LoopbackHub, get: Get, home: Path, tmp_path: Path, asked: str, file: str
) -> None:
    """Larger than what is looked at before it is fetched: its inputs are not seen."""
    variants = ("", "q8f16", "quantized", "fp16")
    write_kokoro(
        tmp_path / "k", layout="folder", variants=variants, voices=("af_heart", "bm_lewis"), ballast_bytes=4 << 20
    )
    added(hub, "owner/kokoro", tmp_path / "k")
    get(f"owner/kokoro{asked}")
    assert there(home) >= {f"onnx/{file}.onnx", *VOICES}
    assert {name for name in there(home) if name.endswith(".onnx")} == {f"onnx/{file}.onnx"}


def test_kokoro_with_an_archive_of_voices(hub: LoopbackHub, get: Get, home: Path, tmp_path: Path) -> None:
    write_kokoro(tmp_path / "k", variants=("", "int8"), ballast_bytes=4 << 20)
    added(hub, "owner/kokoro", tmp_path / "k")
    get("owner/kokoro:int8")
    assert there(home) >= {"kokoro-v1.0.int8.onnx", "voices-v1.0.bin"}
    assert "kokoro-v1.0.onnx" not in there(home)


def test_one_voice_of_piper(hub: LoopbackHub, get: Get, home: Path, tmp_path: Path) -> None:
    write_piper(tmp_path / "p")
    added(hub, "owner/piper", tmp_path / "p")
    get("owner/piper")
    assert there(home) >= {"en_US-standin-medium.onnx", "en_US-standin-medium.onnx.json"}


def test_one_voice_of_many_four_folders_deep(hub: LoopbackHub, get: Get, home: Path, tmp_path: Path) -> None:
    """As rhasspy/piper-voices lays them out: language/region/name/quality/."""
    for place, name in (("en/en_US/lessac/medium", "en_US-lessac-medium"), ("de/de_DE/eva/low", "de_DE-eva-low")):
        (tmp_path / "v" / place).mkdir(parents=True)
        write_piper(tmp_path / "v" / place, name)
    added(hub, "owner/voices", tmp_path / "v")
    get("owner/voices:en_US-lessac-medium")
    assert {name for name in there(home) if ".onnx" in name} == {
        "en/en_US/lessac/medium/en_US-lessac-medium.onnx",
        "en/en_US/lessac/medium/en_US-lessac-medium.onnx.json",
    }
