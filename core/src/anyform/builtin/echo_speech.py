"""How echo speaks: a word is a tone, whose pitch depends on its letters and the voice; a sentence is a row of them."""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from anyform.contract.errors import Invalid

if TYPE_CHECKING:  # importing the jobs would slow `anyform list` down
    from anyform.contract.jobs import Speak

RATE = 24_000
WORD_S = 0.1
"""How long a word is at speed 1."""
SPEEDS = (0.5, 2.0)
LOUD = 12_000
LOWEST_HZ, STEPS, STEP_HZ = 300, 32, 20
VOICES: tuple[Mapping[str, str], ...] = (
    {"id": "alto", "name": "Alto (American)", "language": "en-US"},
    {"id": "bass", "name": "Bass (British)", "language": "en-GB"},
    {"id": "tenor", "name": "Tenor (German)", "language": "de-DE"},
)
"""The first is the usual one."""


def check(job: Speak) -> str:
    """The voice that is meant. Raises Invalid, which names the field of a request."""
    low, high = SPEEDS
    if not low <= job.speed <= high:
        raise Invalid(f"speed is {job.speed:g}.", f"Echo speaks at {low:g} to {high:g}.", param="speed")
    if not job.text.split():
        raise Invalid("the text is empty.", "Say some words.", param="input")
    fitting = [voice["id"] for voice in VOICES if voice["language"].lower().startswith(job.language.lower())]
    if not fitting:
        raise Invalid(f"echo does not speak '{job.language[:40]}'.", "It speaks en and de.", param="language")
    names = [voice["id"] for voice in VOICES]
    if job.voice and job.voice not in names:
        raise Invalid(f"there is no voice '{job.voice[:40]}'.", f"There are {', '.join(names)}.", param="voice")
    return job.voice or fitting[0]


def sentences(text: str) -> list[list[str]]:
    """The words of each."""
    return [words for part in re.split(r"(?<=[.!?])\s", text) if (words := part.split())]


def spoken(words: Sequence[str], voice: str, speed: float) -> bytes:
    """Little-endian 16-bit mono PCM, RATE samples a second; each word begins and ends with silence."""
    return b"".join(_tone(f"{voice} {word}", round(WORD_S * RATE / speed)) for word in words)


def hertz(word: str, voice: str) -> int:
    """The pitch of a word."""
    return _pitch(f"{voice} {word}")


def _pitch(seed: str) -> int:
    return LOWEST_HZ + STEP_HZ * (zlib.crc32(seed.encode()) % STEPS)


def _tone(seed: str, size: int) -> bytes:
    turn, swell = 2 * math.pi * _pitch(seed) / RATE, math.pi / size
    return struct.pack(f"<{size}h", *(round(LOUD * math.sin(turn * at) * math.sin(swell * at)) for at in range(size)))
