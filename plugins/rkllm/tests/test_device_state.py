"""What the kernel is told of a board: the order of troubles, what is told beside them, and what it costs to look."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from anyform.testing import rockchip
from anyform_rkllm import library, setting, state
from anyform_rkllm.info import LIBRARY
from anyform_rkllm.setting import Setting, WrongSetting


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A board on which all is well."""
    rockchip.library(tmp_path / "usr/lib" / LIBRARY)
    return rockchip.write(tmp_path, rockchip.tree("rk3588"))


def looked(root: Path, **more: Any) -> state.State:
    return state.look({"root": str(root), **more})


def test_the_first_trouble_is_told_and_all_are_kept(root: Path) -> None:
    (root / "sys/module/rknpu/version").write_text("0.8.2")
    (root / "dev/dri/renderD129").unlink()
    (root / "usr/lib" / LIBRARY).unlink()
    found = looked(root)
    assert [trouble.split(" ")[2] for trouble in found.troubles] == ["driver", "device", "missing"]
    assert state.backend({"root": str(root)}).trouble == found.troubles[0]
    [device] = state.devices({"root": str(root)})
    assert device.extra["notes"] == list(found.troubles[1:])


def test_without_trouble_what_loading_needs_goes_with_the_backend(root: Path) -> None:
    info = state.backend({"root": str(root)})
    assert (info.trouble, set(info.options)) == ("", {"library", "platform"})
    assert set(info.options) <= set(info.local_options)
    assert info.install


def test_with_trouble_nothing_is_said_that_would_not_mend_it(root: Path) -> None:
    (root / "usr/lib" / LIBRARY).unlink()
    info = state.backend({"root": str(root)})
    assert (info.options, info.install) == ({}, "")


def test_a_device_file_of_another_group_is_told_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def access(path: Path, mode: int) -> bool:  # root may open everything
        assert (path, mode) == (root / "dev/dri/renderD129", os.R_OK | os.W_OK)
        return False

    monkeypatch.setattr(os, "access", access)
    [trouble] = looked(root).troubles
    assert trouble.startswith("/dev/dri/renderD129 may not be opened by this user: join the group")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open everything")
def test_a_device_file_that_may_not_be_opened_is_told_of(root: Path) -> None:
    (root / "dev/dri/renderD129").chmod(0)
    [trouble] = looked(root).troubles
    assert trouble.startswith("/dev/dri/renderD129 may not be opened by this user: join the group")


def test_a_library_that_names_a_version_and_lacks_its_functions_is_refused(root: Path) -> None:
    path = rockchip.library(root / "usr/lib" / LIBRARY, functions=())
    [trouble] = looked(root).troubles
    assert trouble.startswith(f"{path} is no librkllmrt.so 1.2.3: it lacks rkllm_init and 14 more: put ")
    rockchip.library(path, functions=[name for name in rockchip.FUNCTIONS if name != "set_function_tools"])
    [trouble] = looked(root).troubles
    assert "it lacks rkllm_set_function_tools: put " in trouble
    oldest = ("abort", "createDefaultParam", "destroy", "init", "is_running", "load_lora", "load_prompt_cache")
    rockchip.library(path, "1.1.4", functions=(*oldest, "release_prompt_cache", "run", "run_async"))
    assert looked(root).troubles == ()


