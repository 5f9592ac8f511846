"""Tables: aligned in a pipe, cut to a terminal, numbers as people read them."""

from __future__ import annotations

import io

import pytest

from anyform.cli.table import amount, duration, fitted, pairs, table, wrapped
from anyform.cli.terminal import Terminal


class Screen(Terminal):
    """A terminal of a width that the test gives; None: a pipe."""

    def __init__(self, columns: int | None = None, coloured: bool = False) -> None:
        super().__init__(io.StringIO())
        self.interactive, self.coloured, self._columns = columns is not None, coloured, columns

    @property
    def width(self) -> int | None:
        return self._columns

    @property
    def text(self) -> str:
        assert isinstance(self.stream, io.StringIO)
        return self.stream.getvalue()


def test_a_pipe_gets_aligned_columns_that_are_never_cut() -> None:
    screen = Screen()
    table(screen, ("NAME", "SIZE"), [("x" * 300, "1 B"), ("short", ("2 B", "red"))])
    rows = screen.text.splitlines()
    assert [row.index(text) for row, text in zip(rows, ("SIZE", "1 B", "2 B"), strict=True)] == [302] * 3
    assert "\x1b" not in screen.text


def test_a_terminal_gets_rows_that_fit() -> None:
    screen = Screen(40)
    table(screen, ("NAME", "SIZE", "WHY"), [("n" * 30, "1.0 GiB", "w" * 60)])
    assert all(len(line) <= 40 for line in screen.text.splitlines())
    assert screen.text.count("…") == 2
    assert "1.0 GiB" in screen.text


def test_colour_does_not_shift_columns() -> None:
    plain, coloured = Screen(), Screen(80, coloured=True)
    for screen in (plain, coloured):
        table(screen, ("A", "B"), [(("one", "cyan"), "2"), ("three", ("4", "red"))])
    stripped = coloured.text
    for code in ("1", "36", "31", "0"):
        stripped = stripped.replace(f"\x1b[{code}m", "")
    assert [line.rstrip() for line in stripped.splitlines()] == plain.text.splitlines()
    assert "\x1b[36mone" in coloured.text


def test_wide_letters_take_two_columns() -> None:
    screen = Screen()
    table(screen, ("A", "B"), [("模型", "x"), ("ab", "x")])
    assert screen.text.splitlines()[1:] == ["模型  x", "ab    x"]


def test_narrowing_takes_from_the_widest_and_spares_the_headings() -> None:
    assert fitted([5, 30, 10], [4, 4, 4], 30) == [5, 11, 10]
    assert fitted([5, 30], [5, 30], 10) == [5, 30]
    assert fitted([3, 3], [1, 1], 80) == [3, 3]


def test_values_go_on_under_themselves() -> None:
    screen = Screen(40)
    pairs(screen, [("name", "word " * 20), ("none", "")])
    lines = screen.text.splitlines()
    assert len(lines) > 3
    assert all(line.startswith("      word") for line in lines[1:-1])
    assert lines[-1] == "none"


def test_lines_are_only_broken_where_there_is_a_limit() -> None:
    assert wrapped("a " * 100, None) == ["a " * 100]
    assert all(len(line) <= 30 for line in wrapped("a " * 100, 30))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (260_000, "260K"),
        (596_049_920, "596M"),
        (7_615_616_512, "7.62B"),
        (1_000_000_000_000, "1T"),
    ],
)
def test_parameters(count: int | None, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59, "59 s"), (600, "10 min"), (9000, "2.5 h"), (200_000, "2.3 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
