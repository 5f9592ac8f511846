"""One output stream: whether a person reads it, how wide it is, whether it shows colour."""

from __future__ import annotations

import sys
from typing import TextIO

from anyform.config import colourless

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Terminal:
    """Writes to *stream*. What is written to a pipe is plain, and never cut to a width."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.interactive = stream is not None and stream.isatty()
        self.coloured = self.interactive and not colourless() and _understands_escapes()

    @property
    def width(self) -> int | None:
        """Columns; None: no limit."""
        if not self.interactive:
            return None
        from shutil import get_terminal_size

        return get_terminal_size().columns

    def paint(self, text: str, style: str = "") -> str:
        """*text* in a style of STYLES, where that can be seen."""
        if not self.coloured or not style or not text:
            return text
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m"

    def write(self, text: str) -> None:
        """Write at once, without a line end."""
        self.stream.write(text)
        self.stream.flush()

    def line(self, text: str = "") -> None:
        self.stream.write(text + "\n")

    def status(self, text: str) -> None:
        """Replace the last line by *text*, for progress; nothing where nobody watches."""
        if self.interactive:
            cut = text[: max(1, (self.width or 80) - 1)]
            self.write(f"\r{cut}\x1b[K" if self.coloured else f"\r{cut:<{(self.width or 80) - 1}}\r{cut}")


def output() -> Terminal:
    """Standard output."""
    return Terminal(sys.stdout)


def errors() -> Terminal:
    """Standard error: progress and complaints, so that standard output stays the answer alone."""
    return Terminal(sys.stderr)


def _understands_escapes() -> bool:
    """Whether the terminal understands ANSI escapes: a Windows console must be asked to."""
    if sys.platform != "win32":
        return True
    import ctypes

    kernel = ctypes.windll.kernel32
    mode = ctypes.c_ulong()
    handle = kernel.GetStdHandle(-11)
    virtual_terminal = 0x0004
    if not kernel.GetConsoleMode(handle, ctypes.byref(mode)):
        return False
    return bool(mode.value & virtual_terminal or kernel.SetConsoleMode(handle, mode.value | virtual_terminal))
