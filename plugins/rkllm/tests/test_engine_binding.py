"""A library is driven as its own ABI or not at all: each of the 12 wrong pairs is tried in a process of its own."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from anyform.contract.errors import EngineMissing
from anyform.testing import compiling
from anyform_rkllm import backend, binding
from anyform_rkllm.backend import StandInRefused, open_library
from anyform_rkllm.binding import FUNCTIONS, WrongAbi, symbols, values
from anyform_rkllm.info import BACKEND
from anyform_rkllm.layout import ABIS, Era
from anyform_rkllm.version import UnknownRuntime

pytestmark = pytest.mark.engine
PAIRS = list(permutations(Era, 2))
"""(of the library, that it is driven as)"""
VERSIONS = ("1.1.4", "1.2.0", "1.2.3", "1.3.0")
MODEL = b'a file\nSTANDIN {"context":4096}\n'

DRIVE = """
import ctypes, json, resource, sys
from anyform_rkllm import backend, binding
from anyform_rkllm.info import BACKEND
from anyform_rkllm.layout import ABIS, Era

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
path, era, checked, model = sys.argv[1], Era(int(sys.argv[2])), sys.argv[3] == "checked", sys.argv[4]
if not checked:
    binding.Binding.check = lambda self: None
    binding.FUNCTIONS = [one for one in binding.FUNCTIONS if one.name in ("init", "run", "destroy")]
try:
    bound = binding.Binding(ctypes.CDLL(path), ABIS[era])
except binding.WrongAbi as error:
    print(json.dumps({"refused": str(error), "found": error.details["found"]}))
    sys.exit(0)
said, abi = bytearray(), bound.abi

@abi.result_callback
def take(result, userdata, state):
    if result.contents.text:
        said.extend(ctypes.string_at(result.contents.text))
    return 0 if era >= Era.V121 else None

param, handle = bound.default_param(), ctypes.c_void_p()
param.model_path, param.max_context_len, param.max_new_tokens = model.encode(), 1024, 500
param.top_k, param.top_p, param.temperature, param.skip_special_token = 7, 0.5, 0.25, True
callback = ctypes.byref(abi.new("Callback", result_callback=take)) if era >= Era.V13 else take
begun = bound.init(ctypes.byref(handle), ctypes.byref(param), callback)
asked = abi.new("Input")
asked.data.prompt_input = b"Hello"
if abi.has_roles:
    asked.role = b"user"
