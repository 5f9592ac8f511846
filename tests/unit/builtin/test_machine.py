"""The machine's devices, from made-up /proc trees and from recorded output of the tools."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from anyform.builtin import machine
from anyform.contract.facts import Device

GIB = 1 << 30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"
CPUINFO = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8488C
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx avx2 fma avx512f amx_tile amx_int8 hypervisor

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8488C
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx avx2 fma avx512f amx_tile amx_int8 hypervisor
"""
PI_CPUINFO = "processor\t: 0\nFeatures\t: fp asimd asimddp crc32\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
CPU = Device(kind="cpu", name="Apple M2", total_bytes=24 * GIB, free_bytes=10 * GIB)


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_bare_linux_machine(tmp_path: Path) -> None:
    cpu = machine.linux_cpu(tree(tmp_path, {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO}))
    assert (cpu.id, cpu.name) == ("cpu", "Intel(R) Xeon(R) Platinum 8488C")
    assert (cpu.total_bytes, cpu.free_bytes) == (16 * GIB, 8 * GIB)
    assert cpu.extra["flags"] == ["avx", "avx2", "fma", "avx512f", "amx_tile", "amx_int8"]
    assert cpu.extra["physical_cores"] == 1


def test_an_arm_board(tmp_path: Path) -> None:
    cpu = machine.linux_cpu(tree(tmp_path, {"proc/cpuinfo": PI_CPUINFO, "proc/meminfo": MEMINFO}))
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert cpu.extra["flags"] == ["asimd", "asimddp"]


CGROUP_2 = {
    "proc/self/cgroup": "0::/pod/app\n",
    "sys/fs/cgroup/pod/memory.max": str(4 * GIB),
    "sys/fs/cgroup/pod/memory.current": str(3 * GIB),
    "sys/fs/cgroup/pod/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    "sys/fs/cgroup/pod/app/memory.max": "max\n",
    "sys/fs/cgroup/pod/app/cpu.max": "150000 100000\n",
}
CGROUP_1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * GIB),
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
    "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 2}\n",
}
UNLIMITED = {
    "proc/self/cgroup": "4:memory:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
}


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        (CGROUP_2, 4 * GIB, 2 * GIB),
        (CGROUP_1, 2 * GIB, GIB + GIB // 2),
        (UNLIMITED, 16 * GIB, 8 * GIB),
        ({"proc/self/cgroup": "nonsense\n"}, 16 * GIB, 8 * GIB),
    ],
)
def test_control_groups_limit_memory(tmp_path: Path, files: dict[str, str], total: int, free: int) -> None:
    cpu = machine.linux_cpu(tree(tmp_path, {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO, **files}))
    assert (cpu.total_bytes, cpu.free_bytes) == (total, free)


def test_control_groups_limit_cores(tmp_path: Path) -> None:
    cpu = machine.linux_cpu(tree(tmp_path, {"proc/meminfo": MEMINFO, **CGROUP_2}))
    assert cpu.extra["cores"] <= 2


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    cpu = machine.linux_cpu(tmp_path)
    assert (cpu.kind, cpu.total_bytes, cpu.free_bytes) == ("cpu", 0, 0)


def recorded(answers: Mapping[str, str]) -> machine.Ask:
    def ask(command: Sequence[str]) -> str:
        return answers.get(" ".join(command), answers.get(command[0], ""))

    return ask


def test_nvidia() -> None:
    table = (
        "0, NVIDIA GeForce RTX 4090, 24564, 22000, 8.9, 550.54.15\n"
        "1, NVIDIA GB10, [N/A], [N/A], 12.1, 580.1\n"
        "Unable to determine the device handle for GPU 0000:02:00.0: Unknown Error\n"
    )
    first, second = machine.nvidia(recorded({"nvidia-smi": table}), CPU)
    assert (first.id, first.name) == ("cuda:0", "NVIDIA GeForce RTX 4090")
    assert (first.total_bytes, first.free_bytes) == (24564 << 20, 22000 << 20)
    assert first.extra == {"compute_capability": "8.9", "driver": "550.54.15", "unified": False}
    assert (second.id, second.total_bytes, second.extra["unified"]) == ("cuda:1", CPU.total_bytes, True)


def test_no_nvidia_and_no_apple() -> None:
    nothing = recorded({})
    assert machine.nvidia(nothing, CPU) == []
    assert machine.metal(nothing, CPU) == []


def test_apple() -> None:
    vm_stat = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               65536.
Pages active:                            500000.
Pages inactive:                           65536.
Pages speculative:                            0.
Pages wired down:                        100000.
Pages purgeable:                          65536.
"""
    ask = recorded(
        {
            "sysctl -n hw.memsize": "25769803776\n",
            "sysctl -n machdep.cpu.brand_string": "Apple M2\n",
            "sysctl -n hw.physicalcpu": "8\n",
            "sysctl -n hw.optional.arm64": "1\n",
            "sysctl -a hw.optional": "hw.optional.neon: 1\nhw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_SME: 0\n",
            "vm_stat": vm_stat,
        }
    )
    cpu = machine.mac_cpu(ask)
    assert (cpu.name, cpu.total_bytes, cpu.free_bytes) == ("Apple M2", 24 * GIB, 3 * GIB)
    assert cpu.extra["flags"] == ["asimd", "i8mm"]
    [gpu] = machine.metal(ask, cpu)
    assert (gpu.id, gpu.total_bytes, gpu.free_bytes) == ("metal:0", 16 * GIB, 3 * GIB)


def test_tools_that_fail_or_hang_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "COMMAND_TIMEOUT_S", 0.2)
    assert machine.ask([sys.executable, "-c", "print('yes')"]).strip() in ("yes", "")
    assert machine.ask([sys.executable, "-c", "print('no'); raise SystemExit(1)"]) == ""
    assert machine.ask([sys.executable, "-c", "import time; time.sleep(60)"]) == ""
    assert machine.ask(["no-such-tool-anywhere"]) == ""


def test_this_machine_has_a_cpu_with_memory() -> None:
    cpu = machine.find_devices()[0]
    assert cpu.id == "cpu"
    assert 0 < cpu.free_bytes <= cpu.total_bytes
    assert cpu.extra["cores"] >= 1
