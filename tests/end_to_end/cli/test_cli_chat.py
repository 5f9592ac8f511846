"""`anyform run` on a terminal: a real pseudo-terminal, with keys pressed and words read."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")

Echo = Callable[..., Path]
PROMPT = ">>> "
CTRL_C, CTRL_D = "\x03", "\x04"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Person:
    """Someone at a terminal."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        import pty

        self._end, far = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=far,
            stdout=far,
            stderr=far,
            env={**environment, "TERM": "xterm", "COLUMNS": "80"},
            cwd=folder,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(far)
        self.raw = ""
        self._read = 0

    @property
    def seen(self) -> str:
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def press(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def says(self, line: str) -> None:
        self.press(line + "\n")

    def reads(self, text: str, limit_s: float = 30.0) -> str:
        """What appeared since the last call, up to and with *text*."""
        until = time.monotonic() + limit_s
        while text not in self.seen[self._read :]:
            assert time.monotonic() < until, f"{text!r} did not appear in {self.seen!r}"
            if select.select([self._end], [], [], 0.1)[0]:
                self.raw += self._more()
        begin = self._read
        self._read = self.seen.index(text, begin) + len(text)
        return self.seen[begin : self._read]

    def interrupts(self, text: str) -> str:
        """Press Ctrl-C and read up to *text*.

        Pressed again if nothing came of it: a signal between readline's prompt and its select() wakes nobody.
        """
        for _ in range(5):
            self.press(CTRL_C)
            with suppress(AssertionError):
                return self.reads(text, 4.0)
        return self.reads(text)

    def leaves(self) -> int:
        """The exit code, once the process has ended by itself."""
        until = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < until:
            if select.select([self._end], [], [], 0.1)[0]:
                self.raw += self._more()
        return self.process.wait(1)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def _more(self) -> str:
        with suppress(OSError):
            return os.read(self._end, 65536).decode(errors="replace")
        return ""


def _take_terminal() -> None:
    """Make the pseudo-terminal the one whose Ctrl-C reaches this process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def person(cli: Any, tmp_path: Path) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def sit(*arguments: str | Path, **env: str) -> Person:
        command = [sys.executable, "-m", "anyform", *map(str, arguments)]
        people.append(Person(command, cli.environment(env), tmp_path))
        return people[-1]

    yield sit
    for one in people:
        one.close()


def test_a_conversation(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo())
    assert "/help" in one.reads(PROMPT)
    one.says("hello out there")
    assert "\nhello out there\n" in one.reads(PROMPT)
    one.says("/bye")
    assert one.leaves() == 0


def test_several_lines_between_fences(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo())
    one.reads(PROMPT)
    one.says('"""first')
    one.reads("... ")
    one.says('second"""')
    assert "first\nsecond\n" in one.reads(PROMPT)


def test_the_model_gets_the_whole_conversation_until_it_is_cleared(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(), "--context", "9")
    one.reads(PROMPT)
    one.says("one two three")
    one.reads(PROMPT)
    one.says("four five six")
    said = one.reads(PROMPT)
    assert "9" in said
    assert "/clear begins anew" in said
    one.says("/clear")
    one.reads(PROMPT)
    one.says("four five six")
    assert "\nfour five six\n" in one.reads(PROMPT)


def test_a_filling_context_is_warned_of_once_and_a_full_one_says_what_to_do(
    person: Callable[..., Person], echo: Echo
) -> None:
    one = person("run", echo(), "--context", "12")
    one.reads(PROMPT)
    one.says("one two")
    assert "tokens" not in one.reads(PROMPT)
    one.says("three four five")
    said = one.reads(PROMPT)
    assert "fills 10 of the context's 12 tokens" in said
    assert "/clear" in said
    assert "--context" in said
    one.says("six")
    assert "fills" not in one.reads(PROMPT)
    one.says("seven")
    said = one.reads(PROMPT)
    assert "/clear begins anew, and --context N" in said
    one.says("/clear")
    one.reads(PROMPT)
    one.says("1 2 3 4 5 6 7")
    assert "the context of 12 tokens is full; /clear begins anew" in one.reads(PROMPT)


def test_an_answer_that_is_cut_says_by_what(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(), "--max-tokens", "1")
    one.reads(PROMPT)
    one.says("one two")
    assert "(cut off: --max-tokens was reached)" in one.reads(PROMPT)


def test_commands(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo())
    one.reads(PROMPT)
    one.says("/help")
    assert "/clear" in one.reads(PROMPT)
    one.says("/system be brief")
    assert "(the model is told so)" in one.reads(PROMPT)
    one.says("/image nowhere.png")
    assert "nowhere.png cannot be read" in one.reads(PROMPT)
    one.says("/nonsense")
    assert "no command /nonsense" in one.reads(PROMPT)
    one.press(CTRL_D)
    assert one.leaves() == 0


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(options={"delay_s": 0.2}))
    one.reads(PROMPT)
    one.says("word " * 400)
    one.reads("\nword word")
    one.press(CTRL_C)
    assert "(stopped)" in one.reads(PROMPT)
    one.says("/clear")
    one.reads(PROMPT)
    one.says("still here")
    assert "\nstill here\n" in one.reads(PROMPT)


def test_ctrl_c_twice_at_the_prompt_leaves_with_130(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo())
    one.reads(PROMPT)
    assert "to leave" in one.interrupts(PROMPT)
    one.says("not yet")
    one.reads("not yet\nnot yet\n")
    one.reads(PROMPT)
    one.interrupts("to leave")
    one.reads(PROMPT)
    one.interrupts("\n")
    assert one.leaves() == 130


def test_thinking_is_dim_and_no_colour_is_honoured(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(), "--think", "hello")
    assert one.leaves() == 0
    assert "\x1b[2mI\x1b[0m" in one.raw
    plain = person("run", echo(), "--think", "hello", NO_COLOR="1")
    assert plain.leaves() == 0
    assert "\x1b[2m" not in plain.raw
    assert plain.seen.index("I shall") < plain.seen.index("hello")


def test_a_model_cannot_command_the_terminal(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(), "a\x1b]0;owned\x07b")
    assert one.leaves() == 0
    assert "owned" in one.raw
    assert "\x1b]0;" not in one.raw


def test_a_table_fits_the_terminal(person: Callable[..., Person], echo: Echo, tmp_path: Path) -> None:
    echo(f"shelf/{'long' * 30}/m")
    one = person("list", "--models", "shelf")
    assert one.leaves() == 0
    assert "\x1b[1mNAME" in one.raw
    assert "…" in one.seen
    written = ESCAPES.sub("", one.raw).splitlines()  # progress, if it came, ends with a return to the line's begin
    assert [line for line in written if len(line) > 80] == []


def test_ctrl_c_while_loading_leaves(person: Callable[..., Person], echo: Echo) -> None:
    one = person("run", echo(options={"load_delay_s": 30}))
    one.reads("loading parrot")
    one.press(CTRL_C)
    assert one.leaves() == 130
    assert "Traceback" not in one.seen


@pytest.mark.engine
def test_a_real_model_remembers_what_it_was_told_until_it_is_cleared(
    person: Callable[..., Person], sample: Path
) -> None:
    one = person("run", sample)
    one.reads(PROMPT)
    one.says("My name is Tara.")
    assert "Tara" in one.reads(PROMPT).partition("\n")[2]
    one.says("What is my name?")
    assert "Tara" in one.reads(PROMPT)
    one.says("/clear")
    one.reads(PROMPT)
    one.says("What is my name?")
    assert "Tara" not in one.reads(PROMPT)
