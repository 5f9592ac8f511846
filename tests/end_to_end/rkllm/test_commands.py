"""The command line on a board as the stand-in has it, and on a machine that is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .house import House

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def board(house: Callable[..., House]) -> House:
    return house()


@pytest.fixture(scope="module")
def elsewhere(models: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    """A machine that is none, with a settings file that says nothing of NPUs."""
    empty = tmp_path_factory.mktemp("empty")
    folder = tmp_path_factory.mktemp("elsewhere")
    return House(folder, f'[models]\nfolders = ["{models}"]\nsources = []\n[plugin.rkllm]\nroot = "{empty}"\n')


def test_on_a_board(board: House) -> None:
    told = board.json("run", "chat", "!say hello")
    assert (told["text"], told["backend"]) == ("hello", "rkllm")
    assert told["timings"]["generate_s"] > 0
    explained = board.run("explain", "chat")
    first = explained.stdout.splitlines()[0]
    assert first.startswith("1 rkllm ")
    assert "stand-in for RK3588 NPU" in first
    assert board.run("validate", "chat").returncode == 0


def test_ps_of_a_board(board: House) -> None:
    with board.serve() as served:
        assert served.said("!say hello") == "hello"
        told = board.run("ps", "--url", served.url).stdout
        assert "at a time" not in told  # nobody asked for several at once
        [npu] = [one for one in served.http.get("/runtime/hardware").json()["devices"] if one["kind"] == "rknpu"]
    assert "stand-in 1.3.0" in told
    assert (npu["name"], npu["extra"]["runtime"]) == ("stand-in for RK3588 NPU", "stand-in 1.3.0")


def test_elsewhere(elsewhere: House) -> None:
    """All but running works, and running says why it does not."""
    shown = elsewhere.run("show", "chat").stdout
    assert all(word in shown for word in ("rkllm", "RK3588", "W8A8", "1.1.4", "4096"))
    estimate = elsewhere.json("estimate", "chat", "--context", "1024,4096")
    sizes = [one["memory"]["total_bytes"] for one in estimate["estimates"] if one["backend"] == "rkllm"]
    assert 0 < sizes[0] < sizes[1]
    assert {one["memory"]["parallel"] for one in estimate["estimates"] if one["backend"] == "rkllm"} == {1}
    assert elsewhere.run("validate", "chat").returncode == 0
    explained = elsewhere.run("explain", "chat")
    assert "no Rockchip NPU was found" in explained.stdout
    done = elsewhere.run("run", "chat", "Hi")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no Rockchip NPU was found" in done.stderr