infer = abi.new("InferParam")
ended = bound.run(handle, ctypes.byref(asked), ctypes.byref(infer), None)
print(json.dumps({"codes": [begun, ended], "said": said.decode(errors="replace")}))
"""


def driven(path: Path, era: Era, model: Path, how: str) -> tuple[int, dict[str, object]]:
    """(the exit status, what was said) of a run of the library at *path* as of *era*."""
    ended = subprocess.run(
        [sys.executable, "-c", DRIVE, str(path), str(int(era)), how, str(model)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
    )
    last = ended.stdout.splitlines()[-1:]
    return ended.returncode, json.loads(last[0]) if last and last[0].startswith("{") else {}


def answer(era: Era) -> str:
    role = "user" if era >= Era.V121 else "-"
    sampled = "k=7 p=0.50 t=0.25 r=1.10 f=0.00 e=0.00 m=0 5.00 0.10"
    return f"{role}|0|prompt|Hello|{sampled}|h=0|n=500|lora=|tools=|tmpl=model|cache="


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.rkllm"
    path.write_bytes(MODEL)
    return path


@pytest.mark.parametrize("era", Era)
def test_a_library_is_driven_as_its_own(stand_in: Callable[..., Path], model: Path, era: Era) -> None:
    assert driven(stand_in(era), era, model, "checked") == (0, {"codes": [0, 0], "said": answer(era)})


@pytest.mark.parametrize(("of", "wrong"), PAIRS)
def test_a_library_is_never_driven_as_another(stand_in: Callable[..., Path], model: Path, of: Era, wrong: Era) -> None:
    status, said = driven(stand_in(of), wrong, model, "checked")
    assert status == 0
    assert "has not the interface" in str(said["refused"])
    assert ABIS[wrong].name in str(said["refused"])


@pytest.mark.parametrize(("of", "wrong"), PAIRS)
def test_it_would_show_if_it_were(stand_in: Callable[..., Path], model: Path, of: Era, wrong: Era) -> None:
    """Without the check: a crash, a failure or another answer. So the pairs above are worth refusing."""
    status, said = driven(stand_in(of), wrong, model, "unchecked")
    assert (status, said) != (0, {"codes": [0, 0], "said": answer(of)})
    assert (status, said) != (0, {"codes": [0, 0], "said": answer(wrong)})


@pytest.mark.parametrize(("of", "wrong"), PAIRS)
def test_default_values_alone_tell(stand_in: Callable[..., Path], of: Era, wrong: Era) -> None:
    library = ctypes.CDLL(str(stand_in(of)))
    assert list(values(library, ABIS[of])) == []
    assert list(values(library, ABIS[wrong])) != []


@pytest.mark.parametrize(("of", "wrong"), PAIRS)
def test_names_of_functions_alone_tell_all_but_the_two_that_share_them(
    stand_in: Callable[..., Path], of: Era, wrong: Era
) -> None:
    library = ctypes.CDLL(str(stand_in(of)))
    assert list(symbols(library, of)) == []
    assert bool(list(symbols(library, wrong))) == ({of, wrong} != {Era.V121, Era.V13})


@pytest.mark.parametrize("era", Era)
def test_every_function_has_types(stand_in: Callable[..., Path], era: Era) -> None:
    bound = open_library(stand_in(era), stand_in=True)
    here = {one.name: one for one in FUNCTIONS if one.first <= era <= one.last}
    assert len(here) == (9, 11, 14, 14)[era]
    for name, function in here.items():
        called = getattr(bound, name)
        assert called.argtypes is not None
        assert len(called.argtypes) == len(function.arguments)
        assert called.restype is ctypes.c_int
    assert not any(hasattr(bound, one.name) for one in FUNCTIONS if one.name not in here)


@pytest.mark.parametrize("era", Era)
def test_the_version_in_the_file_chooses(stand_in: Callable[..., Path], era: Era) -> None:
    bound = open_library(stand_in(era), stand_in=True)
    assert (bound.version, bound.abi.era) == (VERSIONS[era], era)
    defaults = bound.default_param()
    assert (defaults.top_k, round(defaults.top_p, 3), round(defaults.temperature, 3)) == (40, 0.9, 0.8)


def test_the_release_that_hears_is_of_the_same_abi(stand_in: Callable[..., Path]) -> None:
    bound = open_library(stand_in(Era.V13, audio=True), stand_in=True)
    assert (bound.version, bound.abi.era) == ("1.3.1", Era.V13)


def named(path: Path, folder: Path, new: str) -> Path:
    """A copy of a library that says it is another version, which is as long as its own and two bytes."""
    data = path.read_bytes()
    at = data.index(b"RKLLM SDK (version: ") + len("RKLLM SDK (version: ")
    copy = folder / "librkllmrt.so"
    copy.write_bytes(data[:at] + new.encode().ljust(7) + data[at + 7 :])
    return copy


@pytest.mark.parametrize("version", ["1.4.0", "2.0.0", "1.0.1", "1.2.4", "1.2.1b1", "1.3.0b2"])
def test_an_unknown_version_is_refused(stand_in: Callable[..., Path], tmp_path: Path, version: str) -> None:
    with pytest.raises(UnknownRuntime, match=version):
        open_library(named(stand_in(Era.V13), tmp_path, version), stand_in=True)


@pytest.mark.parametrize(("of", "wrong"), PAIRS)
def test_a_file_that_says_another_version_is_refused(
    stand_in: Callable[..., Path], tmp_path: Path, of: Era, wrong: Era
) -> None:
    path = named(stand_in(of), tmp_path, VERSIONS[wrong])
    with pytest.raises(WrongAbi) as refused:
        open_library(path, stand_in=True)
    fault = refused.value
    assert str(path) in fault.message
    assert VERSIONS[wrong] in fault.message
    assert fault.code == "rkllm.wrong_abi"
    assert fault.details["found"]


def test_a_stand_in_counts_only_where_it_is_asked_for(stand_in: Callable[..., Path]) -> None:
    with pytest.raises(StandInRefused, match="stand-in") as refused:
        open_library(stand_in(Era.V13))
    assert "librkllmrt.so" in refused.value.hint


def test_files_that_are_no_library_for_this_machine(stand_in: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="no library"):
        open_library(tmp_path / "absent.so")
    text = tmp_path / "text.so"
    text.write_text("RKLLM SDK (version: 1.3.0 |")
    with pytest.raises(EngineMissing, match="no shared library"):
        open_library(text)
    data = bytearray(stand_in(Era.V13).read_bytes())
    data[18:20] = (183 if data[18] != 183 else 62).to_bytes(2, "little")  # e_machine
    other = tmp_path / "other.so"
    other.write_bytes(data)
    with pytest.raises(EngineMissing, match=r"is for (aarch64|x86_64) \(64 bits\), and this is"):
        open_library(other, stand_in=True)


def test_a_library_that_misses_another_says_which(tmp_path: Path) -> None:
    if not compiling.compiler():
        pytest.skip("there is no C++ compiler")
    needed = tmp_path / "needed" / "needed.cpp"
    needed.parent.mkdir()
    needed.write_text('extern "C" int anyform_needed() { return 1; }')
    flags = ("-shared", "-fPIC", "-Wl,-soname,libomp.so.99")
    gone = compiling.shared_library(needed, "libomp.so.99", flags=flags, cache=tmp_path / "made")
    source = tmp_path / "library" / "library.cpp"
    source.parent.mkdir()
    source.write_text(
        'extern "C" const char said[] = "RKLLM SDK (version: 1.3.0 | target: STAND-IN)";\n'
        'extern "C" int anyform_needed();\nextern "C" int rkllm_run() { return anyform_needed(); }\n'
    )
    made = str(tmp_path / "librkllmrt.so")
    command = [compiling.compiler(), "-shared", "-fPIC", str(source), str(gone), "-o", made]
    subprocess.run(command, check=True, timeout=60)
    gone.unlink()
    with pytest.raises(EngineMissing, match=r"libomp\.so\.99: cannot open shared object file") as missing:
        open_library(made)
    assert missing.value.hint == "sudo apt install libomp5"


def test_room_for_the_defaults_of_any_abi() -> None:
    assert all(ctypes.sizeof(abi.structures["Param"]) < binding.DEFAULTS_BYTES for abi in ABIS.values())


@pytest.mark.parametrize("era", Era)
def test_a_probe_names_the_library(stand_in: Callable[..., Path], era: Era) -> None:
    info = replace(BACKEND, options={"library": str(stand_in(era)), "stand_in": True})
    found = backend.probe(info)
    assert (found.engine_version, found.devices) == (f"stand-in {VERSIONS[era]}", ("rknpu",))
    with pytest.raises(StandInRefused):
        backend.probe(replace(info, options={"library": str(stand_in(era))}))
    with pytest.raises(EngineMissing, match="no Rockchip NPU"):
        backend.probe(replace(BACKEND, trouble="no Rockchip NPU was found"))
