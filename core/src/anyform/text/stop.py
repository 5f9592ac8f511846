"""Stop strings over streamed text: what may be emitted, and when to end. Never emits a stop string or a part of one."""

from __future__ import annotations

from collections.abc import Sequence


def held_back(text: str, markers: Sequence[str]) -> int:
    """Length of the longest suffix of *text* that is a proper prefix of any of *markers*."""
    longest = max((len(marker) for marker in markers), default=0)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if any(len(marker) > len(text) - start and marker.startswith(text[start:]) for marker in markers):
            return len(text) - start
    return 0


class StopStrings:
    """Finds the first of *stops* in text that comes in pieces, whatever the pieces are.

    The match that ends first wins; of those that end at the same place, the longest. Text is held
    back only while it may still become a match. Empty stop strings are ignored.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.matched: str | None = None
        """The stop string that ended the text."""

    def feed(self, text: str) -> tuple[str, str | None]:
        """Take the next piece; give the text that is safe to emit and the stop string that matched, if one did.

        After a match nothing more is emitted.
        """
        if self.matched is not None:
            return "", self.matched
        if not self._stops:
            return text, None
        text = self._held + text
        found = self._first_match(text)
        if found is not None:
            start, self.matched = found
            self._held = ""
            return text[:start], self.matched
        keep = len(text) - held_back(text, self._stops)
        self._held = text[keep:]
        return text[:keep], None

    def flush(self) -> str:
        """The text still held back, once no more will come."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        places = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not places:
            return None
        _, start, stop = min(places)
        return start, stop
