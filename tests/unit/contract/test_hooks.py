"""Each hook can be asked through the kernel, with its arguments, of an implementation that takes some of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Fault, PluginFault
from anyform.contract.facts import (
    BackendInfo,
    Capabilities,
    Device,
    Evidence,
    Finding,
    FormatMatch,
    MemoryEstimate,
    Metadata,
    Plan,
    Settings,
    Severity,
)
from anyform.contract.hooks import Place, hookimpl
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins, hook_names

BACKEND = BackendInfo(name="whole", reads=("whole",), tasks=("complete",))
MATCH = FormatMatch(format="whole", entry=".", files=(), evidence=Evidence.LAYOUT, why="a test")
DEVICE = Device(kind="abacus", index=1, total_bytes=10, free_bytes=5)


class Source:
    """A place with one model."""

    name = "shelf"

    def find(self) -> list[Place]:
        return [Place(path=Path("book"))]


class Whole:
    """A plugin with an answer to everything; methods take as few arguments as they need."""

    ANYFORM_CONTRACT = 1
    routes: Any = None

    @hookimpl
    def list_backends(self) -> list[BackendInfo]:
        return [BACKEND]

    @hookimpl
    def find_devices(self) -> list[Device]:
        return [DEVICE]

    @hookimpl
    def list_sources(self) -> list[Source]:
        return [Source()]

    @hookimpl
    def detect_format(self, files: FolderFiles) -> list[FormatMatch]:
        return [MATCH] if not files.files else []

    @hookimpl
    def validate(self, match: FormatMatch) -> list[Finding]:
        return [Finding(code="whole.note", severity=Severity.INFO, text=match.why)]

    @hookimpl
    def extract_metadata(self) -> Metadata:
        return Metadata(tasks=("complete",))

    @hookimpl
    def estimate_memory(self, settings: Settings, backend: BackendInfo) -> MemoryEstimate:
        return MemoryEstimate(weights_bytes=settings.context or 0, why=backend.name)

    @hookimpl
    def probe_backend(self, backend: BackendInfo) -> Capabilities:
        return Capabilities(engine_version=f"{backend.name} 1")

    @hookimpl
    def load(self, plan: Plan) -> Any:
        raise Fault(f"{plan.model} is a test.")

    @hookimpl
    def add_routes(self, routes: list[str], runtime: str) -> None:
        routes.append(runtime)


@pytest.fixture
def plugins() -> Plugins:
    return Plugins.of({"whole": Whole()})


def test_collected_hooks_come_with_their_plugin(plugins: Plugins, tmp_path: Path) -> None:
    assert plugins.ask_all("list_backends") == [("whole", [BACKEND])]
    assert plugins.ask_all("find_devices") == [("whole", [DEVICE])]
    assert plugins.ask_all("detect_format", files=FolderFiles(tmp_path)) == [("whole", [MATCH])]
    [(_, [source])] = plugins.ask_all("list_sources")
    assert list(source.find()) == [Place(path=Path("book"))]


def test_routes_are_added_to_what_the_server_gives(plugins: Plugins) -> None:
    routes: list[str] = []
    plugins.ask_all("add_routes", routes=routes, runtime="the runtime")
    assert routes == ["the runtime"]


def test_addressed_hooks_get_the_arguments_that_they_name(plugins: Plugins, tmp_path: Path) -> None:
    files, settings = FolderFiles(tmp_path), Settings(context=7)
    [finding] = plugins.ask_one("whole", "validate", files=files, match=MATCH)
    assert finding.text == "a test"
    metadata = plugins.ask_one("whole", "extract_metadata", files=files, match=MATCH)
    given = {"backend": BACKEND, "metadata": metadata, "settings": settings}
    assert plugins.ask_one("whole", "estimate_memory", **given) == MemoryEstimate(weights_bytes=7, why="whole")
    assert plugins.ask_one("whole", "probe_backend", backend=BACKEND).engine_version == "whole 1"


def test_a_fault_of_load_comes_through_as_it_is(plugins: Plugins) -> None:
    plan = Plan(
        plugin="whole", backend="whole", model="m", path=".", match=MATCH, metadata=Metadata(), settings=Settings()
    )
    with pytest.raises(Fault, match="m is a test") as caught:
        plugins.ask_one("whole", "load", plan=plan)
    assert not isinstance(caught.value, PluginFault)


def test_all_hooks_are_answered_here(plugins: Plugins) -> None:
    [record] = plugins.records
    assert list(record.hooks) == hook_names()
