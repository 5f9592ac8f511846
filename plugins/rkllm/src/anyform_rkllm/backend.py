"""librkllmrt.so: the only file that opens it."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path

from anyform.contract.errors import EngineMissing
from anyform.contract.facts import BackendInfo, Capabilities, Plan
from anyform.contract.model import LoadedModel
from anyform_rkllm import library
from anyform_rkllm.binding import Binding
from anyform_rkllm.layout import ABIS
from anyform_rkllm.version import era

PACKAGES = {"libgomp.so": "libgomp1", "libomp.so": "libomp5", "libstdc++.so": "libstdc++6", "libgcc_s.so": "libgcc-s1"}
"""What librkllmrt.so needs -> Debian's package of it."""


class StandInRefused(EngineMissing):
    """The library that tests build in place of Rockchip's, where nobody said that this is a test."""

    code = "rkllm.stand_in"


def open_library(path: str | Path, stand_in: bool = False) -> Binding:
    """The library at *path*, driven as its version says. *stand_in*: whether the one of the tests will do.

    Raises EngineMissing where it cannot be opened, UnknownRuntime, WrongAbi, StandInRefused.
    """
    found = library.look(Path(path))
    if found is None:
        raise EngineMissing(
            f"there is no library to read at {path}.", "Put Rockchip's librkllmrt.so there.", path=str(path)
        )
    if sys.platform != "linux" or (found.machine, found.bits) != library.host():
        raise _foreign(found)
    if found.stand_in and not stand_in:
        raise StandInRefused(
            f"{path} is the stand-in library of anyform's own tests: it uses no NPU and runs no model.",
            "Install Rockchip's librkllmrt.so.",
            path=str(path),
        )
    abi = ABIS[era(found.version)]
    try:
        opened = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise _unopened(found, str(error)) from error
    return Binding(opened, abi, found.version)


def _foreign(found: library.Library) -> EngineMissing:
    machine, bits = library.host()
    what = f"for {found.machine} ({found.bits} bits)" if found.machine else "no shared library of Linux"
    return EngineMissing(
        f"{found.path} is {what}, and this is {machine} ({bits} bits) with {sys.platform}.",
        "Use the librkllmrt.so of Linux/aarch64, on a Rockchip board with a 64-bit system.",
        path=found.path,
    )


def _unopened(found: library.Library, why: str) -> EngineMissing:
    """*why*: the loader's words, which name what it misses."""
    hint = "Get the file anew; it may be damaged."
    if lacks := re.search(r"(lib[\w+-]+\.so)[\w.]*: cannot open shared object file", why):
        package = PACKAGES.get(lacks[1], "")
        hint = f"sudo apt install {package}" if package else f"Install what has {lacks[1]}."
    elif "GLIBC" in why:
        hint = "The library was built for a newer system: update this one, or use an older release of the library."
    return EngineMissing(
        f"{found.path} ({found.version}) cannot be opened: {why}.",
        hint,
        path=found.path,
        version=found.version,
    )


def probe(info: BackendInfo) -> Capabilities:
    """What the library is that `state.backend` found: opened and checked, with no model. Raises as `open_library`."""
    path = str(info.options.get("library") or "")
    if not path:
        raise EngineMissing(f"{info.trouble or 'no librkllmrt.so was found on this machine'}.")
    opened = open_library(path, info.options.get("stand_in") is True)
    found = library.look(Path(path))
    kind = "stand-in " if found is not None and found.stand_in else ""
    return Capabilities(engine_version=f"{kind}{opened.version}", devices=info.devices, features=info.features)


def load(plan: Plan) -> LoadedModel:
    """Load *plan*'s model. Raises EngineMissing, Invalid, LoadFailed, OutOfMemory, Unsupported."""
    from anyform_rkllm import loading, options

    wanted = options.read(plan.settings.options)
    if not wanted.library:
        raise EngineMissing(
            "no librkllmrt.so was found on this machine.",
            'Name it: library = "/path/of/librkllmrt.so" in [plugin.rkllm].',
        )
    binding = open_library(wanted.library, wanted.stand_in)
    found = library.look(Path(wanted.library))
    return loading.load(plan, wanted, binding, stand_in=found is not None and found.stand_in)
