"""One model in the library: made, run one answer at a time, aborted, ended. What the text means is not known here."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from ctypes import byref
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Closed, ContextExceeded, Invalid, LoadFailed, Unsupported
from anyform.contract.model import Stop
from anyform_rkllm import call as calls
from anyform_rkllm import capture, domain, initlog
from anyform_rkllm.caller import Caller
from anyform_rkllm.info import CONTEXT
from anyform_rkllm.initlog import ContextLimit, Limits
from anyform_rkllm.layout import Era
from anyform_rkllm.options import MOST_TOKENS, SAMPLING, Options
from anyform_rkllm.run import (
    End,
    EngineBusy,
    EngineFailed,
    EngineStuck,
    Hidden,
    Perf,
    Pictures,
    Run,
    Take,
)
from anyform_rkllm.running import PROMPT_PATIENCE_S, Aborter, Callback, Running

if TYPE_CHECKING:
    from anyform_rkllm.binding import Binding
    from anyform_rkllm.board import Board
    from anyform_rkllm.domain import Domain
    from anyform_rkllm.layout import Abi

__all__ = [
    "End",
    "Engine",
    "EngineBusy",
    "EngineFailed",
    "EngineStuck",
    "Hidden",
    "Limits",
    "Perf",
    "Pictures",
    "Run",
    "Take",
    "start",
]
log = logging.getLogger("anyform.rkllm")
CLOSE_S = 30.0
"""How long the end of a run is waited for when the model is closed."""


class Engine:
    """One loaded model. `run` by one thread at a time; `abort` by any. Made by `start`."""

    abi: Abi
    limits: Limits
    context: int
    """Tokens, prompt and answer together."""
    notes: tuple[str, ...]
    """Warnings about this model here."""

    def __init__(
        self, opened: Opened, limits: Limits, usual: calls.Usual, context: int, notes: tuple[str, ...]
    ) -> None:
        self.abi, self.limits, self.context, self.notes = opened.binding.abi, limits, context, notes
        self._opened, self._binding, self._usual = opened, opened.binding, usual
        self._handle, self._caller = opened.handle, opened.caller
        self._aborter, self._callback = opened.aborter, opened.callback
        self._lock, self._closing = threading.Lock(), threading.Lock()
        self._closed = False
        self._stuck: EngineStuck | None = None
        self.cache_file = ""
        """Where the cache of the first prompt is saved."""

    @property
    def closed(self) -> bool:
        return self._closed

    def patience(self, seconds: float, prompt_seconds: float = PROMPT_PATIENCE_S) -> None:
        """How long an abort may take, once there are tokens and before, until the library is held to be stuck."""
        self._aborter.patience_s, self._aborter.prompt_patience_s = seconds, prompt_seconds

    def run(self, run: Run, take: Take, stop: Stop | None = None) -> End:
        """Run to the end. Blocks. Raises what *take* raised, and EngineFailed where the library reports an error.

        *stop* aborts this run and no other, also where it is set before the run began; `abort` whatever runs now.
        Raises before the library is asked: Invalid, ContextExceeded, Unsupported, EngineBusy, Closed.
        """
        if len(run.tokens) >= self.context:
            raise ContextExceeded(
                f"a prompt of {len(run.tokens)} tokens leaves no room in a context of {self.context}.",
                "Send less.",
                prompt_tokens=len(run.tokens),
                context=self.context,
            )
        cache = run.cache_file or self.cache_file
        given = calls.build(self.abi, run, self._usual, cache)
        running = Running(run, take, counts=not self.abi.samples_per_run, context=self.context)
        self._begin(running)
        try:
            if stop is not None:
                stop.when_set(partial(self._aborter.abort, running))
            running.call = self._caller.start(partial(self._enter, running, given))
            code = self._wait(running)
        finally:
            self._end(running)
        end = running.end(code)
        self.cache_file = ""
        return end

    def abort(self) -> None:
        """End what runs, soon; nothing more is given to its `take`. Does nothing where nothing runs. Does not block."""
        if (running := self._callback.running) is not None:
            self._aborter.abort(running)

    def clear(self, keep_system: bool = False) -> None:
        """Forget the history; ABI 1.1 has none. Raises EngineBusy while there is a run, and EngineFailed."""
        if self.abi.era == Era.V11:
            return
        places = (None, None) if self.abi.era >= Era.V121 else ()
        self._ask("clear_kv_cache", int(keep_system), *places)

    def template(self, system: str, prefix: str, postfix: str) -> None:
        """What the library puts around a prompt; empty texts: nothing.

        Raises Unsupported for ABI 1.1, and EngineBusy.
        """
        if self.abi.era == Era.V11:
            raise Unsupported(f"librkllmrt.so {self.abi.name} cannot be told a template.", "It can since 1.2.0.")
        self._ask("set_chat_template", *(calls.text(one, "template") for one in (system, prefix, postfix)))

    def tools(self, system: str, tools: str, response: str) -> None:
        """The functions that the model may call (JSON), for what follows. *response*: the text around what they gave.

        Raises Unsupported before ABI 1.2.1, and EngineBusy.
        """
        if self.abi.era < Era.V121:
            raise Unsupported(f"librkllmrt.so {self.abi.name} knows no functions.", "It does since 1.2.1.")
        self._ask("set_function_tools", *(calls.text(one, "functions' text") for one in (system, tools, response)))

    def close(self) -> None:
        """Free the model: ends what runs, and waits for it. Idempotent."""
        with self._closing:
            with self._lock:
                if self._closed:
                    return
                self._closed = True
                running = self._callback.running
            if running is not None:
                self._aborter.abort(running)
                if not running.over.wait(CLOSE_S):
                    log.error("the model is not freed: the library has not ended its run for %.0f s.", CLOSE_S)
                    return
            self._opened.close()

    def _begin(self, running: Running) -> None:
        with self._lock:
            self._check()
            self._callback.running = running

    def _check(self) -> None:
        if self._closed:
            raise Closed("the model was closed.", "Open it again.")
        if self._stuck is not None:
            raise EngineStuck(self._stuck.message, self._stuck.hint)
        if self._callback.running is not None:
            raise EngineBusy("the model runs already, and the library does one thing at a time.", "Wait, or abort it.")

    def _enter(self, running: Running, given: calls.Call) -> int:
        """In the library's thread."""
        try:
            if not self._aborter.enter(running):
                return 0
            return int(self._binding.run(self._handle, byref(given.input), byref(given.infer), None))
        finally:
            self._aborter.leave(running)

    def _wait(self, running: Running) -> int:
        assert running.call is not None
        try:
            return int(running.call.answer())
        except EngineStuck as stuck:
            self._stuck = stuck
            raise
        except BaseException:  # such as Ctrl-C, while the library goes on
            self._aborter.abort(running)
            running.call.wait()
            raise

    def _end(self, running: Running) -> None:
        if running.over.is_set():
            running.call = None  # which holds it in turn
            with self._lock:
                self._callback.running = None

    def _ask(self, function: str, *arguments: Any) -> None:
        """Call *function* of the library with the handle, in its thread. Raises EngineFailed where it says no."""
        with self._lock:
            self._check()
            made = self._caller.start(partial(getattr(self._binding, function), self._handle, *arguments))
        if code := int(made.answer() or 0):
            raise EngineFailed(f"rkllm_{function} returned {code}.", "What the library printed is in the log.")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an Engine holds of the library. Structures and texts that it was given live as long as it does."""

    binding: Binding
    caller: Caller
    domain: Domain | None
    handle: ctypes.c_void_p
    aborter: Aborter
    callback: Callback
    alive: list[Any]

    def close(self) -> None:
        """Free the model and all else. Nothing may be in the library."""
        try:
            if self.handle.value:
                self.caller.start(partial(self.binding.destroy, self.handle)).answer()
        finally:
            self.end()

    def end(self) -> None:
        """End the threads."""
        self.aborter.end()
        self.caller.end()
        if self.domain is not None:
            self.domain.free()


def start(
    binding: Binding,
    model: str | Path,
    *,
    context: int | None = None,
    options: Options | None = None,
    board: Board | None = None,
    version: str | None = None,
    first_domain: int = 0,
) -> Engine:
    """Load *model* with *context* tokens; None: what it was converted for, up to CONTEXT.

    *board*: whose fast CPUs are used. *version*: the library's, as its file has it; None: the binding's.
    *first_domain*: 1 beside an encoder that is on the NPU too: see domain.py. Blocks for seconds to minutes.
    Raises Invalid, Unsupported (WrongPlatform), LoadFailed (ContextLimit), OldRuntime, OutOfMemory.
    """
    start = _Start(
        binding, str(model), options or Options(), board, binding.version if version is None else version, first_domain
    )
    try:
        return start.made(context or CONTEXT)
    except ContextLimit as fault:
        limit = fault.details["limit"]
        if context is not None or limit < 1:
            raise
        return start.made(limit)


@dataclass(frozen=True, slots=True)
class _Start:
    binding: Binding
    model: str
    options: Options
    board: Board | None
    version: str
    first_domain: int

    def made(self, context: int) -> Engine:
        if not 0 < context <= MOST_TOKENS:
            raise Invalid(f"context is {context}.", f"It must be from 1 to {MOST_TOKENS}.")
        opened = self._opened()
        try:
            param = self._param(opened, context)
            printed = self._initialized(opened, param)
            limits = initlog.limits(printed)
            if limits.context is not None and context > limits.context:
                raise initlog.over_limit(context, limits.context, self.model)
            self._add(opened)
            usual = calls.Usual(_sampling(param), tuple(self.options.loras), self.options.lora, self._marks)
            engine = Engine(opened, limits, usual, context, self._notes(limits, printed))
        except BaseException:
            opened.close()
            raise
        cache = self.options.prompt_cache
        if self.options.prompt_cache_save and not Path(cache).exists():
            engine.cache_file = cache
        return engine

    def _opened(self) -> Opened:
        handle = ctypes.c_void_p()
        taken = self._domain()
        aborter = Aborter(partial(self.binding.abort, handle))
        callback = Callback(self.binding.abi, aborter.abort)
        return Opened(self.binding, Caller(), taken, handle, aborter, callback, [])

    def _domain(self) -> Domain | None:
        if self.options.base_domain_id is not None:
            return None
        path = Path(self.model)
        size = path.stat().st_size if path.is_file() else 0  # else the library says that it is not there
        return domain.take(count=domain.wanted(size), first=self.first_domain)

    def _param(self, opened: Opened, context: int) -> Any:
        """Of createDefaultParam's values, those that were said otherwise."""
        options, abi = self.options, self.binding.abi
        param = self.binding.default_param()
        param.model_path = _kept(opened, calls.text(self.model, "model's path"))
        param.max_context_len = context
        param.max_new_tokens = min(options.max_new_tokens or context, context)
        for name, value in options.sampling.items():
            setattr(param, name, calls.number(name, value))
        if options.skip_special_token is not None:
            param.skip_special_token = options.skip_special_token
        if options.ignore_eos_token:
            _need(abi, Era.V13, "ignore_eos_token")
            param.ignore_eos_token = True
        if options.n_keep is not None:
            _need(abi, Era.V120, "n_keep")
            param.n_keep = options.n_keep
        param.is_async = False
        if abi.era < Era.V13:
            names = ("img_start", "img_end", "img_content")
            for name, text in zip(names, self._marks, strict=True):
                if text:
                    setattr(param, name, _kept(opened, calls.text(text, name)))
        self._extend(param.extend_param, opened.domain)
        return param

    @property
    def _marks(self) -> tuple[str, str, str]:
        return self.options.image_start, self.options.image_end, self.options.image_content

    def _extend(self, param: Any, taken: Domain | None) -> None:
        options, abi = self.options, self.binding.abi
        param.base_domain_id = taken.number if taken else options.base_domain_id
        if options.embed_flash is not None:
            _need(abi, Era.V120, "embed_flash")
            param.embed_flash = int(options.embed_flash)
        if options.cpus is not None:
            _need(abi, Era.V120, "cpus")
        mask = cpu_mask(options.cpus, self.board)
        if mask and abi.era >= Era.V120:
            param.enabled_cpus_num, param.enabled_cpus_mask = mask.bit_count(), mask

    def _initialized(self, opened: Opened, param: Any) -> str:
        """What the library printed."""
        binding, abi = self.binding, self.binding.abi
        callback = opened.callback.function
        if abi.era >= Era.V13:
            callback = byref(_kept(opened, abi.new("Callback", result_callback=callback)))
        opened.alive.append(param)
        work = partial(binding.init, byref(opened.handle), byref(param), callback)
        with capture.printed() as printed:
            if self.options.log_level is not None:
                capture.set_variable("RKLLM_LOG_LEVEL", str(self.options.log_level))
            code = int(opened.caller.start(work).answer())
        if code or not opened.handle.value:
            opened.handle.value = None
            raise initlog.refusal(printed.text, self.model, code)
        return printed.text

    def _add(self, opened: Opened) -> None:
        """LoRA adapters and the prompt cache."""
        binding, abi = self.binding, self.binding.abi
        for name, lora in self.options.loras.items():
            adapter = abi.new("LoraAdapter", scale=lora.scale)
            adapter.lora_adapter_path = _kept(opened, calls.text(lora.path, "adapter's path"))
            adapter.lora_adapter_name = _kept(opened, calls.text(name, "adapter's name"))
            opened.alive.append(adapter)
            self._told(opened, partial(binding.load_lora, opened.handle, byref(adapter)), "loras", lora.path)
        cache = self.options.prompt_cache
        if cache and (Path(cache).exists() or not self.options.prompt_cache_save):
            path = _kept(opened, calls.text(cache, "cache's path"))
            self._told(opened, partial(binding.load_prompt_cache, opened.handle, path), "prompt_cache", cache)

    def _told(self, opened: Opened, work: Callable[[], int], option: str, path: str) -> None:
        with capture.printed() as printed:
            code = int(opened.caller.start(work).answer())
        if code:
            said = " | ".join(initlog.last(printed.text))
            raise LoadFailed(
                f"the library refused {path} of load option {option} ({code}){f': {said}' if said else ''}.",
                "It must be made for this model and this version of the library.",
                path=path,
            )

    def _notes(self, limits: Limits, printed: str) -> tuple[str, ...]:
        notes = initlog.notes(limits, self.version, printed)
        for note in notes:
            log.warning("%s", note)
        return notes


def cpu_mask(cpus: Any, board: Board | None) -> int:
    """The CPUs to compute on, a bit for each; 0: the library's own choice. Of a count: the last of *board*'s fast ones,
    then of the others.
    """
    fast = board.cpu_mask if board else 0
    if cpus is None or cpus.mask:
        return cpus.mask if cpus else fast
    order = [bit for bit in range(31, -1, -1) if fast >> bit & 1]
    order += [bit for bit in range(32) if not fast >> bit & 1]
    return sum(1 << bit for bit in order[: cpus.count])


def _sampling(param: Any) -> dict[str, float]:
    return {name: getattr(param, name) for name in SAMPLING}


def _kept(opened: Opened, value: Any) -> Any:
    opened.alive.append(value)
    return value


def _need(abi: Abi, least: Era, option: str) -> None:
    if abi.era < least:
        raise Unsupported(f"load option {option} is not known to librkllmrt.so {abi.name}.", "Leave it out.")
