"""The contract's own values: frozen, named, with the few computations that they carry."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest

from anyform.contract import errors, events, facts, jobs
from anyform.contract.errors import Category, ContextExceeded, Fault, Invalid, PluginFault
from anyform.contract.facts import Device, MemoryEstimate, Settings
from anyform.contract.jobs import Message, Picture, Text
from anyform.contract.model import LoadedModel, Stop

FACTS = [
    member
    for module in (facts, jobs, events)
    for member in vars(module).values()
    if dataclasses.is_dataclass(member) and isinstance(member, type) and member.__module__ == module.__name__
]
FAULTS = [member for member in vars(errors).values() if isinstance(member, type) and issubclass(member, Fault)]


@pytest.mark.parametrize("cls", FACTS, ids=lambda cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}")
def test_facts_are_frozen_slotted_and_named(cls: Any) -> None:
    assert cls.__dataclass_params__.frozen
    assert "__slots__" in vars(cls)
    assert all(field.kw_only for field in dataclasses.fields(cls))
    assert cls.__doc__ is not None
    assert not cls.__doc__.startswith(f"{cls.__name__}(")


def test_each_job_has_a_task_of_its_own() -> None:
    tasks = [cls.task for cls in FACTS if cls.__module__ == jobs.__name__ and hasattr(cls, "task")]
    assert len(tasks) == len(set(tasks)) == 14


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (Settings(), 110),
        (Settings(context=100), 1110),
        (Settings(context=100, parallel=3), 3110),
    ],
)
def test_an_estimate_counts_every_requests_context(settings: Settings, size: int) -> None:
    assert MemoryEstimate(weights_bytes=100, bytes_per_token=10, overhead_bytes=10).at(settings) == size


@pytest.mark.parametrize(
    ("device", "name"),
    [(Device(kind="cpu"), "cpu"), (Device(kind="cuda"), "cuda:0"), (Device(kind="cuda", index=2), "cuda:2")],
)
def test_device_ids(device: Device, name: str) -> None:
    assert device.id == name


def test_a_messages_text_is_its_text_parts() -> None:
    parts = (Text(text="a"), Picture(data=b""), Text(text="b"))
    assert Message(role="user", parts=parts).text == "ab"


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_faults_have_codes_of_their_own_and_say_when(cls: type[Fault]) -> None:
    assert cls.__doc__
    assert [other for other in FAULTS if other.code == cls.code] == [cls]


def test_a_fault_revives_as_its_own_class() -> None:
    fault = ContextExceeded("too long.", "Say less.", prompt_tokens=5, context=3)
    back = Fault.revive(fault.as_dict())
    assert type(back) is ContextExceeded
    assert (str(back), back.details) == ("too long. Say less.", {"prompt_tokens": 5, "context": 3})


def test_a_plugin_fault_revives_although_it_is_built_otherwise() -> None:
    back = Fault.revive(PluginFault("p", "load", ValueError("x")).as_dict())
    assert type(back) is PluginFault
    assert back.details == {"plugin": "p", "hook": "load", "cause": "ValueError: x"}


def test_a_foreign_code_keeps_its_category() -> None:
    class Odd(Invalid):
        """Known in the worker only."""

        code = "odd.thing"

    said = {**Odd("no.").as_dict(), "code": "other.thing"}
    back = Fault.revive(said)
    assert (back.code, back.category) == ("other.thing", Category.INVALID)


def test_stop_calls_once_whoever_comes_first() -> None:
    stop, calls = Stop(), list[str]()
    stop.when_set(lambda: calls.append("before"))
    assert not stop.is_set()
    stop.set()
    stop.set()
    stop.when_set(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_stop_wakes_a_waiting_thread() -> None:
    stop = Stop()
    threading.Thread(target=stop.set).start()
    assert stop.wait(10)


def test_a_loaded_model_is_known_by_its_methods() -> None:
    from anyform.builtin.echo_engine import EchoModel

    assert isinstance(EchoModel("e", (), 1, 1, {}), LoadedModel)
