"""What is told of each kind of board, against files in golden/device, byte for byte: its devices, the router's table,
and the refusal; as `explain` has them, through the real plugin, choice and router, over small trees of /proc and /sys.

A change that is meant is written by `python plugins/rkllm/tests/test_device_golden.py`, and its difference read before
it is kept. In the files ROOT is the tree's folder and HOST the machine that the tests run on.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.contract.errors import Fault
from anyform.contract.jobs import Chat, Message, Text
from anyform.kernel.plugins import Plugins
from anyform.kernel.runtime import Runtime
from anyform.testing import rkllm, rockchip
from anyform_rkllm import library, plugin
from anyform_rkllm.info import LIBRARY

GOLDEN = Path(__file__).parent / "golden" / "device"
STAND_IN = "anyform_rkllm_stand_in"
CONTAINER = rockchip.hidden(rockchip.tree("rk3588", driver="legacy"), sys=True)
NO_NODE = {name: text for name, text in rockchip.tree("rk3588").items() if not name.startswith("dev/")}


@dataclass(frozen=True)
class Case:
    """A machine: its files, the library on it (None: none), and its settings."""

    tree: rockchip.Tree
    library: Mapping[str, str] | None = field(default_factory=dict)
    table: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "rk3588": Case(rockchip.tree("rk3588")),
    "rk3588s_legacy": Case(rockchip.tree("rk3588s", driver="legacy")),
    "rk3576": Case(rockchip.tree("rk3576")),
    "rk3562": Case(rockchip.tree("rk3562")),
    "rv1126b": Case(rockchip.tree("rv1126b")),
    "rk3568": Case(rockchip.tree("rk3568")),
    "mainline": Case(rockchip.tree("rk3588", driver="rocket"), None),
    "no_driver": Case(rockchip.tree("rk3588", driver=""), None),
    "none": Case({"proc/meminfo": rockchip.MEMORY}, None),
    "container": Case(CONTAINER),
    "container_told": Case(CONTAINER, table={"platform": "RK3588"}),
    "container_without_device": Case(rockchip.hidden(NO_NODE)),
    "told_otherwise": Case(rockchip.tree("rk3588"), table={"platform": "RK3576"}),
    "driver_0.9.3": Case(rockchip.tree("rk3588", version="0.9.3"), None),
    "driver_0.9.6": Case(rockchip.tree("rk3588", version="0.9.6")),
    "driver_unknown": Case(rockchip.tree("rk3588", version="")),
    "library_missing": Case(rockchip.tree("rk3588"), None),
    "library_named_wrongly": Case(rockchip.tree("rk3588"), table={"library": "/nowhere/librkllmrt.so"}),
    "library_of_another_machine": Case(rockchip.tree("rk3588"), {"machine": "s390x"}),
    "library_of_32_bits": Case(rockchip.tree("rk3588"), {"machine": "arm"}),
    "library_1.1.4": Case(rockchip.tree("rk3588"), {"version": "1.1.4"}),
    "library_beta": Case(rockchip.tree("rk3588"), {"version": "1.2.1b1"}),
    "library_1.0.1": Case(rockchip.tree("rk3588"), {"version": "1.0.1"}),
    "library_later": Case(rockchip.tree("rk3588"), {"version": "1.4.0"}),
    "library_without_version": Case(rockchip.tree("rk3588"), {"version": ""}),
    "stand_in_refused": Case(rockchip.tree("rk3588"), {"mark": STAND_IN}),
    "stand_in": Case(rockchip.tree("rk3588"), {"mark": STAND_IN}, {"stand_in": True}),
    "wrong_key": Case(rockchip.tree("rk3588"), table={"libary": "/usr/lib"}),
    "wrong_value": Case(rockchip.tree("rk3588"), table={"library": 5}),
}


def told(case: Case, folder: Path) -> str:
    """All that is told of *case*, with what differs between machines left out."""
    root = rockchip.write(folder / "root", case.tree)
    if case.library is not None:
        rockchip.library(root / "usr/lib" / LIBRARY, **case.library)
    seen = re.search(r"rockchip,(r\w\d{4}b?)", case.tree.get("proc/device-tree/compatible", ""))
    chip = case.table.get("platform", seen[1] if seen else "rk3588").lower()
    model = rkllm.write(folder / f"Tiny-0.1B-{chip}-w8a8-opt-1-hybrid-ratio-0.0.rkllm", trailer=None)
    plugins = Plugins.of({"rkllm": plugin})
    plugins.tables = {"rkllm": {"root": str(root), **case.table}}
    runtime = start([model], where="here", plugins=plugins)
    try:
        text = "\n".join(_lines(runtime)) + "\n"
    finally:
        runtime.close()
    machine, bits = library.host()
    text = text.replace(str(root), "ROOT").replace(f"{bits}-bit Python on {machine}", "HOST")
    return re.sub(r"[\d.]+ [KMG]?i?B of", "SOME of", text)


def _lines(runtime: Runtime) -> Iterator[str]:
    yield "devices"
    for device in runtime.hardware().devices:
        yield f"  {device.id}: {device.name}, {device.free_bytes} of {device.total_bytes} bytes"
        yield from (f"    {name}: {json.dumps(value)}" for name, value in device.extra.items())
    [state] = runtime.capabilities(probe=False)
    yield "backend"
    yield f"  trouble: {state.trouble or '-'}"
    yield f"  features: {' '.join(state.backend.features)}"
    yield from (f"  option {name}: {json.dumps(value)}" for name, value in state.backend.options.items())
    [name] = runtime.names()
    decision = runtime.explain(name)
    yield "explain"
    yield from (f"  {line}" for line in (*decision.lines(), *(f"note: {note}" for note in decision.notes)))
    if decision.plan is None:
        yield "refusal"
        yield f"  {_refusal(runtime, name)}"


def _refusal(runtime: Runtime, name: str) -> str:
    job = Chat(messages=(Message(role="user", parts=(Text(text="Hi"),)),))
    with pytest.raises(Fault) as caught:
        list(runtime.generate(name, job))
    return f"{caught.value.code}: {caught.value}"


@pytest.mark.parametrize("name", CASES)
def test_a_machine_is_told_of_as_ever(name: str, tmp_path: Path) -> None:
    assert told(CASES[name], tmp_path) == (GOLDEN / f"{name}.txt").read_text("utf-8")


def test_each_file_is_of_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == CASES.keys()


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(told(case, Path(folder)), encoding="utf-8", newline="")
    sys.stdout.write(f"{len(CASES)} files in {GOLDEN}\n")
