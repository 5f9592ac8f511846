"""A server in a thread of its own, for tests of dialects and clients."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from anyform.http.config import HttpConfig
from anyform.http.listener import Place
from anyform.http.server import Server
from anyform.kernel.runtime import Runtime
from anyform.sources.hubpulls import Pulls

PATIENCE_S = 20
"""How long it may take to start and to stop."""


class Served:
    """A server over *runtime* on free ports of the loopback address, whatever ports its configuration names."""

    def __init__(self, runtime: Runtime, config: HttpConfig | None = None, pulls: Pulls | None = None) -> None:
        self.runtime = runtime
        config = config or HttpConfig()
        others = tuple(replace(one, host="127.0.0.1", port=0) for one in config.listeners)
        config = replace(config, host="127.0.0.1", port=0, listeners=others)
        self.places: Sequence[Place] = ()
        """Where it listens: at the main port, then at each further one."""
        ready = threading.Event()
        self.server = Server(runtime, config, lambda url: ready.set(), pulls, self._take)
        self._thread = threading.Thread(target=self.server.run, args=(self.server.listen(),), daemon=True)
        self._thread.start()
        assert ready.wait(PATIENCE_S), "the server did not start."

    def _take(self, places: Sequence[Place]) -> None:
        self.places = places

    @property
    def url(self) -> str:
        """Where its main port is."""
        return self.places[0].url

    def close(self) -> None:
        """Stop it and close its runtime."""
        self.server.should_exit = True
        self._thread.join(PATIENCE_S)
        self.runtime.close()
        assert not self._thread.is_alive(), "the server did not stop."
