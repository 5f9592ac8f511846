"""Whisper's algorithm over a recognizer: window by window, each tried until it can be trusted, a token a step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np

from anyform.contract.errors import Fault
from anyform.contract.events import Progress, Segment
from anyform.contract.model import Stop
from anyform.text.vectormodel import Floats
from anyform_hf_transformers import alignment, transcript
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.mel import Heard
from anyform_hf_transformers.recognizer import Recognizer
from anyform_hf_transformers.speechmarks import Marks
from anyform_hf_transformers.transcript import Attempt, Part

PROGRESS = "audio"
"""The stage whose Progress counts seconds."""


@dataclass(slots=True, eq=False)
class Hearing:
    """One request: written by its own thread until it is submitted, then by the engine's."""

    heard: Heard
    task: str
    stop: Stop
    language: str = ""
    """A code; empty: to be found out."""
    prompt: Sequence[int] = ()
    temperatures: Sequence[float] = (0.0,)
    words: bool = False
    told: SimpleQueue[Segment | Progress | Fault | None] = field(default_factory=SimpleQueue)
    """What its reader gets; None: it is over."""
    dropped: bool = False
    """Set by the reader: it wants no more."""
    cancelled: bool = False
    prompt_tokens: int = 0
    tokens: int = 0
    """That were generated, also those that were thrown away."""


Steps: TypeAlias = Iterator[bool]
"""Work done a step at a time; True: a window is done, and another request may have its turn."""


