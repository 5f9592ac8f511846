"""Which folder onnxruntime-genai opens, and that no native code of a model's folder runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import LoadFailed
from anyform.contract.jobs import Complete, Generation
from anyform.testing.jobs import GREEDY
from anyform.testing.onnxbroken import BROKEN, GENAI_CONFIG, LIBRARY
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.safetensors import CHATML, write_llama

pytest.importorskip("onnxruntime_genai")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

BACKENDS = ("onnxruntime", "onnxruntime_genai")
NATIVE = [name for name in BROKEN if name.startswith("native code")]
SOURCE = """
#include <stdio.h>
__attribute__((constructor)) static void tell(void) { FILE *f = fopen("%s", "a"); if (f) fclose(f); }
void *RegisterCustomOps(void *options, void *api) { return 0; }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that leaves `ran` beside it once it is loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("library")
    (folder / "it.c").write_text(SOURCE % (folder / "ran"))
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", str(folder / LIBRARY), str(folder / "it.c")], check=True, timeout=60
    )
    return folder / LIBRARY


def loaded(kit: Any, folder: Path, backend: str = "onnxruntime_genai", **plan: Any) -> Any:
    from anyform_onnx.engine import of

    return of(backend).load(kit.plan(folder, backend=backend, context=128, parallel=1, threads=1, **plan))


def text(kit: Any, folder: Path, backend: str) -> str:
    model = loaded(kit, folder, backend)
    try:
        generation = Generation(max_tokens=8, ignore_eos=True, sampling=GREEDY)
        return str(kit.ask(model, Complete(prompt="What is 3", generation=generation)).text)
    finally:
        model.close()


@pytest.mark.parametrize("name", NATIVE)
def test_native_code_is_refused_at_load_too(kit: Any, library: Path, tmp_path: Path, name: str) -> None:
    """What was validated may have been written anew since."""
    BROKEN[name].sound(tmp_path)
    BROKEN[name].damage(tmp_path)
    shutil.copy(library, tmp_path)
    with pytest.raises(LoadFailed) as caught:
        loaded(kit, tmp_path)
    assert GENAI_CONFIG in caught.value.message
    assert not (library.parent / "ran").exists()


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A repository as the hub's cache keeps it, with a folder for the CPU in which the builder wrote no config.json."""
    made = write_llama(tmp_path / "made", template=CHATML)
    write_decoder(made / "cpu-int4", made, layout="onnx_genai")
    (made / "cpu-int4/config.json").unlink()
    (made / "model.safetensors").unlink()
    place, blobs = tmp_path / "repository/snapshots/abc", tmp_path / "repository/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in made.rglob("*") if path.is_file())):
        link = place / path.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    return place


def test_the_engines_open_the_entrys_own_folder(kit: Any, snapshot: Path) -> None:
    expected = text(kit, snapshot, "onnxruntime")
    assert expected
    assert text(kit, snapshot, "onnxruntime_genai") == expected


def test_what_lies_above_is_not_opened(kit: Any, snapshot: Path, library: Path) -> None:
    said = json.loads((snapshot / "cpu-int4" / GENAI_CONFIG).read_text())
    said["model"]["decoder"]["session_options"] = {"custom_ops_library": LIBRARY}
    (snapshot / GENAI_CONFIG).write_text(json.dumps(said))
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copy(snapshot / "cpu-int4" / name, snapshot)
    shutil.copy(library, snapshot)
    below(kit, snapshot, f"cpu-int4/{GENAI_CONFIG}").close()
    assert not (library.parent / "ran").exists()


def below(kit: Any, folder: Path, entry: str) -> Any:
    from anyform.kernel.files import FolderFiles
    from anyform_onnx import detection, metadata
    from anyform_onnx.engine import of

    files = FolderFiles(folder)
    match = next(one for one in detection.detect(files) if one.entry == entry)
    plan = kit.plan(folder, backend="onnxruntime_genai", context=128, parallel=1, threads=1)
    return of(plan.backend).load(replace(plan, match=match, metadata=metadata.extract(files, match)))


def test_a_manifest_leads_the_engine_nowhere(kit: Any, snapshot: Path) -> None:
    folder = snapshot / "cpu-int4"
    expected = text(kit, folder, "onnxruntime_genai")
    (folder / "manifest.json").write_text(json.dumps({"schema_version": "1.0", "components": ["other"]}))
    assert text(kit, folder, "onnxruntime_genai") == expected


def test_what_was_staged_goes_with_the_model(kit: Any, snapshot: Path) -> None:
    import tempfile

    place = Path(tempfile.gettempdir())
    before = {*place.glob("anyform-genai-*")}
    model = loaded(kit, snapshot)
    assert len({*place.glob("anyform-genai-*")} - before) == 1
    model.close()
    assert {*place.glob("anyform-genai-*")} <= before


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    from anyform_onnx.genai.staging import Stage

    folder = write_decoder(tmp_path / "model", layout="onnx_genai")
    (folder / LIBRARY).touch()
    (folder / "manifest.json").write_text("{}")
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    stage = Stage(folder, {"a": 1}, tmp_path)
    there = {path.name for path in folder.iterdir()} - {LIBRARY, "manifest.json"} | {"tokenizer.json"}
    assert {path.name for path in stage.path.iterdir()} == there
    assert json.loads((stage.path / GENAI_CONFIG).read_text()) == {"a": 1}
    stage.close()
    assert not stage.path.exists()
    assert (folder / "model.onnx").stat().st_size
