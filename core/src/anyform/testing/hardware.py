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

PI = (_cpu("Raspberry Pi 5 Model B Rev 1.0", 8, 6.5, 4, "asimd asimddp asimdhp"),)
"""A small ARM board."""

MACHINES = {"laptop": LAPTOP, "server": SERVER, "rtx_4090": RTX_4090, "m2": M2, "pi": PI}