class Transcriber:
    """Makes segments of hearings."""

    def __init__(self, network: Recognizer, tokenizer: Any, marks: Marks, config: Any) -> None:
        """*config*: the model's generation configuration."""
        self.network = network
        self._marks = marks
        self._tokenizer = tokenizer
        self._most = _limit(config, network.context)
        self._rules = _Rules(marks, config)

    def steps(self, hearing: Hearing) -> Steps:
        """Do *hearing*; each step runs the network at most once."""
        start, length = 0, hearing.heard.length
        previous_s = 0.0
        while start < length:
            frames = min(length - start, self.network.window)
            sound = self.network.hear(hearing.heard, start)
            yield False
            if not hearing.language:
                hearing.language = self._detect(sound)
                yield False
            window = _Window(hearing, sound, start, frames)
            best = yield from self._decode(window)
            forward = frames
            if not (best.silent and len(hearing.temperatures) > 1):
                parts, forward = transcript.split(best.tokens, self._marks.first_time, frames)
                spoken: Sequence[Sequence[alignment.Timed]] = ()
                if hearing.words:
                    yield False
                    spoken, previous_s = self._timed(window, best, parts, previous_s)
                self._tell(window, best, parts, spoken)
            self.network.forget()
            start += forward
            hearing.told.put(_progress(hearing.heard, start))
            yield True

    def _detect(self, sound: Any) -> str:
        languages = self._marks.languages
        row = self.network.begin(sound, [self._marks.start])[-1]
        return max(languages, key=lambda code: row[languages[code]])

    def _decode(self, window: _Window) -> Generator[bool, None, Attempt]:
        """The first attempt that can be trusted, else the last."""
        for temperature in window.hearing.temperatures:
            attempt = yield from self._attempt(window, temperature)
            if attempt.sound:
                break
        return attempt

    def _attempt(self, window: _Window, temperature: float) -> Generator[bool, None, Attempt]:
        hearing, marks = window.hearing, self._marks
        prompt = self.prompt(hearing)
        hearing.prompt_tokens += len(prompt)
        rows = self.network.begin(window.sound, prompt)
        silence = _share(rows[prompt.index(marks.start)], marks.silence)
        row, tokens, total = rows[-1], list(prompt), 0.0
        random = np.random.default_rng()
        while True:
            row = self._rules(tokens, len(prompt), row)
            token = _pick(row, temperature, random)
            hearing.tokens += 1
            total += float(row[token]) - _log_sum(row)
            if token != marks.end:
                tokens.append(token)
            if token == marks.end or len(tokens) - len(prompt) >= self._most or len(tokens) >= self.network.context:
                break
            yield False
            row = self.network.step(window.sound, token)
        said = tokens[len(prompt) :]
        mean = total / (len(said) + 1)
        return Attempt(said, self.text(said), temperature, mean, silence)

    def prompt(self, hearing: Hearing) -> list[int]:
        """What an answer to *hearing* begins with."""
        return [*hearing.prompt, *self._marks.beginning(hearing.task, hearing.language)]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of *tokens*, without times and other marks."""
        return str(self._tokenizer.decode([token for token in tokens if self._is_text(token)]))

    def _is_text(self, token: int) -> bool:
        return token < self._marks.end

    def _tell(
        self, window: _Window, best: Attempt, parts: Sequence[Part], spoken: Sequence[Sequence[alignment.Timed]]
    ) -> None:
        for place, part in enumerate(parts):
            tokens = [token for token in best.tokens[part.first : part.last] if self._is_text(token)]
            text = self.text(tokens)
            if not text.strip() or not window.holds(part):
                continue
            extra: dict[str, Any] = {
                "seek": window.start,
                "tokens": tokens,
                "temperature": best.temperature,
                "avg_logprob": best.logprob,
                "compression_ratio": best.compression,
                "no_speech_prob": best.silence,
            }
            if spoken:
                extra["words"] = self._words(spoken[place], window.hearing.language)
            start, end = window.seconds(part)
            window.hearing.told.put(Segment(text=text, start=start, end=end, extra=extra))

    def _words(self, timed: Sequence[alignment.Timed], language: str) -> list[dict[str, Any]]:
        found = alignment.words(timed, self.text, language)
        return [{"word": word.text, "start": round(word.start, 2), "end": round(word.end, 2)} for word in found]

    def _timed(
        self, window: _Window, best: Attempt, parts: Sequence[Part], previous_s: float
    ) -> tuple[list[list[alignment.Timed]], float]:
        """The text tokens of each part, and when they were spoken: each from where the token before it ends.

        The last token has no attention of its own, since nothing follows it: it ends where the one before it does.
        """
        prompt = self.prompt(window.hearing)
        tokens = [*best.tokens, self._marks.end][: self.network.context - len(prompt)]
        attention = self.network.look(window.sound, [*prompt, *tokens[:-1]])[:, len(prompt) :]
        attention = attention[..., : self.network.columns(window.frames)]
        ends = alignment.times(attention, self.network.median) if attention.shape[1] else []
        ends = [window.start_s + end for end in (*ends, ends[-1] if ends else 0.0)]
        found = []
        for part in parts:
            spoken = []
            for place in range(part.first, part.last):
                if self._is_text(best.tokens[place]):
                    spoken.append((best.tokens[place], previous_s, ends[place]))
                previous_s = ends[place]
            found.append(spoken)
        return found, previous_s


@dataclass(frozen=True, slots=True)
class _Window:
    """One window of a hearing: frames."""

    hearing: Hearing
    sound: Any
    start: int
    frames: int

    @property
    def start_s(self) -> float:
        return self.start * transcript.STEP_S / transcript.FRAMES

    def holds(self, part: Part) -> bool:
        """Whether *part* begins in the sound, and not in the silence with which its last window is filled."""
        return self.start_s + part.start_s < self.hearing.heard.duration_s

    def seconds(self, part: Part) -> tuple[float, float]:
        """Where *part* is in the whole sound, in which it ends, too."""
        start, end = self.start_s + part.start_s, self.start_s + part.end_s
        end = min(end, self.hearing.heard.duration_s)
        return round(start, 2), round(max(start, end), 2)


class _Rules:
    """Which tokens may come next: transformers' own processors."""

    def __init__(self, marks: Marks, config: Any) -> None:
        self._begins = list(config.begin_suppress_tokens or ())
        self._never = list(config.suppress_tokens or ())
        said = transformers.GenerationConfig(eos_token_id=marks.end)
        said.no_timestamps_token_id = marks.no_timestamps
        said.max_initial_timestamp_index = getattr(config, "max_initial_timestamp_index", None)
        self._times = transformers.WhisperTimeStampLogitsProcessor(said, begin_index=0)

    def __call__(self, tokens: Sequence[int], begin: int, row: Floats) -> Floats:
        """*row* with -inf for all that may not follow *tokens*, of which the answer's own come from *begin* on."""
        if len(tokens) == begin:
            row[self._begins] = -np.inf
        row[self._never] = -np.inf
        self._times.set_begin_index(begin)
        made: Floats = self._times(torch.tensor([tokens]), torch.from_numpy(row)[None])[0].numpy()
        return made


def _progress(heard: Heard, frames: int) -> Progress:
    done = heard.duration_s * min(frames / heard.length, 1.0)
    return Progress(stage=PROGRESS, done=int(done), total=int(heard.duration_s))


def _pick(row: Floats, temperature: float, random: np.random.Generator) -> int:
    if temperature <= 0:
        return int(row.argmax())
    scaled = (row.astype(np.float64) - row.max()) / temperature
    shares = np.exp(scaled)
    return int(random.choice(len(row), p=shares / shares.sum()))


def _log_sum(row: Floats) -> float:
    most = float(row.max())
    return most + float(np.log(np.exp(row.astype(np.float64) - most).sum()))


def _share(row: Floats, token: int) -> float:
    return float(np.exp(float(row[token]) - _log_sum(row)))


def _limit(config: Any, context: int) -> int:
    """Tokens of one window at the most."""
    stated: list[Callable[[], Any]] = [lambda: config.max_new_tokens, lambda: config.max_length]
    return min([context, *(value for value in (each() for each in stated) if isinstance(value, int) and value > 0)])
