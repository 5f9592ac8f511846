"""What this machine has of an NPU, its driver and its library, as the kernel is told: a backend and its devices."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyform import mainmemory
from anyform.contract.facts import BackendInfo, Device
from anyform_rkllm import library, npu, setting, version
from anyform_rkllm.board import BOARDS
from anyform_rkllm.info import BACKEND, KIND, LIBRARY
from anyform_rkllm.library import Library
from anyform_rkllm.npu import Npu
from anyform_rkllm.setting import Setting, WrongSetting

LEAST, GOOD = "0.9.6", "0.9.8"
"""Drivers: below the first, models are refused here; below the second, which Rockchip's documents ask for, they are
tried, and it is said. The library itself warns below 0.9.7, and logs of it with 0.9.6 are public.
"""
LOOKED = ", ".join(f"/{place}" for place in npu.LOOKED)
UNTRIED = "anyform's makers never ran this on an NPU: tell them how it went"
BITS = 64
"""Of the systems whose structures `layout` has."""
REPOSITORY = "the one of github.com/airockchip/rknn-llm (rkllm-runtime/Linux)"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that was found."""

    setting: Setting
    npu: Npu | None
    library: Library | None
    troubles: tuple[str, ...]
    """Why nothing can run, each in a clause; the one to mend first first."""
    remarks: tuple[str, ...]
    """What runs all the same, and may not run well."""


def look(table: Mapping[str, Any]) -> State:
    """Look at this machine. Raises WrongSetting for what *table* says."""
    said = setting.read(table)
    there = npu.find(said.root, said.platform)
    found = library.find(said.root, said.library) if there or said.library else None
    usable = there is not None and there.driver == KIND
    troubles = list(_root_troubles(said))
    if said.library and not troubles:  # what the user says is told even where there is no NPU
        troubles += _library_troubles(said, found)
    troubles += _npu_troubles(said, there)
    if usable and not said.library:
        troubles += _library_troubles(said, found)
    return State(setting=said, npu=there, library=found, troubles=tuple(troubles), remarks=tuple(_remarks(said, there)))


def backend(table: Mapping[str, Any]) -> BackendInfo:
    """The backend, with the trouble that keeps it from being used here, or else with what `load` needs to know."""
    try:
        state = look(table)
    except WrongSetting as fault:
        return replace(BACKEND, trouble=str(fault).rstrip("."), install="")
    if state.troubles or state.library is None or state.npu is None:
        file = suggestions(state.npu.platform) if state.npu else ""
        return replace(BACKEND, trouble=state.troubles[0], install="", suggestions=file)
    options: dict[str, Any] = {"library": state.library.path, "platform": state.npu.platform}
    if state.library.stand_in:
        options["stand_in"] = True
    file = suggestions(state.npu.platform)
    return replace(BACKEND, features=_features(state.library), options=options, suggestions=file)


def suggestions(platform: str) -> str:
    """The file of models to begin with for the chip *platform*; empty where there is none."""
    file = Path(__file__).with_name("suggestions") / f"{platform.lower()}.toml"
    return str(file) if file.is_file() else ""


def devices(table: Mapping[str, Any]) -> list[Device]:
    """The NPU of this machine, whatever hinders its use; none where it has no driver. Raises WrongSetting."""
    state = look(table)
    there = state.npu
    if there is None or not there.driver:
        return []
    total, free = mainmemory.linux(state.setting.root)
    driver = there.version or "unknown" if there.driver == KIND else there.driver
    extra: dict[str, Any] = {"unified": True, "driver": driver, "cores": there.cores}
    if state.library is not None:
        extra["runtime"] = _runtime(state.library)
    notes = [*state.troubles[1:], *state.remarks]  # the first is told of the backend
    if state.library is not None and not state.troubles and not state.library.stand_in:
        notes.append(UNTRIED)
    if notes:
        extra["notes"] = notes
    name = f"{there.platform or 'Rockchip'} NPU"
    if state.setting.stand_in and state.library is not None and state.library.stand_in:
        name = f"stand-in for {name}"
    return [Device(kind=there.driver, name=name, total_bytes=total, free_bytes=free, extra=extra)]


def _features(found: Library) -> tuple[str, ...]:
    """What the library's ABI can: the functions that a model may call, and whether it is to think, came with 1.2.1."""
    from anyform_rkllm.layout import Era

    late = ("tools", "thinking")
    return tuple(name for name in BACKEND.features if name not in late or version.era(found.version) >= Era.V121)


def _runtime(found: Library) -> str:
    said = found.version or "of an unknown version"
    return f"stand-in {said}" if found.stand_in else said


