"""A loaded Whisper: checks a job, reads its sound, and hands out its segments as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from anyform.contract.errors import Fault, Unsupported
from anyform.contract.events import Done, Event, Finish, Progress, Usage
from anyform.contract.jobs import Job, Transcribe, Translate
from anyform.contract.model import Stop
from anyform.sound import decode, language, speech
from anyform_hf_transformers import speechmarks, transcript
from anyform_hf_transformers.mel import Heard, Spectrograph
from anyform_hf_transformers.speechloop import SpeechLoop
from anyform_hf_transformers.speechmarks import Marks
from anyform_hf_transformers.transcriber import PROGRESS, Hearing


class SpeechModel:
    """What `load` gives for a model that writes down speech."""

    def __init__(
        self,
        loop: SpeechLoop,
        spectrograph: Spectrograph,
        tokenizer: Any,
        marks: Marks,
        *,
        context: int,
        parallel: int,
        most_s: float,
        aligns: bool,
        fallback: bool,
    ) -> None:
        """*context*: positions of the decoder. *most_s*: seconds of one sound. *aligns*: whether it can time words.

        *fallback*: whether a window that cannot be trusted is tried again at higher temperatures.
        """
        self.parallel = parallel
        self._loop, self._spectrograph, self._tokenizer, self._marks = loop, spectrograph, tokenizer, marks
        self._context, self._most_s, self._aligns, self._fallback = context, most_s, aligns, fallback

    def generate(self, job: Job, stop: Stop) -> Iterator[Event]:
        """Do *job*. Raises, before any event, Unsupported, Invalid, TooLarge, ContextExceeded and Closed."""
        self._loop.check()
        started = time.perf_counter()
        hearing = self._hearing(speech.checked(job), stop)
        return self._events(hearing, started)

    def close(self) -> None:
        """End running jobs with Closed, free everything. Idempotent."""
        self._loop.close()

    def _hearing(self, job: Transcribe | Translate, stop: Stop) -> Hearing:
        language, words = "" if self._marks.several else "en", False
        if isinstance(job, Translate):
            speech.check_translation(self._marks.several)
        else:
            self._check_wishes(job)
            language, words = self._marks.language(job.language) if job.language else language, job.words
        prompt = speechmarks.prompt(self._tokenizer, self._marks, job.prompt, self._context)
        return Hearing(
            heard=self._hear(job.audio.data, stop),
            task=job.task,
            stop=stop,
            language=language,
            prompt=prompt,
            temperatures=self._temperatures(job.temperature),
            words=words,
        )

    def _check_wishes(self, job: Transcribe) -> None:
        if job.vad:
            raise Unsupported("this backend has no filter of voice activity (vad).", "Ask without it.")
        speech.check_words(job.words, self._aligns, "generation_config.json")

    def _hear(self, data: bytes, stop: Stop) -> Heard:
        return self._spectrograph.read(decode.samples(data, self._spectrograph.rate, self._most_s, stop))

    def _temperatures(self, asked: float | None) -> tuple[float, ...]:
        if asked is not None:
            return (asked,)
        return transcript.TEMPERATURES if self._fallback else (0.0,)

    def _events(self, hearing: Hearing, started: float) -> Iterator[Event]:
        yield Progress(stage=PROGRESS, total=int(hearing.heard.duration_s))
        begun = time.perf_counter()
        try:
            self._loop.submit(hearing)
            while (told := hearing.told.get()) is not None:
                if isinstance(told, Fault):
                    raise told
                yield told
        finally:
            hearing.dropped = True  # whoever reads no further needs no further steps
        yield self._done(hearing, begun - started, time.perf_counter() - begun)

    def _done(self, hearing: Hearing, heard_s: float, took_s: float) -> Done:
        spoken = "en" if hearing.task == Translate.task else hearing.language
        return Done(
            finishes=(Finish(reason="cancelled" if hearing.cancelled else "stop"),),
            usage=Usage(prompt_tokens=hearing.prompt_tokens, completion_tokens=hearing.tokens),
            prompt_s=heard_s,
            generate_s=took_s,
            extra={
                "duration": hearing.heard.duration_s,
                "language": spoken,
                "language_name": language.NAMES.get(spoken, spoken),
                "spoken": hearing.language,
            },
        )
