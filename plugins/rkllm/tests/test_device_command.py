"""`explain`, `plugins` and `doctor` say what a machine lacks, and what is wrong with its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.cli import main
from anyform.cli.doctor import engine_check, hardware_checks
from anyform.kernel.plugins import Plugins
from anyform.testing import rkllm, rockchip
from anyform_rkllm import plugin
from anyform_rkllm.info import LIBRARY

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Remembers for all tests which plugins can be imported."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def command(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """(settings, words) -> exit code, and what was printed in one line."""
    monkeypatch.setenv("ANYFORM_STATE", str(state))
    monkeypatch.setenv("COLUMNS", "1000")

    def run(settings: str, *words: str) -> tuple[int, str]:
        file = tmp_path / "anyform.toml"
        file.write_text(settings)
        code = main([*words, "--config", str(file)])
        return code, " ".join(capsys.readouterr().out.split())

    return run


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(rkllm.write(tmp_path / "model" / rkllm.NAME))


def table(root: Path, more: str = "") -> str:
    return f"[plugin.rkllm]\nroot = {json.dumps(str(root))}\n{more}"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "its engine cannot be used: no Rockchip NPU was found (looked at /proc/device-tree/compatible, "),
        (rockchip.tree("rk3588"), "its engine cannot be used: librkllmrt.so is missing (looked in /usr/lib, "),
        (rockchip.tree("rk3588", driver="rocket"), "the driver rocket of the mainline kernel"),
    ],
)
def test_explain_has_the_reason(
    command: Command, model: str, files: rockchip.Tree, reason: str, tmp_path: Path
) -> None:
    rockchip.write(tmp_path / "root", {"proc/meminfo": rockchip.MEMORY, **files})
    code, said = command(table(tmp_path / "root"), "explain", model)
    assert code == 1
    assert reason in said


def test_explain_finds_the_board(command: Command, model: str, tmp_path: Path) -> None:
    root = rockchip.write(tmp_path / "root", rockchip.tree("rk3588"))
    rockchip.library(root / "usr/lib" / LIBRARY)
    code, said = command(table(root), "explain", model)
    assert code == 0
    assert "rknpu:0 RK3588 NPU +30" in said


def test_plugins_has_the_reason(command: Command, tmp_path: Path) -> None:
    code, said = command(table(tmp_path), "plugins")
    assert code == 0
    assert "rkllm no Rockchip NPU was found (looked at" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("libary = 1", "plugin.rkllm.libary is not a setting (it is 1). Known: library, platform, root"),
        ('library = "lib.so"', "plugin.rkllm.library is 'lib.so'. It must be a whole path in quotes"),
        ("platform = 'rk3399'", 'plugin.rkllm.platform is \'rk3399\'. It must be "RK3588" or "RK3576" or '),
        ("stand_in = 1", "plugin.rkllm.stand_in is 1. It must be true or false"),
        ("platform = true", 'plugin.rkllm.platform is true. It must be "RK3588" or '),
        (
            'library = "/nowhere/librkllmrt.so"',
            "no library can be read at /nowhere/librkllmrt.so, which plugin.rkllm.library names",
        ),
        (f'library = "{__file__}"', f"{__file__} is no shared library of Linux"),
    ],
)
def test_a_wrong_setting_is_named_and_costs_nothing_else(
    command: Command, model: str, more: str, said: str, tmp_path: Path
) -> None:
    code, told = command(table(tmp_path, more), "explain", model)
    assert code == 1
    assert f"its engine cannot be used: {said}" in told
    code, told = command(table(tmp_path, more), "plugins")
    assert code == 0
    assert said in told
    code, told = command(table(tmp_path, more), "show", model)
    assert code == 0


def test_a_table_of_no_plugin_is_told_of(
    command: Command, model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "anyform")
    settings = table(tmp_path, "[plugin.rklm]\nlibrary = 1\n[plugin.echo]\n")
    meant = "[plugin.rklm] of the settings is for a plugin that is not installed. Did you mean [plugin.rkllm]?"
    none = "[plugin.echo] of the settings is for a plugin that takes none."
    for words in (("explain", model), ("plugins",)):
        _, said = command(settings, *words)
        assert meant in said
        assert none in said
    assert meant in caplog.messages


def doctored(root: Path, **more: Any) -> list[tuple[str, str, str]]:
    """(state, about, text) of what `doctor` says of the plugin's devices and engine."""
    runtime = start(plugins=Plugins.of({"rkllm": plugin}), tables={"rkllm": {"root": str(root), **more}})
    try:
        kinds = {device.kind for device in runtime.hardware().devices}
        checks = [*hardware_checks(runtime), *(engine_check(one, kinds) for one in runtime.capabilities(probe=False))]
    finally:
        runtime.close()
    return [(check.state, check.about, check.text) for check in checks]


def test_doctor_finds_nothing_wrong_with_a_machine_that_is_no_board(tmp_path: Path) -> None:
    [_, (state, about, text)] = doctored(tmp_path)
    assert (state, about) == ("note", "engine rkllm/rkllm")
    assert text.startswith("this machine has no rknpu: no Rockchip NPU was found (looked at ")


def test_doctor_of_a_board_says_all(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.tree("rk3588", version="0.9.3"))
    device, missing, engine = doctored(root)
    assert device == ("good", "device rknpu:0", "RK3588 NPU, 5.7 GiB of 7.6 GiB free, driver 0.9.3")
    assert missing[:2] == ("warning", "device rknpu:0")
    assert missing[2].startswith("librkllmrt.so is missing")
    assert engine[0] == "broken"
    assert "0.9.3 is too old" in engine[2]


def test_doctor_of_a_board_that_works(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.tree("rk3576"))
    rockchip.library(root / "usr/lib" / LIBRARY, "1.3.0")
    assert doctored(root) == [
        ("good", "device rknpu:0", "RK3576 NPU, 5.7 GiB of 7.6 GiB free, driver 0.9.8, runtime 1.3.0"),
        ("warning", "device rknpu:0", "anyform's makers never ran this on an NPU: tell them how it went."),
        ("good", "engine rkllm/rkllm", "needs no package, runs on rknpu"),
    ]
