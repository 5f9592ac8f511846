"""The token: checked before it is stored, for its owner's eyes alone, and never shown."""

from __future__ import annotations

import json
import os
import pty
import stat
import sys
from pathlib import Path

import pytest

from .conftest import Cli
from .server import TOKEN, LoopbackHub

OTHER = "hf_otherotherotherotherother"


def stored(cli: Cli) -> Path:
    return cli.folder / "hf" / "token"


def test_login_whoami_pull_logout(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": b"x" * 5000}, gated=True, readers=(TOKEN,))
    done = cli("login", "--token-stdin", input=f"{TOKEN}\n")
    assert (done.returncode, done.stdout) == (0, f"logged in to {hub.endpoint} as tester\n"), done.stderr
    said = json.loads(cli("whoami", "--json").stdout)
    assert (said["name"], said["token_name"], said["role"]) == ("tester", "laptop", "read")
    assert cli("pull", "owner/data", "--file", "data.bin").returncode == 0
    assert cli("logout").stdout == "logged out\n"
    assert not stored(cli).exists()
    after = cli("whoami")
    assert after.returncode == 1
    assert "`anyform login`" in after.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_what_is_stored_is_for_its_owners_eyes(hub: LoopbackHub, cli: Cli) -> None:
    cli("login", "--token-stdin", input=TOKEN)
    assert stored(cli).read_text() == TOKEN
    for path in stored(cli).parent.iterdir():
        if path.is_file() and TOKEN in path.read_text():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_wrong_token_is_refused_and_leaves_the_stored_one(hub: LoopbackHub, cli: Cli) -> None:
    cli("login", "--token-stdin", input=TOKEN)
    for wrong in ("hf_unknownunknown", "two words", ""):
        done = cli("login", "--token-stdin", input=wrong)
        assert done.returncode == 1
        assert not wrong or wrong not in done.stdout + done.stderr
    assert stored(cli).read_text() == TOKEN


def test_the_token_is_never_shown(hub: LoopbackHub, cli: Cli) -> None:
    hub.add("owner/data", {"data.bin": b"x" * 5000})
    hub.accounts[OTHER] = "somebody"
    said = ""
    for arguments in (["login", "--token-stdin"], ["whoami"], ["whoami", "--json"], ["pull", "owner/none"], ["logout"]):
        done = cli(*arguments, input=TOKEN, env={"HF_TOKEN": OTHER, "ANYFORM_DEBUG": "1"})
        said += done.stdout + done.stderr
    assert TOKEN not in said
    assert OTHER not in said
    assert "HF_TOKEN is set" in said
    assert "HF_TOKEN is still set" in said


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_is_asked_without_echo(hub: LoopbackHub, cli: Cli) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cli.folder)
        os.execve(sys.executable, [sys.executable, "-m", "anyform", "login"], cli.environment())
    seen = b""
    while b"not shown" not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, f"{TOKEN}\n".encode())
    try:
        while data := os.read(terminal, 1024):
            seen += data
    except OSError:  # its end, on Linux
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"logged in to" in seen
    assert TOKEN.encode() not in seen
    assert stored(cli).read_text() == TOKEN


def test_no_terminal_and_no_pipe_is_said(cli: Cli) -> None:
    done = cli("login")
    assert done.returncode == 1
    assert "--token-stdin" in done.stderr
