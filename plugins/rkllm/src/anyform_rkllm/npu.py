"""Finds the NPU of a Rockchip board: its chip by the device tree, its driver by what the kernel shows of devices.

Everything is read below a root folder, in bounded pieces; what is absent, unreadable or garbage counts as not there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anyform_rkllm.board import BOARDS, chip

MOST_BYTES = 4096
"""Of one file of the system: a device tree's list of names, or a device's few lines."""
MOST_FILES = 64
TREES = ("proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible")
RENDERERS = "sys/class/drm/renderD*/device/uevent"
ACCELERATORS = "sys/class/accel/accel*/device/uevent"
BOUND = "sys/bus/platform/drivers/{driver}/*/uevent"
LEGACY = "dev/rknpu"
"""The device file of drivers that are no part of DRM."""
VERSIONS = ("sys/module/rknpu/version", "sys/kernel/debug/rknpu/version")
LOOKED = (TREES[0], "sys/class/drm", "sys/class/accel", LEGACY)
"""What users are told was looked at."""

Uevent = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Npu:
    """An NPU, as far as it shows."""

    platform: str
    """The chip, such as RK3588; empty: unknown. It need not be one that the library runs on: see `board.BOARDS`."""
    driver: str
    """`rknpu`: Rockchip's; `rocket`: that of mainline kernels; empty: none."""
    version: str = ""
    """Of Rockchip's driver; empty: unknown."""
    node: str = ""
    """Its device file, as it is called below the root; empty: unknown."""

    @property
    def cores(self) -> int:
        """Of the NPU; 0: unknown."""
        board = BOARDS.get(self.platform)
        return board.cores if board else 0


def find(root: Path, platform: str = "") -> Npu | None:
    """The NPU below *root*; None where nothing tells of one. *platform*: the chip as the user names it, which goes
    over the device tree. Never raises.
    """
    driver, node, said = _driver(root)
    known = chip(platform) or _tree(root) or said
    if not driver and known in BOARDS and _accelerators(root):  # its kind cannot be read, but there is only one
        driver, node = "rocket", _accelerators(root)[0]
    if not driver and known not in BOARDS:
        return None
    version = _version(root) if driver == "rknpu" else ""
    return Npu(platform=known, driver=driver, version=version, node=node)


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """The first *most* bytes of a file; empty where it cannot be read. A pipe is not waited for."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with open(number, "rb", buffering=0) as file:
            return file.read(most) or b""
    except (OSError, ValueError):
        return b""


def matching(root: Path, pattern: str) -> list[Path]:
    """Up to MOST_FILES paths below *root*, sorted."""
    try:
        return sorted(islice(root.glob(pattern), MOST_FILES))
    except (OSError, ValueError):
        return []


def _driver(root: Path) -> tuple[str, str, str]:
    """(driver, its device file, chip) of the NPU's device; Rockchip's own driver first, since it can be used."""
    for path, said in _events(root, RENDERERS):
        if said.get("DRIVER", "").lower() == "rknpu":
            return "rknpu", f"/dev/dri/{path.parts[-3]}", _chip(said)
    bound = next((said for _, said in _events(root, BOUND.format(driver="RKNPU"))), None)
    if bound is not None or _there(root / LEGACY):
        node = f"/{LEGACY}" if _there(root / LEGACY) else ""
        return "rknpu", node, _chip(bound or {})
    return _rocket(root)


def _rocket(root: Path) -> tuple[str, str, str]:
    """Its accelerator is a device without a driver, `platform:rknn`; the cores of the NPU are bound to the driver.

    https://docs.kernel.org/accel/rocket/index.html
    """
    bound = next((said for _, said in _events(root, BOUND.format(driver="rocket"))), None)
    for path, said in _events(root, ACCELERATORS):
        if said.get("DRIVER") == "rocket" or said.get("MODALIAS") == "platform:rknn":
            return "rocket", f"/dev/accel/{path.parts[-3]}", _chip(said) or _chip(bound or {})
    if bound is None:
        return "", "", ""
    return "rocket", next(iter(_accelerators(root)), ""), _chip(bound)


def _accelerators(root: Path) -> list[str]:
    """The device files of accelerators of which nothing else is known; those of other drivers are told by /sys."""
    if any(said.get("DRIVER") for _, said in _events(root, ACCELERATORS)):
        return []
    return [f"/dev/accel/{path.name}" for path in matching(root, "dev/accel/accel*")]


def _events(root: Path, pattern: str) -> Iterator[tuple[Path, Uevent]]:
    """Each device's own description: (file, KEY -> value)."""
    for path in matching(root, pattern):
        lines = read(path).decode("ascii", "replace").splitlines()
        yield path, dict(line.split("=", 1) for line in lines if "=" in line)


def _chip(said: Uevent) -> str:
    """The chip that a device's OF_COMPATIBLE_0, _1, ... name."""
    return next((chip(value) for key, value in said.items() if key.startswith("OF_COMPATIBLE_") and chip(value)), "")


def _tree(root: Path) -> str:
    """The chip of the device tree: texts such as `radxa,rock-5b` and `rockchip,rk3588`, each ended by a NUL."""
    for name in TREES:
        for part in read(root / name).decode("ascii", "replace").split("\0"):
            maker, _, what = part.partition(",")
            found = chip(what) if maker == "rockchip" and re.fullmatch(r"r[kv]\d{4}[a-z]?", what) else ""
            if found:
                return found
    return ""


def _version(root: Path) -> str:
    for name in VERSIONS:
        found = re.search(rb"\d{1,4}\.\d{1,4}\.\d{1,4}", read(root / name))
        if found:
            return found.group().decode()
    return ""


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
