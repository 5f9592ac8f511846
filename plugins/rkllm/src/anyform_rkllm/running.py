"""A run while it goes on: what the library's callback fills, and what ends it before its time."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from math import isfinite
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyform_rkllm.layout import Era, Mode, State
from anyform_rkllm.run import End, EngineFailed, EngineStuck, Hidden, Perf, Run, Take

if TYPE_CHECKING:
    from anyform_rkllm.caller import Call
    from anyform_rkllm.layout import Abi

log = logging.getLogger("anyform.rkllm")

AGAIN_S = 0.05
"""After which an abort is repeated: the library may have got it before it began to look for one."""
PATIENCE_S = 10.0
"""How long an abort may take once there are tokens; then the library is held to be stuck."""
PROMPT_PATIENCE_S = 120.0
"""The same before the first token: nothing says that the library looks for an abort while it reads a prompt."""
MOST_WIDTH = 1 << 16
"""Of a hidden state; more is memory that was misread, as are more states than the context has tokens."""
FLOAT_BYTES = ctypes.sizeof(ctypes.c_float)


class Running:
    """One run."""

    def __init__(self, run: Run, take: Take, *, counts: bool, context: int) -> None:
        """*counts*: whether max_tokens are counted here, since the library cannot be told."""
        self._take, self._most, self._counts = take, run.max_tokens, counts
        self.context = context
        self.wants_hidden = run.mode == Mode.HIDDEN
        self.tokens = 0
        self.finished = self.failed = False
        self.aborting = False
        self.inside = False
        """Whether it is in the library, and may be aborted there; see `Aborter`."""
        self.over = threading.Event()
        """Whether the library has returned, or will never be called."""
        self.error: BaseException | None = None
        self.perf: Perf | None = None
        self.hidden: Hidden | None = None
        self.call: Call | None = None

    def token(self, text: bytes, token: int) -> bool:
        """Give one to whom it is for; whether to go on."""
        self.tokens += 1
        return self._take(text, token) and not (self._counts and self._full)

    @property
    def _full(self) -> bool:
        return self._most is not None and self.tokens >= self._most

    def end(self, code: int) -> End:
        """How it ended. *code*: what rkllm_run returned. Raises what `take` raised, and EngineFailed."""
        if self.error is not None:
            raise self.error
        if (self.failed or code) and not self.aborting:
            raise EngineFailed(
                f"the library ended the run with an error (rkllm_run returned {code}), after {self.tokens} tokens.",
                "Try again; what it printed is in the log.",
            )
        finished = self.finished and not self.aborting
        return End(finished=finished, perf=self.perf, hidden=self.hidden, tokens=self.tokens, full=self._full)


class Aborter:
    """The thread that tells the library to abort. Neither the library's own thread does, in which rkllm_abort is not
    known to work, nor the one that wants it, which is not to wait.
    """

    def __init__(self, abort: Callable[[], int]) -> None:
        """*abort*: calls rkllm_abort."""
        self._call = abort
        self._asked: SimpleQueue[Running | None] = SimpleQueue()
        self._calling = threading.Lock()
        self.patience_s, self.prompt_patience_s = PATIENCE_S, PROMPT_PATIENCE_S
        threading.Thread(target=self._run, name="rkllm-abort", daemon=True).start()

    def abort(self, running: Running) -> None:
        """Have *running* end, soon; no other run is ended by it. Does not block. Nothing where it is over."""
        if not running.aborting:
            running.aborting = True
            self._asked.put(running)

    def enter(self, running: Running) -> bool:
        """*running* goes into the library: False where it must not, since it was aborted before."""
        with self._calling:
            running.inside = not running.aborting
            return running.inside

    def leave(self, running: Running) -> None:
        """It is out of the library. Waits for a call to abort that is being made, so that none comes later."""
        with self._calling:
            running.inside = False
        running.over.set()

    def end(self) -> None:
        """End the thread, after what was asked for."""
        self._asked.put(None)

    def _run(self) -> None:
        while (running := self._asked.get()) is not None:
            self._abort(running)

    def _abort(self, running: Running) -> None:
        began = monotonic()
        while self._tell(running) and not running.over.wait(AGAIN_S):
            patience_s = self.patience_s if running.tokens else self.prompt_patience_s
            call = running.call
            if monotonic() - began > patience_s and call is not None:
                stuck = EngineStuck(
                    f"the library did not end a run within {patience_s:.0f} s of being told to, "
                    f"after {running.tokens} tokens.",
                    "Its process is ended, and the model is loaded anew with the next request.",
                )
                log.error("%s", stuck.message)
                call.fail(stuck)
                return

    def _tell(self, running: Running) -> bool:
        """Whether it was still in the library, and has been told."""
        with self._calling:
            if running.inside:
                self._call()
            return running.inside


class Callback:
    """What the library calls, from whatever thread, from its start to its end. It never raises."""

    def __init__(self, abi: Abi, abort: Callable[[Running], None]) -> None:
        self._answers, self._measures, self._abort = abi.era >= Era.V121, abi.measures, abort
        self.running: Running | None = None
        self.function = abi.result_callback(self._called)

    def _called(self, result: Any, userdata: Any, state: int) -> int | None:
        running = self.running
        if running is not None:
            try:
                self._hear(running, result, state)
            except BaseException as error:  # it would be lost in C
                running.error = running.error or error
                self._abort(running)
        return 0 if self._answers else None

    def _hear(self, running: Running, result: Any, state: int) -> None:
        if state == State.FINISH:
            running.finished = True
            if result and self._measures:
                running.perf = _perf(result.contents.perf)
        elif state == State.ERROR:
            running.failed = True
        elif running.wants_hidden:
            if result and result.contents.last_hidden_layer.hidden_states:
                running.hidden = _hidden(result.contents.last_hidden_layer, running.context)
        elif not running.aborting and result and _is_token(result.contents, state):
            told = result.contents
            if not running.token(ctypes.string_at(told.text) if told.text else b"", told.token_id):
                self._abort(running)


def _is_token(told: Any, state: int) -> bool:
    """A text that is no text is a token only where the library waits for the rest of a character."""
    return state == State.WAITING or (state == State.NORMAL and bool(told.text))


def _perf(told: Any) -> Perf | None:
    """None where one of the figures is none: negative, or no number. That memory is unknown is a 0."""
    figures = (told.prefill_time_ms, told.prefill_tokens, told.generate_time_ms, told.generate_tokens)
    if not all(isfinite(figure) and figure >= 0 for figure in figures):
        return None
    memory_mb = told.memory_usage_mb
    return Perf(
        prompt_s=told.prefill_time_ms / 1000,
        prompt_tokens=told.prefill_tokens,
        generate_s=told.generate_time_ms / 1000,
        generated_tokens=told.generate_tokens,
        memory_bytes=int(memory_mb * 1024 * 1024) if isfinite(memory_mb) and memory_mb > 0 else 0,
    )


def _hidden(layer: Any, most: int) -> Hidden:
    """A copy: the library frees its own when the callback has returned."""
    width, tokens = layer.embd_size, layer.num_tokens
    if not 0 < width <= MOST_WIDTH or not 0 < tokens <= most:
        raise EngineFailed(f"the library gave hidden states of {tokens} tokens and width {width}.")
    data = ctypes.string_at(layer.hidden_states, tokens * width * FLOAT_BYTES)
    return Hidden(data=data, tokens=tokens, width=width)
