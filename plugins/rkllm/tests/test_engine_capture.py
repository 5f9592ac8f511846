"""What is printed while something is done: read, passed on, and led back to where it went, whatever happens."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from anyform_rkllm import capture

pytestmark = pytest.mark.engine

KILLED = """import os, signal, sys
from anyform_rkllm import capture
os.setpgid(0, 0)
signal.signal(signal.SIGINT, lambda *_: None)
with capture.printed():
    os.killpg(0, signal.SIGINT)
    os.write(1, b"I rkllm: last words\\n")
    os.kill(os.getpid(), signal.SIGKILL)
"""
FIRST = b"I rkllm: a line\n"


class Stubborn(io.StringIO):
    """Cannot be flushed any more."""

    def flush(self) -> None:
        raise RuntimeError("no")


def places() -> list[tuple[int, int]]:
    return [(about.st_dev, about.st_ino) for about in (os.fstat(1), os.fstat(2))]


def test_both_lead_where_they_did_after_whatever_was_raised(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before, found = places(), list[capture.Printed]()

    def interrupted() -> None:
        with capture.printed() as printed:
            found.append(printed)
            assert places() != before
            os.write(1, FIRST)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert places() == before
    assert found[0].text.encode() == FIRST
    with pytest.raises(RuntimeError, match="no"), capture.printed():
        monkeypatch.setattr(sys, "stdout", Stubborn())
    monkeypatch.undo()
    assert places() == before
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", FIRST.decode())


def test_much_is_passed_on_whole_and_kept_in_part(capfd: pytest.CaptureFixture[str]) -> None:
    line, count = b"ours and %s\n" % (b"x" * 500), 4096
    with capture.printed() as printed:
        for _ in range(count):
            os.write(1, line)
    assert capfd.readouterr().out.encode() == line * count
    assert capture.MOST_BYTES // 2 < len(printed.text) <= capture.MOST_BYTES


def test_who_prints_the_last_words_of_a_killed_process_outlives_ctrl_c_and_then_ends() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert b"I rkllm: last words\n" in done.stderr  # to its end: nobody has it open any more
    assert b"KeyboardInterrupt" not in done.stderr