def test_settings_are_checked_before_the_machine(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        first, npu = looked(wrong, library="/nowhere/lib.so").troubles
        assert first == f"there is no folder {wrong}, which plugin.rkllm.root names"
        assert npu.startswith("no Rockchip NPU was found (looked at /proc/device-tree/compatible, ")
    named = rockchip.library(tmp_path / "lib.so", "")
    first, npu = looked(tmp_path, library=str(named)).troubles
    assert first.startswith(f"{named} names no version")
    assert npu.startswith("no Rockchip NPU was found")
    rockchip.library(named, machine="s390x")
    assert "was made for 64-bit ELF machine 22" in looked(tmp_path, library=str(named)).troubles[0]
    rockchip.library(named)
    assert len(looked(tmp_path, library=str(named)).troubles) == 1


def test_what_was_looked_at_is_said_with_its_root(root: Path, tmp_path: Path) -> None:
    (root / "usr/lib" / LIBRARY).unlink()
    [missing] = looked(root).troubles
    assert f"the folders of /etc/ld.so.conf below {root})" in missing
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"/dev/rknpu below {empty})" in looked(empty).troubles[0]


@pytest.mark.parametrize("driver", ["rocket", "rknpu"])
def test_a_chip_that_runs_no_language_models_is_not_told_to_boot_another_kernel(driver: str, tmp_path: Path) -> None:
    [*troubles] = looked(rockchip.write(tmp_path, rockchip.tree("rk3568", driver=driver))).troubles
    assert troubles[0].startswith("the NPU of RK3568 runs no language models")
    assert not [trouble for trouble in troubles if "boot" in trouble]


def test_where_all_is_well_it_is_said_that_this_was_never_tried(root: Path) -> None:
    [device] = state.devices({"root": str(root)})
    assert device.extra["notes"] == [state.UNTRIED]
    rockchip.library(root / "usr/lib" / LIBRARY, mark="anyform_rkllm_stand_in")
    [device] = state.devices({"root": str(root), "stand_in": True})
    assert "notes" not in device.extra


@pytest.mark.parametrize(
    ("version", "troubles", "remarks"),
    [("0.8.9", 1, 0), ("0.9.5", 1, 0), ("0.9.6", 0, 1), ("0.9.7", 0, 1), ("0.9.8", 0, 0), ("0.10.0", 0, 0)],
)
def test_drivers_by_their_version(root: Path, version: str, troubles: int, remarks: int) -> None:
    (root / "sys/module/rknpu/version").write_text(version)
    found = looked(root)
    assert (len(found.troubles), len(found.remarks)) == (troubles, remarks)


def test_a_driver_without_a_device_file_is_remarked_upon(root: Path) -> None:
    for path in (root / "dev/dri/renderD129", root / "sys/class/drm/renderD129/device/uevent"):
        path.unlink()
    said = "DRIVER=RKNPU\nOF_COMPATIBLE_0=rockchip,rk3588-rknpu\n"
    rockchip.write(root, {"sys/bus/platform/drivers/RKNPU/fdab0000.npu/uevent": said})
    found = looked(root)
    assert found.troubles == ()
    assert [remark.split(" (")[0] for remark in found.remarks] == ["no device file of the driver rknpu was found"]


def test_a_system_of_32_bits_is_refused_by_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "host", lambda: ("armv7l", 32))  # which no test machine is
    [trouble] = looked(root).troubles
    assert trouble.startswith("this is a 32-bit Python")


def test_memory_is_the_boards_own(root: Path) -> None:
    [device] = state.devices({"root": str(root)})
    assert (device.total_bytes, device.free_bytes) == (8_000_000 << 10, 6_000_000 << 10)
    assert device.extra["unified"] is True


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, Setting()),
        ({"library": "/a/b.so"}, Setting(library=Path("/a/b.so"))),
        ({"platform": "rk3588s"}, Setting(platform="RK3588")),
        ({"root": "/r", "stand_in": True}, Setting(root=Path("/r"), stand_in=True)),
    ],
)
def test_settings(table: dict[str, Any], said: Setting) -> None:
    assert setting.read(table) == said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("librry", "/a"),
        ("library", "relative.so"),
        ("library", ""),
        ("library", ["/a"]),
        ("library", "~nobody-of-that-name/lib.so"),
        ("root", "/a\0b"),
        ("root", 1),
        ("root", "relative"),
        ("platform", "rk3568"),
        ("platform", ""),
        ("platform", 3588),
        ("stand_in", "true"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(key: str, value: object) -> None:
    with pytest.raises(WrongSetting) as caught:
        setting.read({key: value})
    assert caught.value.code == "rkllm.setting"
    assert f"plugin.rkllm.{key}" in caught.value.message
    assert repr(value) in caught.value.message
    assert caught.value.hint
    assert LIBRARY not in caught.value.hint or key == "library"


def test_a_path_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert setting.read({"library": "~/lib.so"}).library == tmp_path / "lib.so"


def test_the_tests_own_setting_is_not_shown_to_users() -> None:
    with pytest.raises(WrongSetting) as caught:
        setting.read({"x": 1})
    assert "stand_in" not in str(caught.value)
