"""The NPU is found by what the kernel shows of it, and nothing that a kernel shows makes looking fail."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from anyform.testing import rockchip
from anyform_rkllm import npu
from anyform_rkllm.board import BOARDS, chip
from anyform_rkllm.npu import Npu

CHIPS = [
    ("rk3588", "RK3588", 3),
    ("rk3588s", "RK3588", 3),
    ("rk3576", "RK3576", 2),
    ("rk3562", "RK3562", 1),
    ("rv1126b", "RV1126B", 1),
]


@pytest.mark.parametrize(("named", "platform", "cores"), CHIPS)
def test_a_board_with_the_driver_of_drm(named: str, platform: str, cores: int, tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.tree(named)))
    assert found == Npu(platform=platform, driver="rknpu", version="0.9.8", node="/dev/dri/renderD129")
    assert found.cores == cores


def test_a_board_with_the_older_device_file(tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.tree("rk3588s", driver="legacy", version="0.9.6")))
    assert found == Npu(platform="RK3588", driver="rknpu", version="0.9.6", node="/dev/rknpu")


def test_the_driver_of_mainline_kernels_is_told_apart(tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.tree("rk3588", driver="rocket")))
    assert found == Npu(platform="RK3588", driver="rocket", node="/dev/accel/accel0")


@pytest.mark.parametrize("said", ["DRIVER=rocket\n", "MODALIAS=platform:rknn\n"])
def test_rocket_by_its_accelerator_alone(said: str, tmp_path: Path) -> None:
    files = {"sys/class/accel/accel1/device/uevent": said, "proc/device-tree/compatible": "x,y\0rockchip,rk3588\0"}
    assert npu.find(rockchip.write(tmp_path, files)) == Npu(
        platform="RK3588", driver="rocket", node="/dev/accel/accel1"
    )


def test_rocket_where_nothing_but_the_device_file_of_a_known_board_shows(tmp_path: Path) -> None:
    files = {"dev/accel/accel0": "", **rockchip.tree("rk3588", driver="")}
    found = npu.find(rockchip.write(tmp_path, files))
    assert found == Npu(platform="RK3588", driver="rocket", node="/dev/accel/accel0")


def test_another_makers_accelerator_is_none(tmp_path: Path) -> None:
    files = {"dev/accel/accel0": "", "sys/class/accel/accel0/device/uevent": "DRIVER=intel_vpu\n"}
    root = rockchip.write(tmp_path, files)
    assert npu.find(root) is None
    named = npu.find(root, "RK3588")
    assert named is not None
    assert named.driver == ""


def test_rockchips_driver_counts_where_both_are(tmp_path: Path) -> None:
    files = {**rockchip.tree("rk3588", driver="rocket"), **rockchip.tree("rk3588")}
    found = npu.find(rockchip.write(tmp_path, files))
    assert found is not None
    assert (found.driver, found.node) == ("rknpu", "/dev/dri/renderD129")


def test_a_container_that_sees_the_driver_knows_the_chip_by_it(tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.hidden(rockchip.tree("rk3576"))))
    assert found == Npu(platform="RK3576", driver="rknpu", version="0.9.8", node="/dev/dri/renderD129")


def test_a_container_that_sees_a_device_file_alone_is_told_the_chip(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.hidden(rockchip.tree("rk3588", driver="legacy"), sys=True))
    assert npu.find(root) == Npu(platform="", driver="rknpu", node="/dev/rknpu")
    assert npu.find(root, "rk3588s") == Npu(platform="RK3588", driver="rknpu", node="/dev/rknpu")


def test_a_board_that_is_called_like_a_chip_is_not_taken_for_it(tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.tree("rk3588", maker="somebody,rk3576")))
    assert found is not None
    assert found.platform == "RK3588"


def test_what_the_user_names_goes_over_the_device_tree(tmp_path: Path) -> None:
    found = npu.find(rockchip.write(tmp_path, rockchip.tree("rk3588")), "RK3576")
    assert found is not None
    assert found.platform == "RK3576"


def test_a_version_for_root_alone(tmp_path: Path) -> None:
    files = {**rockchip.tree("rk3588", version=""), "sys/kernel/debug/rknpu/version": "RKNPU driver: v0.9.3\n"}
    found = npu.find(rockchip.write(tmp_path, files))
    assert found is not None
    assert found.version == "0.9.3"


def test_no_rockchip(tmp_path: Path) -> None:
    assert npu.find(tmp_path) is None
    assert npu.find(tmp_path / "nowhere") is None
    other = {"proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0"}
    assert npu.find(rockchip.write(tmp_path, other)) is None


def test_a_chip_of_rockchips_without_a_known_npu_is_none_without_a_driver(tmp_path: Path) -> None:
    assert npu.find(rockchip.write(tmp_path / "a", rockchip.tree("rk3399", driver=""))) is None
    found = npu.find(rockchip.write(tmp_path / "b", rockchip.tree("rk3568")))
    assert found is not None
    assert (found.platform, found.cores) == ("RK3568", 0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rk3588s", "RK3588"),
        ("RK3588J", "RK3588"),
        ("rockchip,rk3576-rknpu", "RK3576"),
        ("rv1126b", "RV1126B"),
        ("rv1126", "RV1126"),
        ("rk3568", "RK3568"),
        ("bcm2712", ""),
        ("", ""),
    ],
)
def test_names_of_chips(text: str, name: str) -> None:
    assert chip(text) == name


def test_the_table_of_boards() -> None:
    assert {board.name: board.cpu_mask for board in BOARDS.values()} == {
        "RK3588": 0xF0,
        "RK3576": 0xF0,
        "RK3562": 0x0F,
        "RV1126B": 0x0F,
    }
    assert [name for name, board in BOARDS.items() if "W4A16_G64" in board.lacks] == ["RK3588"]


@pytest.mark.parametrize("seed", range(8))
def test_garbage_in_every_file_is_survived(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for name in {**rockchip.tree("rk3588"), **rockchip.tree("rk3588", driver="rocket")}:
        path = rockchip.write(tmp_path, {name: ""}) / name
        path.write_bytes(chance.randbytes(chance.choice((0, 1, 5000))))
    npu.find(tmp_path)


def test_folders_and_broken_links_in_the_place_of_files_are_survived(tmp_path: Path) -> None:
    for number, name in enumerate({**rockchip.tree("rk3588"), **rockchip.tree("rk3588", driver="rocket")}):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if number % 2 else path.symlink_to("nowhere/at/all")
    npu.find(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are POSIX's")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.tree("rk3588"))
    (root / "sys/module/rknpu/version").unlink()
    os.mkfifo(root / "sys/module/rknpu/version")
    found = npu.find(root)
    assert found is not None
    assert found.version == ""


def test_a_huge_file_is_read_in_part(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.tree("rk3588"))
    path = root / "proc/device-tree/compatible"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert len(npu.read(path)) == npu.MOST_BYTES
    assert npu.find(root) is not None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_counts_as_absent(tmp_path: Path) -> None:
    root = rockchip.write(tmp_path, rockchip.tree("rk3588"))
    for name in ("proc/device-tree", "sys/module/rknpu", "dev/dri"):
        (root / name).chmod(0)
    try:
        found = npu.find(root)
    finally:
        for name in ("proc/device-tree", "sys/module/rknpu", "dev/dri"):
            (root / name).chmod(0o755)
    assert found == Npu(platform="RK3588", driver="rknpu", node="/dev/dri/renderD129")
