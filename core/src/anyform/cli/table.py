"""Tables and pairs for people: aligned in columns, cut to a terminal's width, whole in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from anyform.cli.terminal import Terminal

Cell: TypeAlias = str | tuple[str, str]
"""Text, or text and its style."""

GAP = "  "


def table(terminal: Terminal, head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print *rows* under *head*. On a terminal the widest columns give way until a row fits."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max([_width(name), *(_width(row[at]) for row in texts)]) for at, name in enumerate(head)]
    if terminal.width is not None:
        widths = fitted(widths, [_width(name) for name in head], terminal.width)
    terminal.line(_row(terminal, [(name, "bold") for name in head], widths))
    for row in rows:
        terminal.line(_row(terminal, row, widths))


def pairs(terminal: Terminal, items: Sequence[tuple[str, Cell]]) -> None:
    """Print names and values; a value that is wider than the terminal goes on under itself."""
    margin = max((_width(name) for name, _ in items), default=0) + len(GAP)
    for name, value in items:
        style = value[1] if isinstance(value, tuple) else ""
        first, *more = wrapped(_text(value), terminal.width, margin)
        label = _padded(name, margin) if first else name
        terminal.line(terminal.paint(label, "bold") + terminal.paint(first, style))
        for line in more:
            terminal.line(" " * margin + terminal.paint(line, style))


def fitted(widths: Sequence[int], least: Sequence[int], total: int) -> list[int]:
    """*widths*, the widest made narrower until all fit into *total*, but none under its *least*."""
    fitting = list(widths)
    while sum(fitting) + len(GAP) * (len(fitting) - 1) > total:
        spare = [(width, at) for at, width in enumerate(fitting) if width > least[at]]
        if not spare:
            break
        fitting[max(spare)[1]] -= 1
    return fitting


def wrapped(text: str, total: int | None, margin: int = 0) -> list[str]:
    """*text* in lines that fit into *total* columns beside *margin*; one line where there is no limit."""
    if total is None or total - margin < 20:
        return text.split("\n")
    from textwrap import wrap

    return [line for part in text.split("\n") for line in wrap(part, total - margin, break_on_hyphens=False) or [""]]


def amount(count: int | None) -> str:
    """A number of parameters as a person reads it: 7.6B."""
    if count is None:
        return "-"
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= limit:
            return f"{count / limit:.3g}{unit}" if count < 1000 * limit else f"{count // limit}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """A stretch of time as a person reads it: 3 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 86400 else f"{seconds / 86400:.1f} d"


def _row(terminal: Terminal, row: Sequence[Cell], widths: Sequence[int]) -> str:
    cells = [
        terminal.paint(_padded(_cut(_text(cell), width), width), _style(cell))
        for cell, width in zip(row, widths, strict=True)
    ]
    return GAP.join(cells).rstrip()


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _style(cell: Cell) -> str:
    return "" if isinstance(cell, str) else cell[1]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Columns that *text* takes; East Asian letters take two."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)
