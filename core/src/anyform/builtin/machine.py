"""The devices that anyform finds by itself: the CPU, NVIDIA's GPUs and Apple's. Asks the system only, no vendor SDK."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from anyform import mainmemory
from anyform.contract.facts import Device
from anyform.contract.hooks import hookimpl
from anyform.mainmemory import cgroups, read

ANYFORM_CONTRACT = 1

# fmt: off
FLAGS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp",
    "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme",
)
# fmt: on
"""Instruction sets that inference engines choose kernels by, as Linux calls them in /proc/cpuinfo."""

COMMAND_TIMEOUT_S = 5.0

Ask = Callable[[Sequence[str]], str]
"""Runs a command and returns what it prints; "" when it is absent, fails or hangs."""


@hookimpl
def find_devices() -> list[Device]:
    cpu = _cpu()
    return [cpu, *nvidia(ask, cpu), *(metal(ask, cpu) if sys.platform == "darwin" else [])]


def ask(command: Sequence[str]) -> str:
    """The output of *command*; "" when it is absent, fails, or takes longer than COMMAND_TIMEOUT_S."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    import subprocess

    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            text=True,
            errors="replace",
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _cpu() -> Device:
    if sys.platform == "darwin":
        return mac_cpu(ask)
    if sys.platform == "win32":
        return windows_cpu()
    return linux_cpu(Path("/"))


def linux_cpu(root: Path) -> Device:
    """The CPU from /proc and /sys under *root*. Memory limits of the control group count as the machine's own."""
    info = read(root / "proc/cpuinfo")
    total, free = mainmemory.linux(root)
    return Device(
        kind="cpu",
        name=_cpu_name(info, root),
        total_bytes=total,
        free_bytes=free,
        extra={"flags": _flags(info), "cores": _cores(root), "physical_cores": _physical_cores(info)},
    )


def _cpu_name(info: str, root: Path) -> str:
    named = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", info, re.M)
    board = read(root / "proc/device-tree/model").strip("\0\n ")
    return (named.group(1).strip() if named else board) or _architecture()


def _architecture() -> str:
    import platform

    return platform.machine()


def _flags(info: str) -> list[str]:
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.M)
    present = set(line.group(1).split()) if line else set()
    return [flag for flag in FLAGS if flag in present]


