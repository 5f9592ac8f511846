"""Fetches models from a hub for the commands that need them, with progress on standard error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from anyform.cli.table import duration
from anyform.cli.terminal import Terminal, errors
from anyform.config import Config
from anyform.kernel.units import size

if TYPE_CHECKING:
    from anyform.kernel.plugins import Plugins
    from anyform.kernel.runtime import Runtime
    from anyform.sources.hub import Hub
    from anyform.sources.hubmeter import PullState
    from anyform.sources.hubname import Reference
    from anyform.sources.hubpull import Pulled, Wish
    from anyform.sources.hubpulls import Pulls

BAR = 24


def hub_of(config: Config) -> Hub:
    """The hub that HF_ENDPOINT names."""
    from anyform.sources.hub import Hub

    return Hub(offline=config.offline)


def pulls_of(config: Config, runtime: Runtime) -> Pulls:
    """What a server fetches models with."""
    from anyform.sources.hubpulls import Pulls

    return Pulls(
        hub_of(config),
        runtime.plugins,
        config.stores.home,
        config.models.quantizations,
        cache=config.stores.hub_cache,
        on_request=config.models.pull,
        arrived=runtime.library.refresh,
    )


def fetched(hub: Hub, plugins: Plugins, config: Config, wish: Wish) -> Pulled:
    """Pull, showing how far it is; Ctrl-C stops it and says how to go on."""
    from anyform.sources.hubpull import pull

    terminal = errors()
    told = Told(terminal)
    logger, handler = logging.getLogger("anyform.hub"), Remarks(terminal)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        stores, order = config.stores, config.models.quantizations
        return pull(hub, plugins, stores.home, wish, order=order, cache=stores.hub_cache, watch=told.show)
    except KeyboardInterrupt:
        terminal.status("")
        terminal.line(f"stopped; `anyform pull {wish}` goes on where it was")
        raise
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
        terminal.status("")


class Remarks(logging.Handler):
    """Shows what the log says of a pull above its progress."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.status("")
        self._terminal.line(self._terminal.paint(record.getMessage(), "yellow"))


def looked(hub: Hub, runtime: Runtime, config: Config, reference: Reference) -> str:
    """Have *runtime* know a model that lies on the hub alone; its name there."""
    from anyform.sources.hublook import look

    entry = look(hub, runtime.plugins, config.stores.home, reference, config.models.quantizations)
    runtime.metadata(entry)
    entry.remote.check()
    runtime.library.admit(entry)
    return entry.name


class Told:
    """Shows a pull: one line that changes on a terminal, one line a stage elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._stage = ""

    def show(self, state: PullState) -> None:
        """Tell of one moment."""
        if self._terminal.interactive:
            self._terminal.status(line(state) if state.stage != "done" else "")
        elif state.stage != self._stage and state.stage in ("copying", "downloading", "waiting"):
            self._terminal.line(f"pulling {line(state)}")
            self._terminal.stream.flush()
        self._stage = state.stage


def line(state: PullState) -> str:
    """One moment of a pull in one line."""
    if state.stage == "waiting":
        return f"{state.model}: another anyform is pulling it, {_share(state)}"
    if state.stage not in ("copying", "downloading"):
        return f"{state.model}: {state.stage} …"
    parts = [
        _share(state),
        "copying from the Hugging Face cache" if state.stage == "copying" else "",
        f"{size(state.rate)}/s" if state.rate else "",
        f"{duration(state.left_s)} left" if state.left_s is not None else "",
        f"file {min(state.files, state.files_done + 1)} of {state.files}" if state.files > 1 else "",
    ]
    return f"{state.model} {_bar(state)} " + ", ".join(part for part in parts if part)


def _share(state: PullState) -> str:
    return f"{size(state.done_bytes)} of {size(state.total_bytes)}"


def _bar(state: PullState) -> str:
    full = round(BAR * state.done_bytes / state.total_bytes) if state.total_bytes else 0
    return "[" + "=" * full + " " * (BAR - full) + "]"
