"""What `plugins` says of a plugin whose backends have their engines, or lack some."""

from __future__ import annotations

import sys

import pytest

from anyform.cli.plugins import _print, _state, lacking
from anyform.cli.terminal import Terminal
from anyform.contract.facts import BackendInfo
from anyform.kernel.choice import EngineState
from anyform.kernel.plugins import PluginRecord

SOUND = PluginRecord(name="audio", module="m")


def engine(*missing: str) -> EngineState:
    backend = BackendInfo(name="b", reads=("x",), tasks=("speak",))
    return EngineState(plugin="audio", backend=backend, versions={}, missing=missing)


@pytest.mark.parametrize(
    ("missing", "state"),
    [
        ((), ("sound", "green")),
        (((), ()), ("sound", "green")),
        ((("a",), ()), ("1 of 2 engines", "yellow")),
        ((("a",), ("b",), ()), ("1 of 3 engines", "yellow")),
        ((("a",), ("b", "c")), ("no engine", "yellow")),
    ],
)
def test_some_engines_are_not_none(missing: tuple[tuple[str, ...], ...], state: tuple[str, str]) -> None:
    assert _state(SOUND, [engine(*names) for names in missing]) == state


def test_an_engine_that_cannot_be_used_here_is_none() -> None:
    backend = BackendInfo(name="npu", reads=("x",), tasks=("chat",), trouble="no NPU was found")
    useless = EngineState(plugin="audio", backend=backend, versions={}, trouble=backend.trouble)
    assert _state(SOUND, [useless]) == ("no engine", "yellow")
    assert _state(SOUND, [useless, engine()]) == ("1 of 2 engines", "yellow")


def test_what_a_backend_lacks_is_a_sentence() -> None:
    assert lacking(engine("a")) == "a is not installed"
    assert lacking(engine("a", "b")) == "a, b are not installed"


def test_plugins_that_speak_over_http_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    speaks = PluginRecord(name="toy_api", module="m", hooks=("add_routes",))
    broken = PluginRecord(name="bad_api", module="m", hooks=("add_routes",), sound=False, reason="it is broken")
    _print(Terminal(sys.stdout), [SOUND, speaks, broken], [], [], [])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "over HTTP: toy_api (`anyform serve --listen PORT=NAME`: at a port of its own)"
