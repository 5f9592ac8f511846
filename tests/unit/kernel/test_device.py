"""Where a model goes: the accelerator with room, the freest; beside main memory where a backend spills; main memory."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Evidence,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Plan,
    Settings,
)
from anyform.contract.hooks import hookimpl
from anyform.kernel.choice import Choice
from anyform.kernel.hardware import Hardware
from anyform.kernel.learned import engine_key
from anyform.kernel.plugins import Plugins
from anyform.kernel.router import Need
from anyform.workers.learned import Learned

GIB = 1 << 30
MATCH = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.MAGIC, why="so")


class Engine:
    """A backend whose estimate is the weights and a MiB a token."""

    ANYFORM_CONTRACT = 1
    info = BackendInfo(name="e", reads=("f",), tasks=("chat",), devices=("cpu", "cuda", "metal"), options={"own": 1})

    @hookimpl
    def list_backends(self) -> list[BackendInfo]:
        return [self.info]

    @hookimpl
    def estimate_memory(self, metadata: Metadata) -> MemoryEstimate:
        return MemoryEstimate(weights_bytes=metadata.weight_bytes or 0, bytes_per_token=1 << 20)

    @hookimpl
    def load(self) -> None: ...


def cpu(free_gib: float) -> Device:
    return Device(kind="cpu", total_bytes=256 * GIB, free_bytes=int(free_gib * GIB))


def cuda(index: int, free_gib: float) -> Device:
    return Device(kind="cuda", index=index, total_bytes=256 * GIB, free_bytes=int(free_gib * GIB))


def planned(weights_gib: float, *devices: Device, spills: bool = False, **settings: Any) -> Plan | None:
    learned = Learned(None)
    kinds = tuple(dict.fromkeys(device.kind for device in devices))
    found = Capabilities(engine_version="1", devices=kinds, spills=spills)
    learned.remember_probe(engine_key("engine", Engine.info), found)
    plugins = Plugins.of({"engine": Engine()})
    choice = Choice(plugins, Hardware(devices=devices, fingerprint="x"), learned, None)
    wanted = Settings(parallel=1, **settings)
    metadata = Metadata(tasks=("chat",), context=1024, weight_bytes=int(weights_gib * GIB))
    return choice.decide([(MATCH, metadata, [])], Need(model="m", path="/", device=wanted.device), wanted, ()).plan


@pytest.mark.parametrize(
    ("weights_gib", "devices", "spills", "on"),
    [
        (4, (cuda(0, 22), cpu(50)), False, ["cuda:0"]),
        (4, (cuda(0, 8), cuda(1, 22), cpu(50)), False, ["cuda:1"]),
        (4, (cuda(0, 22), cuda(1, 22), cpu(50)), False, ["cuda:0"]),
        (30, (cuda(0, 22), cpu(50)), False, ["cpu"]),
        (30, (cuda(0, 22), cpu(50)), True, ["cuda:0", "cpu"]),
        (30, (cuda(0, 8), cuda(1, 22), cpu(50)), True, ["cuda:1", "cpu"]),
        (4, (cpu(9),), True, ["cpu"]),
    ],
)
def test_where_a_model_goes(weights_gib: float, devices: tuple[Device, ...], spills: bool, on: list[str]) -> None:
    plan = planned(weights_gib, *devices, spills=spills)
    assert plan is not None
    assert [device.id for device in plan.devices] == on


def test_a_context_that_is_asked_for_decides_which_accelerator_has_room() -> None:
    plan = planned(4, cuda(0, 6), cuda(1, 9), cpu(50), context=4096)
    assert plan is not None
    assert [device.id for device in plan.devices] == ["cuda:1"]


def test_a_computed_context_stays_beside_weights_that_fit() -> None:
    plan = planned(4, cuda(0, 5.5), cpu(50), spills=True)
    assert plan is not None
    assert [device.id for device in plan.devices] == ["cuda:0"]
    assert plan.settings.context is not None
    assert plan.settings.context < 1024


def test_shared_memory_is_not_counted_twice() -> None:
    shared = Device(kind="metal", total_bytes=48 * GIB, free_bytes=46 * GIB, extra={"unified": True})
    assert planned(60, shared, cpu(52), spills=True) is None
    plan = planned(48, shared, cpu(52), spills=True)
    assert plan is not None
    assert [device.id for device in plan.devices] == ["metal:0", "cpu"]


def test_a_kind_that_the_user_names_becomes_the_device_that_was_chosen() -> None:
    plan = planned(4, cuda(0, 8), cuda(1, 22), cpu(50), device="cuda")
    assert plan is not None
    assert plan.settings.device == "cuda:1"
    unasked = planned(4, cuda(0, 8), cpu(50))
    assert unasked is not None
    assert unasked.settings.device is None


def test_a_backends_own_options_go_under_the_users() -> None:
    plan = planned(1, cpu(9), options={"mine": 2})
    assert plan is not None
    assert plan.settings.options == {"own": 1, "mine": 2}
    plan = planned(1, cpu(9), options={"own": 3})
    assert plan is not None
    assert plan.settings.options == {"own": 3}
