"""The load options of the faster-whisper backend: what they are called, what they may be, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anyform import option
from anyform.option import amount, one_of, truth, whole, wrong

COMPUTE_TYPES = (
    "default", "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16",
    "float32",
)  # fmt: skip
"""CTranslate2's: https://opennmt.net/CTranslate2/quantization.html."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `Settings.options` may hold. None: left to faster-whisper, whose defaults the others are, too."""

    compute_type: str = "default"
    """Numbers to compute in. default: those of the file, or the next best that the device has; auto: the fastest."""
    threads: int | None = None
    """CPU threads of each of the `parallel` requests. Default: CTranslate2's, 4 at the most."""
    beam_size: int = 5
    """Answers that are followed side by side at temperature 0; 1: greedily."""
    best_of: int = 5
    """Answers that are drawn at other temperatures, of which the likeliest is taken."""
    patience: float = 1.0
    """Beams are searched until beam_size x this many answers are complete."""
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    """Over 1: tokens that were there become less likely."""
    no_repeat_ngram_size: int = 0
    """So many tokens never come twice in a row; 0: they may."""
    fallback: bool = True
    """Try a window again at a higher temperature where its text repeats itself or is unlikely; false: the first try is
    it. A request that names a temperature gets that one alone."""
    compression_ratio_threshold: float = 2.4
    """Text that zlib makes smaller by more than this repeats itself."""
    log_prob_threshold: float = -1.0
    """Text whose tokens have a lower mean log-probability is unlikely."""
    no_speech_threshold: float = 0.6
    """Unlikely text is left out where silence is more probable than this."""
    condition_on_previous_text: bool = True
    """Each window knows the text of the one before; false: less in one style, but no mistake is carried on."""
    hotwords: str = ""
    """Words that are likely to be said, told to every window."""
    audio_seconds: float = 7200.0
    """Seconds that one sound may last."""
    vad: bool = False
    """Leave out what is no speech (Silero VAD) also where a request does not ask for it."""
    vad_threshold: float = 0.5
    """The probability from which on it is speech."""
    vad_min_speech_ms: int = 0
    """Shorter speech is left out."""
    vad_max_speech_s: float | None = None
    """Longer speech is parted. Default: never."""
    vad_min_silence_ms: int = 2000
    """Shorter silence does not part speech."""
    vad_pad_ms: int = 400
    """What is kept before and after speech."""


def read(given: Mapping[str, Any]) -> Options:
    """Check *given*. Raises Invalid that names the option, its value and what it may be."""
    return option.read(given, Options, _CHECKS)


def _number(least: float, most: float) -> option.Check:
    def check(name: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, bool) or not least <= number <= most:
            raise wrong(name, value, f"a number, {least:g} to {most:g}")
        return number

    return check


def _words(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, "a text")
    return value


_CHECKS: Mapping[str, option.Check] = {
    "compute_type": one_of(COMPUTE_TYPES),
    "threads": whole(1, 1024),
    "beam_size": whole(1, 100),
    "best_of": whole(1, 100),
    "patience": _number(0.1, 10),
    "length_penalty": _number(0, 10),
    "repetition_penalty": _number(0.1, 10),
    "no_repeat_ngram_size": whole(0, 100),
    "fallback": truth,
    "compression_ratio_threshold": _number(0, 1000),
    "log_prob_threshold": _number(-1000, 0),
    "no_speech_threshold": _number(0, 1),
    "condition_on_previous_text": truth,
    "hotwords": _words,
    "audio_seconds": amount,
    "vad": truth,
    "vad_threshold": _number(0.01, 1),
    "vad_min_speech_ms": whole(0, 3_600_000),
    "vad_max_speech_s": _number(1, 86_400),
    "vad_min_silence_ms": whole(0, 3_600_000),
    "vad_pad_ms": whole(0, 60_000),
}
