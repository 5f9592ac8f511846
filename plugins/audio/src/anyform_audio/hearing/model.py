"""A loaded Whisper: checks a job, reads its sound, and hands out its segments as they come."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from anyform.contract.errors import Fault
from anyform.contract.events import Done, Event, Finish, Usage
from anyform.contract.jobs import Job, Transcribe, Translate
from anyform.contract.model import Stop
from anyform.sound import decode, language, speech
from anyform.sound.decode import Floats
from anyform_audio.hearing.crew import Crew
from anyform_audio.hearing.hearing import Hearing
from anyform_audio.hearing.listener import TEMPERATURES, Listener
from anyform_audio.hearing.options import Options


class HearingModel:
    """What `load` gives for a model that writes down speech."""

    def __init__(
        self, listener: Listener, options: Options, *, parallel: int, languages: Collection[str] | None, aligns: bool
    ) -> None:
        """*parallel*: requests at once. *languages*: codes; None: English only. *aligns*: whether it can time words."""
        self.parallel = parallel
        self._whisper, self._options = listener.whisper, options
        self._languages, self._aligns = languages, aligns
        self._rate = int(listener.whisper.feature_extractor.sampling_rate)
        self._crew = Crew(self._hear, self._free, parallel)
        self._listener: Listener | None = listener

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, TooLarge, ContextExceeded and Closed."""
        self._crew.check()
        started = time.perf_counter()
        return self._events(self._hearing(speech.checked(job), stop), started)

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._crew.close()

    def _hear(self, hearing: Hearing) -> None:
        if self._listener is not None:
            self._listener.hear(hearing, self._crew.check)

    def _free(self) -> None:
        self._whisper.model.unload_model()
        self._whisper = self._listener = None

    def _hearing(self, job: Transcribe | Translate, stop: Stop) -> Hearing:
        spoken, words, vad = "" if self._languages is not None else language.ENGLISH, False, False
        if isinstance(job, Translate):
            speech.check_translation(self._languages is not None)
        else:
            speech.check_words(job.words, self._aligns, "config.json")
            spoken = language.code(job.language, self._languages) if job.language else spoken
            words, vad = job.words, job.vad
        prompt = self._prompt(job.prompt)
        sound = self._sound(job.audio.data, stop)
        return Hearing(
            sound=sound,
            duration_s=len(sound) / self._rate,
            task=job.task,
            stop=stop,
            language=spoken,
            prompt=prompt,
            temperatures=self._temperatures(job.temperature),
            words=words,
            vad=vad or self._options.vad,
        )

    def _sound(self, data: bytes, stop: Stop) -> Floats:
        blocks = list(decode.samples(data, self._rate, self._options.audio_seconds, stop))
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)

    def _prompt(self, text: str) -> tuple[int, ...]:
        """The tokens of *text*, which was said before. Raises ContextExceeded, Invalid."""
        if not text.strip():
            return ()
        tokenizer: Any = self._whisper.hf_tokenizer
        tokens = tokenizer.encode(f" {text.strip()}", add_special_tokens=False).ids
        most = self._whisper.max_length // 2 - 1
        speech.check_prompt(tokens, most, tokenizer.token_to_id("<|endoftext|>"), tokenizer.id_to_token)
        return tuple(tokens)

    def _temperatures(self, asked: float | None) -> tuple[float, ...]:
        if asked is not None:
            return (float(asked),)
        return TEMPERATURES if self._options.fallback else (0.0,)

    def _events(self, hearing: Hearing, started: float) -> Iterator[Event]:
        yield hearing.progress(0)
        begun = time.perf_counter()
        try:
            self._crew.submit(hearing)
            while (told := hearing.told.get()) is not None:
                if isinstance(told, Fault):
                    raise told
                yield told
        finally:
            hearing.dropped = True  # whoever reads no further needs no further steps
            self._crew.withdraw(hearing)
        yield self._done(hearing, begun - started, time.perf_counter() - begun)

    def _done(self, hearing: Hearing, heard_s: float, took_s: float) -> Done:
        written = language.ENGLISH if hearing.task == Translate.task else hearing.language
        extra: dict[str, Any] = {
            "duration": hearing.duration_s,
            "language": written,
            "language_name": language.NAMES.get(written, written),
            "spoken": hearing.language,
            "language_probability": hearing.probability,
            "batching": f"none: {self.parallel} at a time, each by itself; the others wait for their turn",
        }
        if hearing.vad:
            extra["speech"] = [[one["start"] / self._rate, one["end"] / self._rate] for one in hearing.speech]
        return Done(
            finishes=(Finish(reason="cancelled" if hearing.cancelled else "stop"),),
            usage=Usage(prompt_tokens=hearing.prompt_tokens, completion_tokens=hearing.tokens),
            prompt_s=heard_s,
            generate_s=took_s,
            extra=extra,
        )
