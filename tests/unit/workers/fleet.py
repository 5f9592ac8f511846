"""A fake device of a set size, fake models on it that take real bytes of it, and a clock that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from anyform.contract.errors import LoadFailed, WorkerDied
from anyform.contract.events import Done, Event
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.model import Stop
from anyform.kernel.news import Item, News
from anyform.kernel.residence import Admit, Ask, Held
from anyform.kernel.router import Decision
from anyform.workers.lifecycle import Lifecycle
from anyform.workers.pool import Pool

MATCH = FormatMatch(format="f", entry="m", files=("m",), evidence=Evidence.MAGIC, why="w")
DEVICE = "fake:0"


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeDevice:
    """Bytes of one device; more than it has is never given."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used: dict[Any, int] = {}
        self.most = 0
        self._lock = threading.Lock()

    def take(self, who: object, size: int) -> None:
        with self._lock:
            self.used[who] = size
            self.most = max(self.most, sum(self.used.values()))

    def give_back(self, who: object) -> None:
        with self._lock:
            self.used.pop(who, None)

    def free(self) -> dict[str, int]:
        with self._lock:
            return {DEVICE: self.size - sum(self.used.values())}


class FakeModel:
    """Answers when it is let; takes its bytes from its load to its close."""

    parallel = 4

    def __init__(self, device: FakeDevice, name: str, size: int) -> None:
        self.name, self.dead, self.closed, self.running = name, False, False, 0
        self.closed_in_use = False
        self.go_on = threading.Event()
        self.go_on.set()
        self._device = device
        self._lock = threading.Lock()
        device.take(self, size)

    def alive(self) -> bool:
        return not self.dead and not self.closed

    def crash(self) -> None:
        self.dead = True
        self._device.give_back(self)
        self.go_on.set()

    def generate(self, job: Any, stop: Stop) -> Iterator[Event]:
        with self._lock:
            self.running += 1
        try:
            self.go_on.wait(20)
            if self.dead:
                raise WorkerDied(f"{self.name} died")
            yield Done()
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        if not self.closed and not self.dead:
            self.closed_in_use = self.closed_in_use or self.running > 0
        self.closed = True
        self._device.give_back(self)


class Fleet:
    """Models by name with their sizes, and the pool over them."""

    def __init__(self, size: int, sizes: dict[str, int], **lifecycle: Any) -> None:
        self.device, self.sizes, self.clock, self.news = FakeDevice(size), sizes, Clock(), News()
        self.told: list[Item] = []
        self.news.listen(self.told.append)
        self.made: list[FakeModel] = []
        self.failing: set[str] = set()
        self.gate: Callable[[str], object] = lambda name: None
        """Called in each load, so that a test can hold it up."""
        self.pool = Pool(Lifecycle(**lifecycle), self.device.free, self.news, self.clock)

    def ask(self, name: str, **more: Any) -> Ask:
        def load(admit: Admit) -> tuple[Any, Held]:
            needs = {DEVICE: self.sizes[name]}
            admit(needs)
            self.gate(name)
            if name in self.failing:
                raise LoadFailed(f"{name} does not load", crashed=True)
            model = FakeModel(self.device, name, self.sizes[name])
            self.made.append(model)
            return model, held(name, needs)

        return Ask(name=name, serves=lambda _: True, load=load, **more)

    def loads(self) -> list[str]:
        return [model.name for model in self.made]

    def there(self) -> list[str]:
        return sorted(at.name for at in self.pool.residents() if at.state == "ready")

    def unloaded(self) -> list[tuple[str, str]]:
        return [(item.model, item.facts["why"]) for item in self.told if item.kind == "unloaded"]


def held(name: str, needs: dict[str, int]) -> Held:
    settings = Settings(context=8)
    plan = Plan(plugin="p", backend="b", model=name, path="/", match=MATCH, metadata=Metadata(), settings=settings)
    decision = Decision(model=name, task=None, plan=plan, verdicts=())
    return Held(plan=plan, asked=settings, decision=decision, needs=needs)
