"""What a window's tokens mean: segments with times, how far to go on, and whether to trust them. Numbers alone.

Whisper's long-form transcription, section 3.8 of https://arxiv.org/abs/2212.04356, as
https://github.com/openai/whisper/blob/main/whisper/transcribe.py and transformers do it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

STEP_S = 0.02
"""From one timestamp to the next; two frames."""
FRAMES = 2
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""What is tried, one after the other, until a window's text can be trusted."""
REPETITIVE = 2.4
"""Text that zlib makes smaller by more than this says the same again and again."""
UNSURE = -1.0
"""The mean log-probability of a token below which a window is tried again."""
SILENT = 0.6
"""The probability of silence from which on an unsure window is taken for it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One segment: places of its tokens in the window's, and seconds from the window's start."""

    first: int
    last: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was decoded of one window at one temperature."""

    tokens: list[int]
    """Without the end."""
    text: str
    temperature: float
    logprob: float
    """The mean of all tokens, the end included."""
    silence: float
    """How likely it is that nothing is said."""

    @property
    def compression(self) -> float:
        data = self.text.encode("utf-8")
        return len(data) / len(zlib.compress(data)) if data else 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing was said."""
        return self.silence > SILENT and self.logprob < UNSURE

    @property
    def sound(self) -> bool:
        """Whether no higher temperature needs to be tried."""
        return self.silent or (self.compression <= REPETITIVE and self.logprob >= UNSURE)


def split(tokens: Sequence[int], first_time: int, frames: int) -> tuple[list[Part], int]:
    """The segments of a window of *frames*, and by how many frames to go on.

    Two times beside each other end a segment and begin the next. What is behind the last such pair is not whole, and
    is heard again from there on, unless a single time ends the text: then nothing is said after it.
    """
    is_time = [token >= first_time for token in tokens]
    cuts = [place for place in range(1, len(tokens)) if is_time[place - 1] and is_time[place]]
    if not cuts:
        return [_whole(tokens, first_time, frames)], frames
    finished = is_time[-2:] == [False, True]
    ends = [*cuts, len(tokens)] if finished else cuts
    starts = [0, *ends[:-1]]

    def second(place: int) -> float:
        return (tokens[place] - first_time) * STEP_S

    parts = [Part(start, end, second(start), second(end - 1)) for start, end in zip(starts, ends, strict=True)]
    forward = frames if finished else (tokens[cuts[-1] - 1] - first_time) * FRAMES
    return parts, forward if forward > 0 else frames


def _whole(tokens: Sequence[int], first_time: int, frames: int) -> Part:
    times = [token for token in tokens if token >= first_time]
    end = (times[-1] - first_time) if times and times[-1] != first_time else frames // FRAMES
    return Part(0, len(tokens), 0.0, end * STEP_S)
