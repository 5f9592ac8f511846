"""One process at a time changes a repository's folder; a lock ends with its process, however that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anyform.contract.errors import Area, Category, Fault

TURN_S = 0.1
FOLDER = ".locks"
"""In anyform's own folder. Its files are never removed: whoever waits for one would be left with none."""


class BeingPulled(Fault):
    """Another process changes the repository now."""

    code = "being_pulled"
    category, area = Category.UNAVAILABLE, Area.STORAGE


@contextmanager
def alone(home: Path, repository: str, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the repository. *wait* is called again and again while another has it; it may raise. Raises OSError."""
    from huggingface_hub.utils import WeakFileLock

    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        lock = WeakFileLock(folder / f"{repository.replace('/', '--')}.lock", timeout=TURN_S)
        try:
            lock.__enter__()
            break
        except TimeoutError:
            wait()
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextmanager
def at_once(home: Path, repository: str) -> Iterator[None]:
    """Hold the repository, or raise BeingPulled."""

    def refuse() -> None:
        raise BeingPulled(f"{repository} is being pulled.", "Stop that pull, or wait until it has ended.")

    with alone(home, repository, refuse):
        yield
