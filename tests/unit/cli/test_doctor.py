"""What `doctor` says of devices, and of engines that have trouble."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from anyform.assembly import start
from anyform.cli.doctor import engine_check, hardware_checks
from anyform.contract.errors import Invalid
from anyform.contract.facts import BackendInfo, Device
from anyform.contract.hooks import hookimpl
from anyform.kernel.choice import EngineState
from anyform.kernel.plugins import Plugins
from anyform.kernel.runtime import Runtime

GIB = 1 << 30


def state(devices: tuple[str, ...], trouble: str = "", engine: tuple[str, ...] = ()) -> EngineState:
    backend = BackendInfo(name="npu", reads=("x",), tasks=("chat",), devices=devices, engine=engine, trouble=trouble)
    return EngineState(plugin="board", backend=backend, versions={}, trouble=trouble)


def test_an_engine_for_devices_that_are_not_here_is_a_note_with_its_reason() -> None:
    check = engine_check(state(("rknpu",), "no NPU was found"), {"cpu"})
    assert (check.state, check.text) == ("note", "this machine has no rknpu: no NPU was found")


def test_an_engine_whose_device_is_here_is_broken_by_its_trouble() -> None:
    check = engine_check(state(("rknpu",), "its library is missing"), {"cpu", "rknpu"})
    assert (check.state, check.text) == ("broken", "its library is missing")
    assert engine_check(state(("cpu", "cuda"), "its program is not in PATH"), {"cpu"}).state == "broken"


def test_an_engine_that_does_not_import_is_broken_whatever_its_devices() -> None:
    assert engine_check(state(("cuda",), "it crashed", ("engine",)), {"cpu"}).state == "broken"


def test_an_engine_without_trouble_runs_on_what_is_here() -> None:
    check = engine_check(state(("cpu", "cuda", "rknpu")), {"cpu", "rknpu"})
    assert (check.state, check.text) == ("good", "needs no package, runs on cpu, rknpu")


class Board:
    ANYFORM_CONTRACT = 1

    @staticmethod
    @hookimpl
    def find_devices() -> list[Device]:
        extra = {"driver": "0.9.6", "runtime": "1.2.3", "notes": ["the driver is old", "its library is new"]}
        return [Device(kind="rknpu", name="An NPU", total_bytes=2 * GIB, free_bytes=GIB, extra=extra)]


class Wrong:
    ANYFORM_CONTRACT = 1

    @staticmethod
    @hookimpl
    def find_devices() -> list[Device]:
        raise Invalid("plugin.wrong.a is 1.", "It must be text.")


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = start(plugins=Plugins.of({"board": Board, "wrong": Wrong}))
    yield runtime
    runtime.close()


def test_a_device_has_its_software_and_what_is_to_be_known_of_it(runtime: Runtime) -> None:
    told = [(check.state, check.about, check.text) for check in hardware_checks(runtime)]
    assert told == [
        ("good", "device rknpu:0", "An NPU, 1.0 GiB of 2.0 GiB free, driver 0.9.6, runtime 1.2.3"),
        ("warning", "device rknpu:0", "the driver is old."),
        ("warning", "device rknpu:0", "its library is new."),
        ("broken", "plugin", "plugin wrong failed in find_devices: plugin.wrong.a is 1. It must be text."),
    ]
