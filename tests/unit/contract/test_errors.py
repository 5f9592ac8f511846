"""Faults say where to look, how bad it is, what it goes back to and what may help; over the wire too."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import anyform
from anyform.contract.errors import Area, Category, EngineMissing, Fault, Invalid, LoadFailed, OutOfMemory, PluginFault
from anyform.contract.facts import Severity

PLUGINS = ("anyform_gguf_llamacpp", "anyform_hf_transformers")
SERVER_ONLY = {
    "anyform.contract.errors.Fault", "anyform.contract.errors.Closed", "anyform.contract.errors.Overloaded",
    "anyform.http.fault.Internal", "anyform.cli.client.ServerAbsent", "anyform.cli.client.ServerRefused",
}  # fmt: skip
"""The faults that are the server's own; whoever forgets to say an area would be among them."""


def below(cls: type[Fault]) -> Iterator[type[Fault]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from below(sub)


@pytest.fixture(scope="module")
def faults() -> list[type[Fault]]:
    """Every fault that the core and the plugins here define."""
    for module in pkgutil.walk_packages(anyform.__path__, "anyform."):
        if module.name.rpartition(".")[2] != "__main__" and ".testing" not in module.name:
            importlib.import_module(module.name)
    for package in map(importlib.import_module, PLUGINS):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            try:
                importlib.import_module(module.name)
            except EngineMissing:
                continue  # what such a module defines cannot be raised here either
            except ModuleNotFoundError as absent:
                if absent.name not in ("numpy", "llguidance", "jinja2"):
                    raise
    return [cls for cls in dict.fromkeys(below(Fault)) if cls.__module__.startswith("anyform")]


def named(cls: type[Fault]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def test_every_fault_says_its_code_category_area_and_severity(faults: list[type[Fault]]) -> None:
    assert len(faults) > 40
    for cls in faults:
        assert isinstance(cls.area, Area), named(cls)
        assert isinstance(cls.severity, Severity), named(cls)
        assert isinstance(cls.category, Category), named(cls)
        assert cls.code, named(cls)


def test_only_the_servers_own_faults_lie_with_the_server(faults: list[type[Fault]]) -> None:
    found = {named(cls) for cls in faults if cls.area is Area.SERVER and cls.__qualname__ != "ForeignFault"}
    assert found == SERVER_ONLY


def test_what_the_caller_alone_can_mend_is_no_alarm(faults: list[type[Fault]]) -> None:
    loud = [named(cls) for cls in faults if issubclass(cls, Invalid) and cls.severity is not Severity.INFO]
    assert loud == []


@pytest.mark.parametrize("area", sorted(set(Area) - {Area.HARDWARE}))
def test_every_area_but_hardware_which_is_for_plugins_has_a_fault(area: Area, faults: list[type[Fault]]) -> None:
    assert [cls for cls in faults if cls.area is area]


def test_suggestions_begin_with_the_hint() -> None:
    assert Fault("x").suggestions == ()
    assert Fault("x", "A.").suggestions == ("A.",)
    assert Fault("x", "A.", suggestions=["B.", "C."]).suggestions == ("A.", "B.", "C.")
    assert Fault("x", suggestions=["B."]).suggestions == ("B.",)
    late = Fault("x", "A.", suggestions=["B."])
    late.hint = "First this. A."
    assert late.suggestions == ("First this. A.", "B.")


def test_message_and_hint_are_two_sentences() -> None:
    assert str(Fault("It broke.", "Mend it.")) == "It broke. Mend it."
    assert str(Fault("server said no", "Mend it.")) == "server said no. Mend it."
    assert str(Fault("no")) == "no"


def test_the_cause_is_what_was_said_or_the_innermost_exception() -> None:
    assert Fault("x").cause == ""
    assert Fault("x", cause="no room").cause == "no room"
    with pytest.raises(LoadFailed) as caught:
        fail()
    assert caught.value.cause == "OSError: disk gone"
    with pytest.raises(LoadFailed) as caught:
        raise LoadFailed("m failed.") from Invalid("threads is -1.")
    assert caught.value.cause == "threads is -1."


def fail() -> None:
    """A fault from an exception from another."""
    try:
        try:
            raise OSError("disk gone")
        except OSError as error:
            raise ValueError("middle") from error
    except ValueError as error:
        raise LoadFailed("m failed.") from error


def test_exceptions_that_blame_each_other_end() -> None:
    fault, other = Fault("x"), ValueError("y")
    fault.__cause__, other.__cause__ = other, fault
    assert fault.cause == "ValueError: y"
    fault.__cause__ = fault
    assert fault.cause == "x"


@pytest.mark.parametrize(
    ("details", "part"),
    [
        ({}, ""),
        ({"param": "top_k"}, "top_k"),
        ({"param": "x", "model": "m", "plugin": "p"}, "m"),
        ({"device": "cuda:0", "needs": 3}, "cuda:0"),
        ({"model": "", "file": "a.gguf"}, "a.gguf"),
    ],
)
def test_the_part_is_the_most_telling_detail(details: dict[str, object], part: str) -> None:
    assert Fault("x", **details).part == part


def test_all_of_it_crosses_the_wire() -> None:
    fault = OutOfMemory("m needs 9 GiB.", "Ask for less.", suggestions=["Close n."], cause="cudaMalloc: 2", model="m")
    back = Fault.revive(fault.as_dict())
    assert type(back) is OutOfMemory
    assert back.as_dict() == fault.as_dict()
    assert back.as_dict()["area"] == "memory"
    for one in (PluginFault("p", "load", ValueError("x")), Fault("x", suggestions=["B."]), EngineMissing("x")):
        assert Fault.revive(one.as_dict()).as_dict() == one.as_dict()


def test_a_foreign_fault_keeps_what_its_plugin_says_of_it() -> None:
    said = {**OutOfMemory("no.", "Do.", device="npu:0").as_dict(), "code": "rknn.lost"}
    said |= {"area": "hardware", "severity": "critical"}
    back = Fault.revive(said)
    assert (back.code, back.area, back.severity, back.part) == ("rknn.lost", Area.HARDWARE, Severity.CRITICAL, "npu:0")
    assert back.as_dict() == said


def test_what_an_older_worker_says_is_understood() -> None:
    back = Fault.revive({"code": "old.thing", "category": "unavailable", "message": "x", "hint": "y", "details": {}})
    assert (back.area, back.severity, back.suggestions, back.cause, back.part) == (
        Area.SERVER,
        Severity.WARNING,
        ("y",),
        "",
        "",
    )
