"""Asking plugins about files: remembered while they stay, many at once, in order."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from anyform.contract.errors import PluginFault
from anyform.kernel.plugins import Plugins
from anyform.kernel.reader import FEW, THREADS, Reader, stamp_of, together


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, 200])
def test_answers_come_in_the_order_of_the_questions(count: int) -> None:
    assert list(together(lambda number: number * 2, range(count))) == [number * 2 for number in range(count)]


def test_much_work_is_done_by_several_threads_at_once() -> None:
    meeting = threading.Barrier(THREADS, timeout=30)

    def work(number: int) -> int:
        if number < THREADS:
            meeting.wait()  # passes only if as many are here at the same time
        return threading.get_ident()

    assert len(set(together(work, range(FEW + THREADS)))) > 1


def test_a_fault_comes_through() -> None:
    def work(number: int) -> int:
        if number == 30:
            raise PluginFault("p", "h", "30")
        return number

    answers = together(work, range(50))
    with pytest.raises(PluginFault):
        list(answers)


def test_an_answer_holds_as_long_as_its_stamp() -> None:
    reader, asked = Reader(Plugins.of({})), []

    def ask() -> str:
        asked.append(1)
        return f"answer {len(asked)}"

    said = [reader.remembered("q", "p", "about", stamp, ask) for stamp in ("1", "1", "2", "2", "1", "", "")]
    assert said == ["answer 1"] * 2 + ["answer 2"] * 2 + ["answer 3"] + ["answer 4"] * 2


def test_a_stamp_changes_with_size_and_time_and_is_empty_for_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    first = stamp_of(str(tmp_path), ("a",))
    (tmp_path / "a").write_text("three")
    assert "" != stamp_of(str(tmp_path), ("a",)) != first
    assert stamp_of(str(tmp_path), ("a", "b")) == ""