def _npu_troubles(said: Setting, there: Npu | None) -> Iterator[str]:
    if there is None:
        yield (
            f"no Rockchip NPU was found (looked at {_below(said, LOOKED)}); in a container name its chip: "
            f"platform in [{setting.TABLE}]"
        )
        return
    chip = there.platform or "this board"
    runs = not there.platform or there.platform in BOARDS
    if there.driver == "rocket" and runs:
        yield (
            f"the NPU of {chip} has the driver rocket of the mainline kernel, which Rockchip's library cannot use: "
            "boot a kernel of Rockchip's with the driver rknpu"
        )
    elif not there.driver:
        yield (
            f"the NPU of {chip} has no driver here (looked at {_below(said, LOOKED)}): "
            "boot a kernel of Rockchip's with rknpu, or give the container its device file"
        )
    if not there.platform:
        yield (
            "the NPU's chip is unknown, since the device tree is hidden, as in containers: name it with "
            f'platform = "RK3588" in [{setting.TABLE}]'
        )
    elif not runs:
        yield f"the NPU of {there.platform} runs no language models: Rockchip's library knows {', '.join(BOARDS)}"
    if there.driver == KIND:
        yield from _driver_troubles(said, there)


def _root_troubles(said: Setting) -> Iterator[str]:
    try:
        there = said.root.is_dir()
    except PermissionError:
        there = True  # it cannot be told
    if not there:
        yield f"there is no folder {said.root}, which {setting.TABLE}.root names"


def _below(said: Setting, places: str) -> str:
    """*places*, with the root that they lie below where it is not this machine's own."""
    return places if said.root == Path("/") else f"{places} below {said.root}"


def _driver_troubles(said: Setting, there: Npu) -> Iterator[str]:
    if there.version and _parts(there.version) < _parts(LEAST):
        yield (
            f"the NPU's driver rknpu {there.version} is too old: {LEAST} is the least, and Rockchip asks for {GOOD}; "
            "it comes with a newer kernel of the board's maker"
        )
    node = said.root / there.node.lstrip("/")
    if there.node and not _exists(node):
        yield f"the NPU's device file {there.node} is not here: give it to the container (--device {there.node})"
    elif there.node and not os.access(node, os.R_OK | os.W_OK):
        yield (
            f"{there.node} may not be opened by this user: join the group that it belongs to, render or video, "
            "and log in again"
        )


def _exists(path: Path) -> bool:
    """Also where this user may not look."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _library_troubles(said: Setting, found: Library | None) -> Iterator[str]:
    if found is None and said.library:
        yield (
            f"no library can be read at {said.library}, which {setting.TABLE}.library names: "
            f"name the file {LIBRARY} itself"
        )
    elif found is None:
        looked = f"{', '.join(f'/{folder}' for folder in library.FOLDERS)} and the folders of /etc/ld.so.conf"
        yield (
            f"{LIBRARY} is missing (looked in {_below(said, looked)}): put {REPOSITORY} into /usr/lib, "
            f'or name it with library = "..." in [{setting.TABLE}]'
        )
    elif found.stand_in and not said.stand_in:
        yield f"{found.path} is anyform's stand-in for tests, no library of Rockchip's: put {REPOSITORY} in its place"
    else:
        yield from _file_troubles(found)


def _file_troubles(found: Library) -> Iterator[str]:
    machine, bits = library.host()
    if bits != BITS:
        yield f"this is a {bits}-bit Python, and how to call {LIBRARY} is known for {BITS} bits alone"
    elif not found.machine:
        yield f"{found.path} is no shared library of Linux: put {REPOSITORY} in its place"
    elif (found.machine, found.bits) != (machine, bits):
        yield (
            f"{found.path} was made for {found.bits}-bit {found.machine}, and this is a {bits}-bit Python "
            f"on {machine}: take the one for this machine"
        )
    elif not found.version:
        yield f"{found.path} names no version, so that how to call it is unknown: put {REPOSITORY} in its place"
    elif not version.known(found.version):
        yield (
            f"{found.path} has the version {found.version}, and how to call it is not known here: "
            f"known are {version.KNOWN}, no betas"
        )
    elif lacks := _lacks(found):
        more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
        yield (
            f"{found.path} is no {LIBRARY} {found.version}: it lacks rkllm_{lacks[0]}{more}: "
            f"put {REPOSITORY} in its place"
        )


def _lacks(found: Library) -> list[str]:
    """The functions that a library of its version must have, and that its file does not name."""
    from anyform_rkllm.binding import FUNCTIONS

    own = version.era(found.version)
    needed = ["createDefaultParam", *(one.name for one in FUNCTIONS if one.first <= own <= one.last)]
    return sorted({*needed} - found.functions, key=lambda name: (name != "init", name))


def _remarks(said: Setting, there: Npu | None) -> Iterator[str]:
    if there is None or there.driver != KIND:
        return
    seen = npu.find(said.root) if said.platform else None
    if seen is not None and seen.platform not in ("", there.platform):
        yield f"{setting.TABLE}.platform is {there.platform}, and the board says {seen.platform}: the setting counts"
    if not there.node:
        yield "no device file of the driver rknpu was found (/dev/dri/renderD* or /dev/rknpu): loading may fail"
    if not there.version:
        yield f"the version of the driver rknpu cannot be read; Rockchip asks for {GOOD} or later"
    elif _parts(LEAST) <= _parts(there.version) < _parts(GOOD):
        yield f"the driver rknpu {there.version} is older than {GOOD}, which Rockchip asks for: models may fail"


def _parts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
