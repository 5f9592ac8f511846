"""What the library calls back with, sound or not: nothing of it raises into the library, and nothing is made up."""

from __future__ import annotations

import ctypes
import threading
from math import inf, nan
from typing import Any

import pytest

from anyform_rkllm.layout import ABIS, Abi, Era, Mode, State
from anyform_rkllm.run import EngineFailed, Perf, Run
from anyform_rkllm.running import MOST_WIDTH, Aborter, Callback, Running

pytestmark = pytest.mark.engine

CONTEXT = 16
ABI = ABIS[Era.V13]
SOUND = {
    "prefill_time_ms": 50.0,
    "prefill_tokens": 5,
    "generate_time_ms": 250.0,
    "generate_tokens": 7,
    "memory_usage_mb": 1.5,
}


class Library:
    """Calls back as the library does, by the address of the function."""

    def __init__(self, abi: Abi = ABI) -> None:
        self.abi, self.aborted = abi, list[Running]()
        self.callback = Callback(abi, self.aborted.append)
        address = ctypes.cast(self.callback.function, ctypes.c_void_p).value
        self._call = abi.result_callback(address)

    def begin(self, take: Any = lambda text, token: True, mode: Mode | None = None) -> Running:
        self.callback.running = Running(Run(text="a", mode=mode), take, counts=False, context=CONTEXT)
        return self.callback.running

    def says(self, state: int, text: bytes | None = None, **parts: Any) -> int | None:
        result = self.abi.new("Result", token_id=3, **parts)
        held = ctypes.create_string_buffer(text) if text is not None else None
        result.text = ctypes.addressof(held) if held is not None else None
        answer: int | None = self._call(ctypes.byref(result), None, state)
        return answer

    def says_nothing(self, state: int) -> Any:
        return self._call(None, None, state)


def ended(**figures: Any) -> Perf | None:
    library = Library()
    running = library.begin()
    library.says(State.FINISH, perf=library.abi.new("PerfStat", **{**SOUND, **figures}))
    end = running.end(0)
    assert end.finished
    return end.perf


def test_figures_that_are_none_are_not_told() -> None:
    assert ended() == Perf(
        prompt_s=0.05, prompt_tokens=5, generate_s=0.25, generated_tokens=7, memory_bytes=3 * 512 * 1024
    )
    for name in ("prefill_time_ms", "generate_time_ms"):
        for wrong in (-1.0, nan, inf):
            assert ended(**{name: wrong}) is None
    for name in ("prefill_tokens", "generate_tokens"):
        assert ended(**{name: -1}) is None
    for wrong in (-1.0, nan, inf):
        found = ended(memory_usage_mb=wrong)
        assert found is not None
        assert (found.memory_bytes, found.prompt_tokens) == (0, 5)


@pytest.mark.parametrize(
    ("width", "tokens"), [(0, 1), (8, 0), (-8, 1), (8, -1), (MOST_WIDTH + 1, 1), (8, CONTEXT + 1), (2**31 - 1, 2**20)]
)
def test_hidden_states_that_no_model_has_are_not_read(width: int, tokens: int) -> None:
    library, one = Library(), ctypes.c_float(1.0)
    running = library.begin(mode=Mode.HIDDEN)
    layer = library.abi.new("LastHiddenLayer", hidden_states=ctypes.pointer(one), embd_size=width, num_tokens=tokens)
    assert library.says(State.NORMAL, last_hidden_layer=layer) == 0
    assert library.aborted == [running]
    with pytest.raises(EngineFailed, match=f"hidden states of {tokens} tokens and width {width}"):
        running.end(0)


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit, StopIteration])
def test_whatever_is_raised_ends_the_run_and_not_the_library(era: Era, error: type[BaseException]) -> None:
    def take(text: bytes, token: int) -> bool:
        raise error

    library = Library(ABIS[era])
    running = library.begin(take)
    assert library.says(State.NORMAL, b"x") == (0 if era >= Era.V121 else None)
    assert library.aborted == [running]
    with pytest.raises(error):
        running.end(0)


@pytest.mark.parametrize("era", Era)
def test_null_everywhere_is_nothing(era: Era) -> None:
    library, heard = Library(ABIS[era]), list[bytes]()
    for mode in (None, Mode.HIDDEN):
        running = library.begin(lambda text, token: heard.append(text) or True, mode)
        for state in (State.NORMAL, State.WAITING, State.HIDDEN, 9, -1, State.FINISH):
            library.says_nothing(state)
        library.says(State.NORMAL)
        end = running.end(0)
        assert (end.finished, end.perf, end.hidden, end.tokens, heard) == (True, None, None, 0, [])
    assert library.aborted == []


def test_what_comes_after_a_run_or_after_its_end_was_asked_for_reaches_nobody() -> None:
    library, heard = Library(), list[bytes]()
    running = library.begin(lambda text, token: heard.append(text) or True)
    library.says(State.NORMAL, b"one")
    running.aborting = True
    library.says(State.NORMAL, b"two")
    library.callback.running = None
    library.says(State.NORMAL, b"three")
    library.says(State.ERROR)
    end = running.end(-1)
    assert (heard, end.finished, end.tokens) == ([b"one"], False, 1)


def test_a_run_is_not_over_while_the_library_is_being_told_to_abort_it() -> None:
    """Else the next could begin, and be what is aborted."""
    calling, over = threading.Event(), list[bool]()

    def abort() -> int:
        calling.set()
        over.append(running.over.wait(0.1))
        return 0

    running = Running(Run(text="a"), lambda text, token: True, counts=False, context=CONTEXT)
    aborter = Aborter(abort)
    assert aborter.enter(running)
    aborter.abort(running)
    calling.wait()
    aborter.leave(running)
    aborter.end()
    assert running.over.is_set()
    assert over == [False]
