"""Canned hardware: the devices of a few well-known machines, for tests that must not depend on the one they run on."""

from __future__ import annotations

from anyform.contract.facts import Device

GIB = 1 << 30


def _cpu(name: str, total_gib: float, free_gib: float, cores: int, flags: str) -> Device:
    extra = {"flags": flags.split(), "cores": cores, "physical_cores": cores}
    return Device(kind="cpu", name=name, total_bytes=int(total_gib * GIB), free_bytes=int(free_gib * GIB), extra=extra)


LAPTOP = (_cpu("12th Gen Intel(R) Core(TM) i5-1240P", 16, 9, 12, "sse4_2 avx avx2 fma f16c avx_vnni"),)
"""A laptop without a usable GPU."""

SERVER = (
    _cpu(
        "Intel(R) Xeon(R) Platinum 8488C", 256, 240, 48, "avx avx2 fma avx512f avx512_vnni amx_tile amx_int8 amx_bf16"
    ),
)
"""A server CPU with AMX tiles and no GPU."""

RTX_4090 = (
    _cpu("AMD Ryzen 9 7950X", 64, 50, 16, "sse4_2 avx avx2 fma f16c avx512f avx512_vnni avx512_bf16"),
    Device(
        kind="cuda",
        name="NVIDIA GeForce RTX 4090",
        total_bytes=24 * GIB,
        free_bytes=22 * GIB,
        extra={"compute_capability": "8.9", "driver": "550.54.15", "unified": False},
    ),
)
"""A desktop with one large GPU."""

M2 = (
    _cpu("Apple M2", 24, 14, 8, "asimd asimddp asimdhp i8mm bf16"),
    Device(kind="metal", name="Apple M2", total_bytes=16 * GIB, free_bytes=14 * GIB, extra={"unified": True}),
)
"""A Mac whose GPU shares the main memory."""

H200 = (
    _cpu(
        "Intel(R) Xeon(R) Platinum 8480C",
        2015,
        1900,
        112,
        "avx avx2 fma avx512f avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16",
    ),
    Device(
        kind="cuda",
        name="NVIDIA H200",
        total_bytes=143771 << 20,
        free_bytes=143167 << 20,
        extra={"compute_capability": "9.0", "driver": "550.90.07", "unified": False},
    ),
)
"""One GPU of a server: 141 GB, of which the driver shows 143771 MiB."""

M3_MAX = (
    _cpu("Apple M3 Max", 64, 52, 16, "asimd asimddp asimdhp i8mm bf16"),
    Device(kind="metal", name="Apple M3 Max", total_bytes=48 * GIB, free_bytes=46 * GIB, extra={"unified": True}),
)
"""A large Mac: Metal recommends 48 of its 64 GiB at the most."""

RK3588 = (
    _cpu("Rockchip RK3588", 15.6, 13, 8, "asimd asimddp asimdhp"),
    Device(
        kind="rknpu",
        name="Rockchip RK3588 NPU",
        total_bytes=int(15.6 * GIB),
        free_bytes=13 * GIB,
        extra={"cores": 3, "unified": True},
    ),
)
"""A board with an NPU of three cores that works in the main memory."""

TWO_GPU = (
    _cpu("AMD Ryzen Threadripper 3960X 24-Core Processor", 125.7, 110, 24, "sse4_2 avx avx2 fma f16c"),
    *(
        Device(
            kind="cuda",
            index=index,
            name="NVIDIA GeForce RTX 3090",
            total_bytes=24 * GIB,
            free_bytes=free_mib << 20,
            extra={"compute_capability": "8.6", "driver": "550.54.15", "unified": False},
        )
        for index, free_mib in enumerate((9000, 23800))
    ),
)
"""A workstation with two GPUs, of which the first does something else already."""

PI = (_cpu("Raspberry Pi 5 Model B Rev 1.0", 8, 6.5, 4, "asimd asimddp asimdhp"),)
"""A small ARM board."""

MACHINES = {
    "laptop": LAPTOP,
    "server": SERVER,
    "rtx_4090": RTX_4090,
    "h200": H200,
    "m2": M2,
    "m3_max": M3_MAX,
    "rk3588": RK3588,
    "two_gpu": TWO_GPU,
    "pi": PI,
}
