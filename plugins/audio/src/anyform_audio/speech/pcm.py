"""Samples of one sentence, made ready to stand between others: without its own silence, without clicks, 16 bits."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyform.contract.errors import Fault

Floats: TypeAlias = NDArray[np.float32]

FRAME_S = 0.01
"""What is silence is told in stretches of this length."""
FLOOR = 1e-3
"""Silence is 60 dB below the loudest stretch."""
MARGIN_S = 0.02
"""Silence that stays at each end, for breath and the room's sound."""
FADE_S = 0.005
"""From nothing, and to it, at the ends."""
MOST = 32767


def checked(made: Any, said: str) -> Floats:
    """What a model made of *said*, in a row. Raises Fault where it is nothing, or not numbers."""
    sound: Floats = np.asarray(made, np.float32).ravel()
    if not sound.size:
        raise Fault(
            f"the model made no sound of {_short(said)}.",
            "Say it differently; if that does not help, get the model again.",
        )
    if not np.isfinite(sound).all():
        raise Fault(
            f"the model made numbers that are not finite of {_short(said)}.",
            "Try another voice or a variant of the model with more bits; if that does not help, get the model again.",
        )
    return sound


def joined(sound: Floats, rate: int, pause_s: float) -> bytes:
    """*sound* after *pause_s* of silence: without its own, faded at both ends, little-endian 16-bit."""
    ready = faded(trimmed(sound, rate), rate)
    pause = np.zeros(round(pause_s * rate), "<i2")
    return pause.tobytes() + whole(ready).tobytes()


def trimmed(sound: Floats, rate: int) -> Floats:
    """*sound* from shortly before its first to shortly after its last stretch that is no silence; all, if none is."""
    frame, margin = round(FRAME_S * rate), round(MARGIN_S * rate)
    padded = np.pad(sound, (0, -len(sound) % frame)).reshape(-1, frame)
    loud = np.sqrt(np.square(padded, dtype=np.float64).mean(1))
    heard = np.flatnonzero(loud > loud.max() * FLOOR)
    if not heard.size:
        return sound
    return sound[max(int(heard[0]) * frame - margin, 0) : (int(heard[-1]) + 1) * frame + margin]


def faded(sound: Floats, rate: int) -> Floats:
    """*sound* that rises from nothing and falls to it, half a wave of a cosine each."""
    length = min(round(FADE_S * rate), len(sound) // 2)
    rise = (0.5 - 0.5 * np.cos(np.pi * np.arange(length) / max(length, 1))).astype(np.float32)
    made = sound.copy()
    made[:length] *= rise
    made[len(made) - length :] *= rise[::-1]
    return made


def whole(sound: Floats) -> NDArray[np.int16]:
    """As 16-bit numbers; what is louder than 1 is as loud as 1."""
    made: NDArray[np.int16] = np.rint(np.clip(sound, -1.0, 1.0) * MOST).astype("<i2")
    return made


def _short(said: str) -> str:
    return repr(said if len(said) <= 60 else f"{said[:57]}...")
