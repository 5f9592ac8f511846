"""The library is found in the usual places, and told by its file: version, machine, and whether it is a stand-in."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from anyform.testing import rockchip
from anyform_rkllm import library
from anyform_rkllm.info import LIBRARY
from anyform_rkllm.layout import Era
from anyform_rkllm.library import Library
from anyform_rkllm.version import UnknownRuntime, era

MARK = "anyform_rkllm_stand_in"


def test_a_library_is_told_by_its_file(tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / "usr/lib" / LIBRARY, "1.2.3", "aarch64")
    functions = frozenset(rockchip.FUNCTIONS)
    told = Library(path=str(path), version="1.2.3", machine="aarch64", bits=64, functions=functions)
    assert library.find(tmp_path) == told
    assert library.find(tmp_path, path) == told


@pytest.mark.parametrize("folder", library.FOLDERS)
def test_each_usual_place(folder: str, tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / folder / LIBRARY)
    found = library.find(tmp_path)
    assert found is not None
    assert found.path == str(path)


def test_the_folders_of_the_linker(tmp_path: Path) -> None:
    rockchip.write(
        tmp_path,
        {
            "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n/first  # a remark\nrelative\n",
            "etc/ld.so.conf.d/b.conf": "\n# nothing\n/second/lib\n",
        },
    )
    assert library.folders(tmp_path)[-2:] == [tmp_path / "first", tmp_path / "second/lib"]
    path = rockchip.library(tmp_path / "second/lib" / LIBRARY)
    found = library.find(tmp_path)
    assert found is not None
    assert found.path == str(path)


def test_the_first_place_counts_and_before_it_what_this_machine_can_load(tmp_path: Path) -> None:
    rockchip.library(tmp_path / "usr/lib" / LIBRARY, "1.1.4", "s390x")
    own = rockchip.library(tmp_path / "usr/local/lib" / LIBRARY, "1.2.3")
    rockchip.library(tmp_path / "opt/lib" / LIBRARY, "1.3.0")
    found = library.find(tmp_path)
    assert found is not None
    assert (found.path, found.version) == (str(own), "1.2.3")
    own.unlink()
    (tmp_path / "opt/lib" / LIBRARY).unlink()
    found = library.find(tmp_path)
    assert found is not None
    assert (found.version, found.machine) == ("1.1.4", "ELF machine 22")


def test_what_a_setting_names_is_looked_for_nowhere_else(tmp_path: Path) -> None:
    rockchip.library(tmp_path / "usr/lib" / LIBRARY)
    assert library.find(tmp_path, tmp_path / "elsewhere.so") is None
    assert library.find(tmp_path, tmp_path / "usr/lib") is None


def test_none(tmp_path: Path) -> None:
    assert library.find(tmp_path) is None


@pytest.mark.parametrize(("machine", "bits"), [("aarch64", 64), ("x86_64", 64), ("arm", 32), ("riscv64", 64)])
def test_machines(machine: str, bits: int, tmp_path: Path) -> None:
    found = library.look(rockchip.library(tmp_path / LIBRARY, machine=machine))
    assert found is not None
    assert (found.machine, found.bits) == (machine, bits)


def test_what_is_no_library(tmp_path: Path) -> None:
    path = tmp_path / LIBRARY
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF", b"MZ" + bytes(64), b"\x7fELF\x09\x09" + bytes(64)):
        path.write_bytes(content)
        assert library.look(path) == Library(path=str(path))


def test_the_stand_in_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / LIBRARY
    rockchip.library(path, "1.3.0", mark=MARK)
    found = library.look(path)
    assert found is not None
    assert (found.version, found.stand_in) == ("1.3.0", True)


def test_a_library_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / LIBRARY, "1.2.3")
    first = library.look(path)
    about = path.stat()
    rockchip.library(path, "1.3.0")  # as many bytes
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    second = library.look(path)
    assert first is not None
    assert second is not None
    assert (first.version, second.version) == ("1.2.3", "1.3.0")


@pytest.mark.parametrize("text", ["1.2.1b1", "1.2.3", "1.10.0"])
@pytest.mark.parametrize("before", range(-70, 3, 3))
def test_a_version_across_two_blocks(text: str, before: int, tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / LIBRARY, "")
    said = f"RKLLM SDK (version: {text} | target: Linux)\0{MARK}".encode()
    with path.open("r+b") as file:
        file.seek(20 + library.BLOCK_BYTES + before)
        file.write(said)
    found = library.look(path)
    assert found is not None
    assert (found.version, found.stand_in) == (text, True)


@pytest.mark.parametrize("before", range(-20, 3, 2))
def test_a_function_across_two_blocks(before: int, tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / LIBRARY, functions=("init",))
    with path.open("r+b") as file:
        file.seek(20 + library.BLOCK_BYTES + before)
        file.write(b"\0rkllm_set_chat_template\0rkllm_run is a word of a text")
    found = library.look(path)
    assert found is not None
    assert found.functions == {"init", "set_chat_template"}


@pytest.mark.parametrize("seed", range(6))
def test_garbage_behind_a_header_is_survived(seed: int, tmp_path: Path) -> None:
    path = rockchip.library(tmp_path / LIBRARY, "")
    path.write_bytes(path.read_bytes() + b"RKLLM SDK (version:" + random.Random(seed).randbytes(3000))
    found = library.look(path)
    assert found is not None
    assert found.machine


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("1.1.0", Era.V11),
        ("1.1.4", Era.V11),
        ("1.2.0", Era.V120),
        ("1.2.1", Era.V121),
        ("1.2.2", Era.V121),
        ("1.2.3", Era.V121),
        ("1.3.0", Era.V13),
        ("1.3.1", Era.V13),
    ],
)
def test_the_interface_of_each_version(version: str, known: Era) -> None:
    assert era(version) is known


@pytest.mark.parametrize("version", ["", "1.0.1", "1.2.1b1", "1.2.4", "1.4.0", "2.0.0", "1.2", "1.2.3.4", "1.2.3-rc1"])
def test_an_unknown_version_is_refused_by_name(version: str) -> None:
    with pytest.raises(UnknownRuntime) as caught:
        era(version)
    assert caught.value.code == "rkllm.unknown_runtime"
    assert version in str(caught.value)
    assert "1.1.x, 1.2.0 to 1.2.3 and 1.3.x" in str(caught.value)
