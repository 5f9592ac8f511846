"""Writes /proc, /sys and /dev of Rockchip's boards as small trees, and files that look like its library.

As the kernels' drivers and public reports show them: no more of each than what a program reads to know the board.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

MEMORY = "MemTotal:        8000000 kB\nMemFree:          500000 kB\nMemAvailable:    6000000 kB\n"
MACHINES: Mapping[str, tuple[int, int]] = {
    "aarch64": (183, 2), "arm64": (183, 2), "x86_64": (62, 2), "amd64": (62, 2), "arm": (40, 1), "riscv64": (243, 2),
    "s390x": (22, 2),
}  # fmt: skip
"""ELF's e_machine and class (1: 32 bits, 2: 64), also by what other systems call a machine."""

FUNCTIONS = (
    "abort", "clear_kv_cache", "createDefaultParam", "destroy", "get_kv_cache_size", "init", "is_running", "load_lora",
    "load_prompt_cache", "release_prompt_cache", "run", "run_async", "set_chat_template", "set_cross_attn_params",
    "set_function_tools",
)  # fmt: skip
"""Of the library, without their prefix; older ones lack the last."""

Tree = Mapping[str, str]


def tree(chip: str, *, maker: str = "rockchip,evb", driver: str = "rknpu", version: str = "0.9.8") -> Tree:
    """Path below the root -> text. *driver*: rknpu (of DRM), legacy (of the DMA heap), rocket, or empty: none."""
    base = chip.removesuffix("s")
    files = {"proc/meminfo": MEMORY, "proc/device-tree/compatible": f"{maker}\0rockchip,{chip}\0"}
    if driver in ("rknpu", "legacy"):
        said = f"DRIVER=RKNPU\nOF_NAME=npu\nOF_COMPATIBLE_0=rockchip,{base}-rknpu\nOF_COMPATIBLE_N=1\n"
        files |= {"sys/module/rknpu/version": f"{version}\n"} if version else {}
        if driver == "legacy":
            return files | {"dev/rknpu": "", "sys/bus/platform/drivers/RKNPU/fdab0000.npu/uevent": said}
        return files | {
            "dev/dri/renderD128": "",
            "dev/dri/renderD129": "",
            "sys/class/drm/renderD128/device/uevent": "DRIVER=mali\nOF_COMPATIBLE_0=arm,mali-bifrost\n",
            "sys/class/drm/renderD129/device/uevent": said,
        }
    if driver == "rocket":
        said = f"DRIVER=rocket\nOF_NAME=npu\nOF_COMPATIBLE_0=rockchip,{base}-rknn-core\nOF_COMPATIBLE_N=1\n"
        return files | {
            "dev/accel/accel0": "",
            "sys/class/accel/accel0/device/uevent": "MODALIAS=platform:rknn\n",
            "sys/bus/platform/drivers/rocket/fdab0000.npu/uevent": said,
        }
    return files


def write(root: Path, files: Tree) -> Path:
    """Write *files* below *root*, which is returned."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return root


def hidden(files: Tree, *, sys: bool = False) -> Tree:
    """*files* as a container sees them: without the device tree; with *sys*, without what /sys says of drivers."""
    gone = ("proc/device-tree", "sys/firmware", *(("sys/",) if sys else ()))
    return {name: text for name, text in files.items() if not name.startswith(gone)}


def library(
    path: Path,
    version: str = "1.2.3",
    machine: str = "",
    mark: str = "",
    functions: Sequence[str] = FUNCTIONS,
) -> Path:
    """Write what looks like librkllmrt.so to who reads its header and its texts, and cannot be loaded.

    *machine*: of MACHINES; empty: this one. *version*: empty leaves it out. *mark*: a text that it holds as well.
    *functions*: those that its table of symbols names.
    """
    code, bits = MACHINES[machine or platform.machine().lower()]
    said = f"RKLLM SDK (version: {version} | target: Linux | build: a fake of tests)" if version else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9) + struct.pack("<HH", 3, code)
    symbols = "".join(f"rkllm_{name}\0" for name in functions)
    path.write_bytes(head + bytes(64) + f"\0{said}\0{mark}\0{symbols}".encode())
    return path
