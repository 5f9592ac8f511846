"""What models really took on this machine, so that the next estimate is nearer. Losing it costs accuracy alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from anyform.contract.facts import MemoryEstimate, Settings
from anyform.workers.memo import Memo

KEPT = 16
"""Measurements of one key, the newest."""
MEASURED = 0.9
"""How sure a measured estimate is. No surer than what an engine's own formula may be: ties between engines go to the
surer estimate, and having tried one must not make it the default."""
BOUND = 2.0
"""An estimate is never corrected by more than this factor, up or down, whatever was measured."""


class Calibration:
    """Remembers peaks beside the estimates that were made for them."""

    def __init__(self, state: Path | None) -> None:
        """*state*: the folder of the memory.json; None: kept in memory."""
        self._memo = Memo(state / "memory.json" if state else None)
        self._told: dict[tuple[str, str], int] = {}
        """What plugins said, uncorrected."""

    def record(self, key: str, settings: Settings, peak_bytes: int) -> None:
        """A load with *settings*, as `placed` says them, took *peak_bytes* of all its devices together.

        Once a load, at its end: a peak that is read before the first requests lacks what they touch. What was never
        estimated, such as a load with reduced settings, is passed over.
        """
        told = self._told.get((key, _mark(settings)), 0)
        if told > 0 and peak_bytes > 0:
            self._memo.update({key: [*self._rows(key), (_mark(settings), told, peak_bytes)][-KEPT:]})

    def apply(self, key: str, estimate: MemoryEstimate, settings: Settings) -> MemoryEstimate:
        """*estimate* as measurements correct it: by those of the same settings, else by all; the median counts.

        Only the overhead changes: neither the weights nor the cost of a token are taken back.
        """
        total = self._told[key, _mark(settings)] = estimate.at(settings)
        rows = list(self._rows(key))
        same = [row for row in rows if row[0] == _mark(settings)]
        if not rows:
            return estimate
        from statistics import median_high  # takes longer to import than all else here

        off = median_high([peak - total for *_, peak in same] or [peak - told for _, told, peak in rows])
        bounded = min(max(off, round(total / BOUND) - total), round(total * BOUND) - total)
        return replace(
            estimate,
            overhead_bytes=max(estimate.overhead_bytes + bounded, 0),
            confidence=max(estimate.confidence, MEASURED if same else 0.8),
            why=f"{estimate.why}; measured {len(same or rows)} times on this machine"
            + ("" if same else ", with other settings"),
        )

    def _rows(self, key: str) -> Iterator[tuple[str, int, int]]:
        """(settings, estimated, measured), oldest first; what does not look like one is passed over."""
        known = self._memo.get(key)
        for row in known if isinstance(known, list) else ():
            match row:
                case [str(mark), int(told), int(peak)] if told > 0 and peak > 0:
                    yield mark, told, peak


def _mark(settings: Settings) -> str:
    """The settings as one text; a device counts, since another takes other memory."""
    said = [settings.context, settings.parallel, settings.device, settings.options]
    return json.dumps(said, sort_keys=True, default=str)
