"""Hears one request after the other with faster-whisper: what it is told, and what comes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from anyform.contract.errors import Area, Fault, OutOfMemory
from anyform.contract.events import Segment
from anyform.sound.decode import Floats
from anyform_audio.hearing.backend import (
    SpeechTimestampsMap,
    VadOptions,
    get_speech_timestamps,
    restore_speech_timestamps,
)
from anyform_audio.hearing.hearing import Hearing
from anyform_audio.hearing.options import Options
from anyform_audio.hearing.spectrum import Spectrum

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""What is tried, one after the other, until a window's text can be trusted; faster-whisper's."""
_SHARED = (
    "beam_size", "best_of", "patience", "length_penalty", "repetition_penalty", "no_repeat_ngram_size",
    "compression_ratio_threshold", "log_prob_threshold", "no_speech_threshold", "condition_on_previous_text",
)  # fmt: skip
"""Options that are faster-whisper's own arguments."""


class HearingFailed(Fault):
    """CTranslate2 could not compute a step; its request is lost, the model goes on."""

    code = "audio.hearing_failed"
    area = Area.BACKEND


class Unwanted(Exception):  # noqa: N818 - no error: its reader wants no more
    """Ends a request between two steps."""


class Listener:
    """A loaded WhisperModel; called by several threads."""

    def __init__(self, whisper: Any, options: Options) -> None:
        self.whisper = whisper
        self._wishes = {name: getattr(options, name) for name in _SHARED} | {"hotwords": options.hotwords or None}
        self._vad = vad_options(options)

    def hear(self, hearing: Hearing, check: Callable[[], None]) -> None:
        """Do *hearing*; it is told how that went. *check*: called before each step; a Fault that it raises ends it."""
        try:
            self._hear(hearing, check)
        except Unwanted:
            hearing.cancelled = True
        except Fault as fault:
            hearing.told.put(fault)
        except Exception as error:  # whatever the engine raises; the thread must go on to the next request
            hearing.told.put(_failed(error))
        hearing.told.put(None)

    def _hear(self, hearing: Hearing, check: Callable[[], None]) -> None:
        sound, where = self._heard(hearing)
        whisper, watched = copy.copy(self.whisper), Watched(self.whisper.model, hearing, check)
        whisper.model = watched
        whisper.feature_extractor = Spectrum(self.whisper.feature_extractor, where, watched.check)
        segments, info = whisper.transcribe(
            sound,
            language=hearing.language or None,
            task=hearing.task,
            temperature=list(hearing.temperatures),
            initial_prompt=list(hearing.prompt) or None,
            word_timestamps=hearing.words,
            **self._wishes,
        )
        hearing.language, hearing.probability = info.language, float(info.language_probability)
        hearing.sound = np.zeros(0, np.float32)
        del sound
        with closing(segments):
            restored = restore_speech_timestamps(segments, hearing.speech, self._rate) if hearing.speech else segments
            for segment in restored:
                hearing.told.put(_told(segment, hearing.duration_s))
        hearing.told.put(hearing.progress(hearing.duration_s))

    @property
    def _rate(self) -> int:
        return int(self.whisper.feature_extractor.sampling_rate)

    def _heard(self, hearing: Hearing) -> tuple[Floats, Callable[[int], None]]:
        """What is to be heard of a sound, and what tells from the frame of a window how far that is."""
        place: Callable[[float], float] = float
        sound = hearing.sound
        if hearing.vad:
            hearing.speech = get_speech_timestamps(sound, self._vad, self._rate)
            parts = [sound[one["start"] : one["end"]] for one in hearing.speech]
            sound = np.concatenate(parts) if parts else np.zeros(0, np.float32)
            place = SpeechTimestampsMap(hearing.speech, self._rate).get_original_time if parts else place
        step = self.whisper.feature_extractor.time_per_frame

        def where(frame: int) -> None:
            if frame:
                hearing.told.put(hearing.progress(place(frame * step)))

        return sound, where


class Watched:
    """CTranslate2's model for one request: its tokens are counted, and it ends between two steps if nobody wants it."""

    def __init__(self, model: Any, hearing: Hearing, check: Callable[[], None]) -> None:
        self._model, self._hearing, self._check = model, hearing, check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, *given: Any, **wanted: Any) -> Any:
        return self._step(self._model.encode, *given, **wanted)

    def detect_language(self, *given: Any, **wanted: Any) -> Any:
        return self._step(self._model.detect_language, *given, **wanted)

    def align(self, *given: Any, **wanted: Any) -> Any:
        return self._step(self._model.align, *given, **wanted)

    def generate(self, features: Any, prompts: Sequence[Sequence[int]], **wanted: Any) -> Any:
        results = self._step(self._model.generate, features, prompts, **wanted)
        self._hearing.prompt_tokens += sum(map(len, prompts))
        self._hearing.tokens += sum(len(ids) for result in results for ids in result.sequences_ids)
        return results

    def check(self) -> None:
        """Raise Unwanted, or the Fault that ends all."""
        self._check()
        if self._hearing.unwanted:
            raise Unwanted

    def _step(self, step: Callable[..., Any], *given: Any, **wanted: Any) -> Any:
        self.check()
        return step(*given, **wanted)


def vad_options(options: Options) -> Any:
    """faster-whisper's."""
    longest = {} if options.vad_max_speech_s is None else {"max_speech_duration_s": options.vad_max_speech_s}
    return VadOptions(
        threshold=options.vad_threshold,
        min_speech_duration_ms=options.vad_min_speech_ms,
        min_silence_duration_ms=options.vad_min_silence_ms,
        speech_pad_ms=options.vad_pad_ms,
        **longest,
    )


def _told(segment: Any, duration_s: float) -> Segment:
    """faster-whisper's segment as an event: numbers are Python's own, and times lie in the sound."""

    def at(second: Any) -> float:
        return round(min(max(float(second), 0.0), duration_s), 2)

    extra: dict[str, Any] = {
        "seek": int(segment.seek),
        "tokens": [int(token) for token in segment.tokens],
        "temperature": float(segment.temperature),
        "avg_logprob": float(segment.avg_logprob),
        "compression_ratio": float(segment.compression_ratio),
        "no_speech_prob": float(segment.no_speech_prob),
    }
    if segment.words is not None:
        extra["words"] = [_word(word, at) for word in segment.words]
    return Segment(text=segment.text, start=at(segment.start), end=at(segment.end), extra=extra)


def _word(word: Any, at: Callable[[Any], float]) -> Mapping[str, Any]:
    return {"word": word.word, "start": at(word.start), "end": at(word.end), "probability": float(word.probability)}


def _failed(error: Exception) -> Fault:
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return OutOfMemory(f"there is no memory to hear this: {error}.", "Send a shorter sound, or fewer at once.")
    return HearingFailed(
        f"CTranslate2 could not compute this request: {type(error).__name__}: {error}.",
        "Try again; if it happens again, unload the model and load it again.",
    )
