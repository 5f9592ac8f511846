"""What a transcription is written as, piece by piece as its segments come. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from typing import Any

from anyform.contract.events import Done, Segment
from anyform.sound import subtitle

ENDINGS = {"text": ".txt", "srt": ".srt", "vtt": ".vtt", "json": ".json", "verbose_json": ".json"}
"""Formats, and how their files end."""


class Transcript:
    """One sound's text in one format. All that `piece` and `end` give, joined, is what HTTP answers in that format."""

    def __init__(self, form: str, task: str, words: bool = False, lines: bool = False) -> None:
        """*form*: of ENDINGS. *words*: whether words are timed, each in a subtitle of its own.

        *lines*: a line for each segment of plain text, for a person who waits.
        """
        self._form, self._task, self._words, self._lines = form, task, words, lines
        self._segments: list[Segment] = []
        self._done = Done()
        self._numbers = count(1)
        self._begun = False
        """Whether anything but space was said."""
        self._space = ""
        """What was said last, which only counts if more is said."""

    def piece(self, segment: Segment) -> str:
        """What *segment* adds."""
        self._segments.append(segment)
        cues = subtitle.worded(segment) if self._words else [segment]
        match self._form:
            case "text":
                return f"{segment.text.strip()}\n" if self._lines else self._said(segment.text)
            case "srt":
                return "".join(subtitle.srt_cue(next(self._numbers), cue) for cue in cues)
            case "vtt":
                head = subtitle.VTT_HEAD if len(self._segments) == 1 else ""
                return head + "".join(map(subtitle.vtt_cue, cues))
        return ""

    def end(self, done: Done) -> str:
        """What is left to write when all has been said."""
        self._done = done
        match self._form:
            case "text" if not self._lines:
                return "\n"
            case "vtt" if not self._segments:
                return subtitle.VTT_HEAD
            case "json":
                return _json({"text": subtitle.text(self._segments), "usage": subtitle.usage(done)})
            case "verbose_json":
                return _json(self.verbose())
        return ""

    def verbose(self) -> Mapping[str, Any]:
        """All there is to say of it, as OpenAI's `verbose_json` has it."""
        granularities = ("segment", "word") if self._words else ("segment",)
        return subtitle.verbose(self._task, granularities, self._segments, self._done)

    def _said(self, text: str) -> str:
        text = self._space + text if self._begun else text.lstrip()
        kept = text.rstrip()
        self._begun, self._space = self._begun or bool(kept), text[len(kept) :]
        return kept


def _json(value: Any) -> str:
    return f"{json.dumps(value, ensure_ascii=False, indent=2)}\n"
