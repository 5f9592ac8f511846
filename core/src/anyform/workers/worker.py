"""The child: loads one model and serves it. Started as `python -m anyform.workers.worker`.

It reads one line from stdin (where to dial, a token, what to do), dials home, does it, and ends when that
control connection ends, whatever else is going on; so no worker outlives a parent that was killed with -9.
"""

from __future__ import annotations

import faulthandler
import hmac
import json
import logging
import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from anyform.contract.errors import Fault, PluginFault, RefusedRequest, WorkerDied
from anyform.contract.facts import BackendInfo, Plan
from anyform.contract.model import LoadedModel, Stop
from anyform.kernel.plugins import Plugins
from anyform.workers.wire import Channel, pack

REQUEST_S = 10.0
"""How long a connection may take to send its request."""


def main() -> None:
    """Run one order from stdin to its end."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, _outlive)
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="%(name)s: %(message)s")
    order = json.loads(sys.stdin.readline())
    control = Channel(socket.create_connection(("127.0.0.1", order["port"])))
    control.send({"token": order["token"], "pid": os.getpid()})
    task = control.receive()
    try:
        reply = _probe(task) if task["do"] == "probe" else _serve(task, order["token"], control)
    except Fault as fault:
        reply = fault
    except BaseException as error:
        reply = PluginFault(task["plugin"], task["do"], error)
    with suppress(OSError):
        control.send(reply)
    _leave()


def _outlive(*_: object) -> None:
    """Whoever stops a server often signals all of its processes; running answers are the parent's to end. A handler,
    since what is ignored stays so in programs that a worker starts.
    """


def _leave() -> None:
    """End now. No destructors: an engine's may crash at interpreter exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _plugin(name: str) -> Plugins:
    plugins = Plugins.discover(only=name)
    record = plugins.record(name)
    if record is None or not record.sound:
        raise PluginFault(name, "import", record.reason if record else "it is not installed where the worker runs")
    return plugins


def _probe(task: Mapping[str, Any]) -> object:
    backend: BackendInfo = task["backend"]
    return {"found": _plugin(task["plugin"]).ask_one(task["plugin"], "probe_backend", backend=backend)}


def _serve(task: Mapping[str, Any], token: str, control: Channel) -> object:
    """Load, say that it is ready, and serve until told to end."""
    plan: Plan = task["plan"]
    ended = threading.Event()
    leaving = threading.Event()
    threading.Thread(target=_watch, args=(control, ended, leaving), daemon=True).start()
    model: LoadedModel = _plugin(plan.plugin).ask_one(plan.plugin, "load", plan=plan)
    server = Server(model, token, plan.plugin)
    told = {"runs_on": getattr(model, "runs_on", ""), "notes": getattr(model, "notes", ())}
    control.send({"ready": {"port": server.port, "parallel": model.parallel, **told}})
    ended.wait()
    leaving.set()
    server.close()
    model.close()
    return {"closed": True}


def _watch(control: Channel, ended: threading.Event, leaving: threading.Event) -> None:
    """Wait for the word to end (a clean close) or the end of the connection (the parent has gone)."""
    try:
        control.receive()
        ended.set()
        control.receive()
    except (EOFError, OSError):
        os._exit(0)


class Server:
    """Takes connections on a loopback port. Each is one job: one frame in, then events out; hanging up cancels it."""

    def __init__(self, model: LoadedModel, token: str, plugin: str) -> None:
        self._model, self._token, self._plugin = model, token, plugin
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._hangups = Hangups()
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        """One job from its request to its last event."""
        stop = Stop()
        with connection, suppress(OSError, EOFError):
            connection.settimeout(REQUEST_S)
            channel = Channel(connection)
            request = channel.receive()
            connection.settimeout(None)
            self._hangups.add(connection, stop)
            try:
                self._answer(channel, request, stop)
            finally:
                stop.set()
                self._hangups.remove(connection)

    def _answer(self, channel: Channel, request: Mapping[str, Any], stop: Stop) -> None:
        try:
            if not hmac.compare_digest(str(request.get("token", "")), self._token):
                raise RefusedRequest("this connection did not show the worker's token.")
            send = channel.socket.sendall
            for event in self._model.generate(request["job"], stop):
                send(pack(event))
        except WorkerDied as fault:  # what this worker stands for is gone: so is this one
            channel.send(fault)
            _leave()
        except Fault as fault:
            channel.send(fault)
        except OSError:
            raise
        except Exception as error:
            channel.send(PluginFault(self._plugin, "generate", error))


class Hangups:
    """Watches request connections in one thread; the end of a client's side sets the Stop of its job."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._changes: list[tuple[socket.socket, Stop | None, threading.Event | None]] = []
        threading.Thread(target=self._run, name="hangups", daemon=True).start()

    def add(self, connection: socket.socket, stop: Stop) -> None:
        self._change(connection, stop, None)

    def remove(self, connection: socket.socket) -> None:
        """Blocks until the watcher has let go, since a closed descriptor may be given out again at once."""
        gone = threading.Event()
        self._change(connection, None, gone)
        gone.wait()

    def _change(self, connection: socket.socket, stop: Stop | None, gone: threading.Event | None) -> None:
        with self._lock:
            self._changes.append((connection, stop, gone))
        self._wake.send(b"x")

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                elif self._ended(key.fileobj):
                    key.data.set()
                    self._selector.unregister(key.fileobj)
            self._apply()

    @staticmethod
    def _ended(connection: Any) -> bool:
        try:
            return not connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _apply(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, []
        for connection, stop, gone in changes:
            if stop is not None:
                self._selector.register(connection, selectors.EVENT_READ, stop)
            else:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(connection)
            if gone is not None:
                gone.set()


if __name__ == "__main__":
    main()
