"""Which models crash, and what that means for their next load: at once, after a pause, or not until a user says so."""

from __future__ import annotations

from collections.abc import Callable

from anyform.contract.errors import LoadFailed

MOST = 3
"""Crashes in a row after which a model is not loaded again by itself."""
PAUSE_S = 1.0
"""Before the second restart; the first is immediate."""


class Troubles:
    """Crashes in a row, by name; not safe between threads, which is the pool's part."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._crashes: dict[str, list[tuple[float, str]]] = {}

    def add(self, name: str, reason: str) -> None:
        """*reason*: in words; it is told amid a sentence."""
        self._crashes.setdefault(name, []).append((self._clock(), reason.removesuffix(".")))

    def forgive(self, name: str) -> None:
        """It answered a whole request, or a user asks for it anew."""
        self._crashes.pop(name, None)

    def pause_s(self, name: str) -> float:
        """Seconds until it may be loaded again. Raises LoadFailed for one that crashed MOST times in a row."""
        crashes = self._crashes.get(name, [])
        if len(crashes) >= MOST:
            raise LoadFailed(
                f"{name} crashed {len(crashes)} times in a row and is not started again by itself: {crashes[-1][1]}.",
                f"See `anyform doctor`; `anyform load {name}` tries anew.",
                crashes=len(crashes),
            )
        if len(crashes) < 2:
            return 0.0
        return crashes[-1][0] + PAUSE_S * float(2 ** (len(crashes) - 2)) - self._clock()

    def failed(self) -> dict[str, str]:
        """Those that are not loaded again by themselves, with the last reason."""
        return {name: crashes[-1][1] for name, crashes in self._crashes.items() if len(crashes) >= MOST}
