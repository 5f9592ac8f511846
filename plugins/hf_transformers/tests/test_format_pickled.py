"""PyTorch's pickles are looked into, never unpickled: only what weights need is let through."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Severity
from anyform.kernel.files import FolderFiles
from anyform.testing.safetensors import state_pickle, tensor, write_pickled
from anyform_hf_transformers import pickled

TENSORS = [tensor("a.weight", 2, 3), tensor("b", 4, dtype="F16")]
NAME = "pytorch_model.bin"


class Harmful:
    """What an attacker pickles: it would leave a mark if anybody unpickled it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def codes(path: Path) -> list[str]:
    found = list(pickled.check(FolderFiles(path), path.name))
    assert all(finding.severity is Severity.CRITICAL and path.name in finding.text for finding in found)
    return [finding.code.removeprefix("hf.") for finding in found]


def zipped(path: Path, data: bytes, name: str = "archive/data.pkl", method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)
    return path


def test_the_writer_of_these_tests_writes_what_unpickles() -> None:
    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return OrderedDict if name == "OrderedDict" else lambda *given: (name, *given)

        def persistent_load(self, pid: Any) -> Any:
            return pid[0], pid[2], pid[4]

    found = Reader(io.BytesIO(state_pickle(TENSORS))).load()
    assert list(found) == ["a.weight", "b"]
    assert found["a.weight"][:5] == ("_rebuild_tensor_v2", ("storage", "0", 6), 0, (2, 3), (3, 1))


def test_weights_are_sound(tmp_path: Path) -> None:
    assert codes(write_pickled(tmp_path / NAME, TENSORS)) == []


@pytest.mark.parametrize("protocol", range(6))
def test_a_harmful_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    data = pickle.dumps({"a": Harmful(mark)}, protocol)
    assert codes(zipped(tmp_path / NAME, data)) == ["dangerous_pickle"]
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists()  # so it was harmful indeed


@pytest.mark.parametrize(
    "imported",
    [
        b"cos\nsystem\n", b"cbuiltins\neval\n", b"c__builtin__\nexec\n", b"ctorch.hub\nload\n", b"ctorch\nload\n",
        b"ctorch._utils\n_import_dotted_name\n", b"ctorch.serialization\nos.system\n", b"ccollections\nos\n",
        b"cnumpy.core.multiarray\n_reconstruct\n", b"ctorch._utils \n_rebuild_tensor_v2\n", b"ctorchx\nFloatStorage\n",
        b"(ios\nsystem\n", b"\x82\x01",
    ],
)  # fmt: skip
def test_imports_that_weights_do_not_need(tmp_path: Path, imported: bytes) -> None:
    assert codes(write_pickled(tmp_path / NAME, TENSORS, extra=imported)) == ["dangerous_pickle"]


def test_an_import_put_together_on_the_stack(tmp_path: Path) -> None:
    names = b"".join(b"\x8c" + bytes([len(word)]) + word for word in (b"torch", b"FloatStorage"))
    path = write_pickled(tmp_path / NAME, TENSORS, extra=names + b"\x93")
    [finding] = pickled.check(FolderFiles(path), path.name)
    assert "torch.FloatStorage" in finding.text


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_pytorch"),
        (b"GGUF" + bytes(100), "not_pytorch"),
        (b"PK\x03\x04" + bytes(100), "truncated"),
        (b"\x80\x02" + bytes(100), "bad_pickle"),
        (b"\x80\x02.", "truncated"),
        (b"PK\x03\x04" + b"PK\x05\x06" + bytes(18), "bad_archive"),
        (b"PK\x03\x04" + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, 0xFFFFFF, 0, 0), "bad_archive"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / NAME
    path.write_bytes(content)
    assert codes(path) == [code]


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    sound = state_pickle(TENSORS)
    assert codes(zipped(tmp_path / "a.bin", sound, "archive/other.pkl")) == ["bad_archive"]
    assert codes(zipped(tmp_path / "b.bin", sound * 100, method=zipfile.ZIP_DEFLATED)) == ["bad_archive"]
    with zipfile.ZipFile(zipped(tmp_path / "c.bin", sound), "a") as archive:
        archive.writestr("archive/code/__torch__.py", "")
    assert codes(tmp_path / "c.bin") == ["torchscript"]
    with zipfile.ZipFile(zipped(tmp_path / "d.bin", sound), "a") as archive:
        archive.writestr("other/data.pkl", sound)
    assert codes(tmp_path / "d.bin") == ["bad_archive"]


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_archive(tmp_path: Path, cut: float) -> None:
    path = write_pickled(tmp_path / NAME, TENSORS)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    assert codes(path)


def legacy(objects: bytes) -> bytes:
    """What torch wrote before 1.6, as `_legacy_save` has it."""
    magic, keys = 0x1950A86A20F9469CFC6C, ["0", "1"]
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    first, second, third, last = (pickle.dumps(part, 2) for part in (magic, 1001, system, keys))
    return first + second + third + objects + last + bytes(100)


def test_the_form_of_before_archives(tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(legacy(state_pickle(TENSORS)))
    assert codes(path) == []
    path.write_bytes(legacy(pickle.dumps(Harmful(tmp_path / "mark"), 2)))
    assert codes(path) == ["dangerous_pickle"]
    path.write_bytes(legacy(state_pickle(TENSORS))[:300])
    assert codes(path) == ["bad_pickle"]


def test_a_pickle_of_endless_steps_is_given_up(tmp_path: Path) -> None:
    path = zipped(tmp_path / NAME, b"\x80\x02" + b"N0" * pickled.MOST_OPCODES + b".")
    began = time.process_time()
    assert codes(path) == ["pickle_too_big"]
    assert time.process_time() - began < 10


def test_a_pickle_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MOST_PICKLE_BYTES", 100)
    assert codes(write_pickled(tmp_path / NAME, TENSORS)) == ["pickle_too_big"]
    (tmp_path / NAME).write_bytes(legacy(state_pickle(TENSORS)))
    assert codes(tmp_path / NAME) in (["pickle_too_big"], ["bad_pickle"])