def _physical_cores(info: str) -> int:
    """Cores without their hyper-threads; all processors where the kernel does not tell them apart."""
    pairs = re.findall(r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$", info, re.M | re.S)
    return len(set(pairs)) or len(re.findall(r"^processor\s*:", info, re.M)) or os.cpu_count() or 1


def _cores(root: Path) -> int:
    """Processors that this process may use: its affinity, and the quota of its control group."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in cgroups(root, ""):
        quota = re.match(r"(\d+) (\d+)", read(folder / "cpu.max"))
        if quota and int(quota.group(2)):
            mine = min(mine, math.ceil(int(quota.group(1)) / int(quota.group(2))))
    return max(1, mine)


def mac_cpu(ask: Ask) -> Device:
    """The CPU as macOS's sysctl and vm_stat tell; free: what the system can hand out without swapping."""
    total = _number(ask(["sysctl", "-n", "hw.memsize"]))
    pages = ask(["vm_stat"])
    size = _number(next(iter(re.findall(r"page size of (\d+) bytes", pages)), "4096"))
    counts = dict(re.findall(r"^Pages (free|inactive|speculative|purgeable):\s+(\d+)\.", pages, re.M))
    features = ask(["sysctl", "-a", "hw.optional"]) + ask(["sysctl", "-n", "machdep.cpu.leaf7_features"]).lower()
    return Device(
        kind="cpu",
        name=ask(["sysctl", "-n", "machdep.cpu.brand_string"]).strip() or _architecture(),
        total_bytes=total,
        free_bytes=min(total, size * sum(int(count) for count in counts.values())),
        extra={
            "flags": [flag for flag, pattern in _MAC_FLAGS.items() if re.search(pattern, features, re.M | re.I)],
            "cores": os.cpu_count() or 1,
            "physical_cores": _number(ask(["sysctl", "-n", "hw.physicalcpu"])) or os.cpu_count() or 1,
        },
    )


_MAC_FLAGS = {
    "avx2": r"^hw\.optional\.avx2_0: 1",
    "fma": r"^hw\.optional\.fma: 1",
    "avx512f": r"^hw\.optional\.avx512f: 1",
    "asimd": r"^hw\.optional\.(neon|AdvSIMD): 1",
    "asimddp": r"^hw\.optional\.arm\.FEAT_DotProd: 1",
    "i8mm": r"^hw\.optional\.arm\.FEAT_I8MM: 1",
    "bf16": r"^hw\.optional\.arm\.FEAT_BF16: 1",
    "sme": r"^hw\.optional\.arm\.FEAT_SME: 1",
}


def metal(ask: Ask, cpu: Device) -> list[Device]:
    """Apple's GPU, which shares the main memory and may wire iogpu.wired_limit_mb of it; by default 2/3 to 3/4."""
    if _number(ask(["sysctl", "-n", "hw.optional.arm64"])) != 1:
        return []
    set_by_user = _number(ask(["sysctl", "-n", "iogpu.wired_limit_mb"])) << 20
    usual = cpu.total_bytes * 2 // 3 if cpu.total_bytes <= 36 << 30 else cpu.total_bytes * 3 // 4
    total = set_by_user or usual
    free = min(total, cpu.free_bytes)
    return [Device(kind="metal", name=cpu.name, total_bytes=total, free_bytes=free, extra={"unified": True})]


def nvidia(ask: Ask, cpu: Device) -> list[Device]:
    """NVIDIA's GPUs in nvidia-smi's order, which is CUDA's only where CUDA_DEVICE_ORDER=PCI_BUS_ID.

    A GPU without memory of its own (Jetson, GB10) reports [N/A]; it is given the main memory and marked unified.
    """
    fields = "index,name,memory.total,memory.free,compute_cap,driver_version"
    table = ask(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines()]
    return [_nvidia(row, cpu) for row in rows if len(row) == 6 and row[0].isdigit()]


def _nvidia(row: Sequence[str], cpu: Device) -> Device:
    index, name, total, free, capability, driver = row
    own = total.isdigit() and free.isdigit()
    return Device(
        kind="cuda",
        index=int(index),
        name=name,
        total_bytes=int(total) << 20 if own else cpu.total_bytes,
        free_bytes=int(free) << 20 if own else cpu.free_bytes,
        extra={"compute_capability": capability, "driver": driver, "unified": not own},
    )


def windows_cpu() -> Device:
    """The CPU from the Windows API. https://learn.microsoft.com/windows/win32/api/sysinfoapi/ns-sysinfoapi-memorystatusex"""
    if sys.platform != "win32":
        raise OSError("windows_cpu() needs Windows")
    import ctypes
    import winreg

    kernel32 = ctypes.windll.kernel32
    status = (ctypes.c_uint64 * 8)()
    # MEMORYSTATUSEX: dwLength and dwMemoryLoad (4 bytes each), ullTotalPhys, ullAvailPhys, five more
    status[0] = ctypes.sizeof(status)
    kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
        name = str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    flags = [flag for flag, number in _WINDOWS_FLAGS.items() if kernel32.IsProcessorFeaturePresent(number)]
    cores = os.cpu_count() or 1
    extra = {"flags": flags, "cores": cores, "physical_cores": cores}
    return Device(kind="cpu", name=name, total_bytes=int(status[1]), free_bytes=int(status[2]), extra=extra)


_WINDOWS_FLAGS = {"sse4_2": 38, "avx": 39, "avx2": 40, "avx512f": 41, "asimd": 19, "asimddp": 43}
"""PF_* of winnt.h, for IsProcessorFeaturePresent."""


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else 0
