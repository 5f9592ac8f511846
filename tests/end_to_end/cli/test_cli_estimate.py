"""`anyform estimate`: what a model takes at which context, whether that fits here, and on what it would run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import write_llama

Echo = Callable[..., Path]
A_WORD = 64
"""Bytes a token that the echo backend states."""


def batched(words: list[str]) -> list[tuple[str, str]]:
    """Options with their values."""
    return list(zip(words[::2], words[1::2], strict=True))


def contexts(said: dict[str, Any]) -> list[int]:
    return [one["memory"]["context"] for one in said["estimates"]]


def test_each_context_is_told_in_its_parts(cli: Any, echo: Echo) -> None:
    path = echo(context=100_000)
    said = cli.json("estimate", path, "--context", "1000,50000", "--context", "7", "--parallel", "2")
    assert contexts(said) == [1000, 50000, 7]
    for one in said["estimates"]:
        memory = one["memory"]
        assert (one["plugin"], one["runs"], memory["fits"], memory["device"]) == ("echo", True, True, "cpu")
        assert memory["weights_bytes"] == path.stat().st_size
        assert memory["cache_bytes"] == A_WORD * 2 * memory["context"]
        assert memory["total_bytes"] == sum(memory[f"{part}_bytes"] for part in ("weights", "cache", "overhead"))
        assert memory["room_bytes"] > memory["total_bytes"]


def test_with_no_context_a_few_up_to_the_trained_one_are_told(cli: Any, echo: Echo) -> None:
    assert contexts(cli.json("estimate", echo(context=10_000))) == [2048, 8192, 10_000]
    assert contexts(cli.json("estimate", echo(context=100))) == [100]


def test_the_context_that_it_would_get_is_among_them(cli: Any, echo: Echo) -> None:
    path = echo(context=10_000)
    (cli.folder / "anyform.toml").write_text("[defaults]\ncontext = 3000\n")
    said = cli.json("estimate", path)
    assert (contexts(said), said["context"], said["context_why"]) == ([2048, 3000, 8192, 10_000], 3000, "asked for")


def test_what_does_not_fit_is_told_all_the_same(cli: Any, echo: Echo) -> None:
    path = echo(context=10**16)
    done = cli("estimate", path, "--context", f"1000,{10**15}")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    small, large = (next(row for row in rows if row[:1] == [str(context)]) for context in (1000, 10**15))
    assert (small[-1], large[-1]) == ("yes", "no")
    assert f"what makes {10**15} fit" in done.stdout
    assert "--parallel 1: " in done.stdout
    alone = cli("estimate", path, "--context", str(10**15))
    assert alone.returncode == 1
    assert "nothing here: echo: needs" in alone.stdout
    shown = cli("show", path).stdout
    assert f"{10**16}: " in shown
    assert "(does not fit)" in shown
    assert "what makes it fit" in shown
    assert f"{10**16}: --context " in shown


def test_whether_a_broken_file_would_fit_is_left_open(cli: Any, tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "whole.gguf")
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:-4096])
    done = cli("estimate", tmp_path / "cut.gguf")
    assert (done.returncode, "nothing here" in done.stdout) == (1, True)
    at = next(place for place, line in enumerate(done.stdout.splitlines()) if line.startswith("CONTEXT"))
    assert done.stdout.splitlines()[at + 1].split()[-1] == "-"


@pytest.mark.parametrize(
    ("context", "parallel", "helps"),
    [(512, 10**9, "--parallel "), (10**15, 1, "--context 1000"), (10**15, 10**12, "--context 1000 --parallel 1")],
)
def test_what_is_advised_fits(cli: Any, echo: Echo, context: int, parallel: int, helps: str) -> None:
    """Under a limit, since what is free changes between two looks."""
    (cli.folder / "anyform.toml").write_text("[lifecycle]\nlimit_bytes = { cpu = 1_000_000_000 }\n")
    path = echo(context=1000)
    said = json.loads(cli("estimate", path, "--context", context, "--parallel", parallel, "--json").stdout)
    enough = [one["text"] for one in said["estimates"][0]["memory"]["advice"] if one["enough"]]
    assert [text for text in enough if text.startswith(helps)], enough
    given = {"--context": str(context), "--parallel": str(parallel)} | dict(batched(enough[0].split()))
    again = cli("estimate", path, *(word for pair in given.items() for word in pair))
    assert again.returncode == 0


def test_a_context_over_the_trained_one_is_remarked(cli: Any, echo: Echo) -> None:
    path = echo(context=1000)
    assert "2000: over the 1000 that the model was trained for" in cli("estimate", path, "--context", "2000").stdout
    assert "note:" not in cli("estimate", path, "--context", "900").stdout


def test_a_name_an_alias_and_a_path_mean_the_same(cli: Any, echo: Echo) -> None:
    path = echo("models/parrot", context=500)
    (cli.folder / "anyform.toml").write_text('[models]\nfolders = ["models"]\naliases = { gpt = "parrot" }\n')
    told = [cli.json("estimate", name)["estimates"][0]["memory"]["total_bytes"] for name in ("parrot", "gpt", path)]
    assert told == [path.stat().st_size + A_WORD * 4 * 500] * 3


def test_memory_is_known_where_the_engine_is_not_installed(cli: Any, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "tiny.gguf")
    block = tmp_path / "no-engine" / "sitecustomize.py"
    block.parent.mkdir()
    block.write_text(
        "import importlib.metadata as m\nfound = m.version\n"
        "def version(name):\n"
        "    if name.startswith(('llama', 'torch')):\n        raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.version = version\n"
    )
    done = cli("estimate", path, env={"PYTHONPATH": str(block.parent)})
    assert done.returncode == 1
    assert "llama-cpp-python is not installed: pip install" in done.stdout
    assert done.stdout.splitlines()[-2].split()[-1] == "yes"  # it would fit


def test_a_pipe_gets_whole_plain_lines(cli: Any, echo: Echo) -> None:
    done = cli("estimate", echo(context=4096), env={"COLUMNS": "20"})
    assert "\x1b" not in done.stdout
    rows = done.stdout.splitlines()
    assert ["CONTEXT", "WEIGHTS", "KV", "CACHE", "OVERHEAD", "TOTAL", "FITS"] in [row.split() for row in rows]
    assert not any("…" in row for row in rows)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_gets_colour_and_no_more_than_its_width(cli: Any, echo: Echo) -> None:
    import pty
    import re
    import subprocess

    leader, follower = pty.openpty()
    env = {name: value for name, value in cli.environment({"COLUMNS": "60"}).items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-m", "anyform", "estimate", str(echo(context=4096))],
        stdout=follower, stdin=subprocess.DEVNULL, cwd=cli.folder, env={**env, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux's word for the end of a pseudo-terminal
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    assert process.wait() == 0
    text = seen.decode()
    assert "\x1b[32myes" in text
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(map(len, lines)) <= 60


def test_what_is_wrong_is_said(cli: Any, echo: Echo) -> None:
    wrong = (("nowhere",), 1), ((echo(), "--context", "few"), 2), (("--context", "8,", echo()), 2)
    for arguments, code in (*wrong, ((echo(), "--option", "x=1"), 1)):
        done = cli("estimate", *arguments)
        assert done.returncode == code, done.stdout
        assert done.stderr or "has no option" in done.stdout
