"""A loaded Kokoro: texts to windows of at most 510 phonemes, and these to sound.

What kokoro-onnx has for it is used; its class `Kokoro` is not: that one reads voices from an archive only, gives a run
no options, without which none can be ended, and rounds a speed where a model takes whole ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyform import option
from anyform.contract.errors import Invalid, LoadFailed
from anyform.contract.facts import Plan
from anyform.contract.jobs import Speak
from anyform.contract.model import LoadedModel
from anyform.sound.sentence import Break, Piece
from anyform_audio.speech.backend import Session
from anyform_audio.speech.kokoro import blend, language, layout
from anyform_audio.speech.kokoro.backend import MAX_PHONEME_LENGTH, SAMPLE_RATE, chunker, embedded_vocab, input_dtypes
from anyform_audio.speech.kokoro.blend import Blend, Voices
from anyform_audio.speech.kokoro.form import SPEEDS
from anyform_audio.speech.kokoro.language import Language
from anyform_audio.speech.kokoro.phoneme import Phonemes
from anyform_audio.speech.model import SpeechModel, Window, checked_speed, flowing, spoken, warm_up
from anyform_audio.speech.options import CHECKS, Options

WIDTH = 256
"""Of a style, where the graph does not say."""
_BREAKS = {**dict.fromkeys(chunker.SENTENCE_MARKS, Break.SENTENCE), **dict.fromkeys(chunker.CLAUSE_MARKS, Break.CLAUSE)}


@dataclass(frozen=True, slots=True)
class Manner:
    """How one request wants its text to be spoken."""

    voice: Blend
    language: Language
    speed: float

    @property
    def most(self) -> int:
        """Characters in one go, as far as letters can tell."""
        return self.language.most

    def told(self) -> dict[str, Any]:
        """Voice and language."""
        return {"voice": str(self.voice), "language": self.language.code}


class Kokoro:
    """A network, its voices, and what makes its phonemes."""

    rate = SAMPLE_RATE

    def __init__(self, session: Session, voices: Voices, phonemes: Phonemes) -> None:
        self.session = session
        self._voices, self._phonemes = voices, phonemes
        self._dtypes = input_dtypes(session)
        self._tokens = next(name for name in layout.TOKENS if name in self._dtypes)

    def manner(self, job: Speak) -> Manner:
        """Raises Invalid that names voice, language or speed, and Unsupported."""
        voice = self._voices.blend(job.voice.strip() or self._usual(job.language))
        own = language.of_voice(voice.first)
        spoken_in = language.wanted(job.language, own) if job.language.strip() else own
        speed = checked_speed(job.speed, SPEEDS)
        if self._dtypes["speed"].kind in "iu" and not speed.is_integer():
            raise Invalid(f"speed is {speed:g}.", "This model takes whole ones only: 1 or 2.", param="speed")
        self._phonemes.prepare(spoken_in, voice.first)
        return Manner(voice, spoken_in, speed)

    def _usual(self, said: str) -> str:
        """Who speaks where no voice is named: the default, or the first of the language that *said* names."""
        default = self._voices.default
        if not said.strip():
            return default
        named = language.wanted(said, language.of_voice(default))
        return next((id for id in (default, *self._voices.styles) if language.of_voice(id) == named), default)

    def windows(self, piece: Piece, manner: Manner) -> list[Window]:
        """The phonemes of *piece*; those of more than 510 in parts, cut at clauses, words, or anywhere."""
        phonemes = flowing(self._phonemes.of(piece.text, manner.language), piece.text)
        parts = [part for part in chunker.split_phonemes(phonemes, MAX_PHONEME_LENGTH) if spoken(part)]
        ends = [*(_BREAKS.get(part[-1], Break.WORD) for part in parts[:-1]), piece.end]
        return [Window(self._phonemes.tokens(part), part, end) for part, end in zip(parts, ends, strict=False)]

    def sound(self, window: Window, manner: Manner) -> Any:
        """Samples as the network makes them. Raises what onnxruntime raises."""
        given = {
            self._tokens: [[0, *window.tokens, 0]],
            "style": manner.voice.style(len(window.tokens)),
            "speed": [manner.speed],
        }
        return self.session.run(None, {name: np.array(one, self._dtypes[name]) for name, one in given.items()})[0]


def load(plan: Plan) -> LoadedModel:
    """The model, run once. Raises Invalid, LoadFailed, OutOfMemory."""
    options = option.read(plan.settings.options, Options, CHECKS)
    session = Session(Path(plan.path) / plan.match.entry, plan.model, options.threads)
    voices = blend.read(plan, _width(session, plan.model))
    try:
        phonemes = Phonemes(_vocabulary(plan) or embedded_vocab(session))
    except (RuntimeError, OSError) as error:
        raise LoadFailed(f"espeak-ng, which makes phonemes, cannot be loaded: {error}.", "Install it again.") from error
    kokoro = Kokoro(session, voices, phonemes)
    model = SpeechModel(kokoro, options, plan)
    manner = Manner(voices.blend(""), language.DEFAULT, 1.0)
    warm_up(kokoro, kokoro.windows(Piece("Yes.", Break.PARAGRAPH), manner), manner, plan.model)
    return model


def _width(session: Session, model: str) -> int:
    """Numbers in a style. Raises LoadFailed where the graph is none of a Kokoro."""
    inputs = {one.name: one for one in session.get_inputs()}
    if not {*layout.INPUTS} <= inputs.keys() or not inputs.keys() & {*layout.TOKENS}:
        raise LoadFailed(
            f"the network of {model} takes {', '.join(inputs)}; Kokoro's takes tokens or input_ids, style and speed.",
            "Use another model.",
        )
    last = (inputs["style"].shape or [WIDTH])[-1]
    return last if isinstance(last, int) and last > 0 else WIDTH


def _vocabulary(plan: Plan) -> dict[str, int]:
    """What config.json states; empty: it states none. Raises LoadFailed."""
    name = str(plan.metadata.extra.get("vocabulary_file", ""))
    if not name:
        return {}
    try:
        stated = json.loads((Path(plan.path) / name).read_bytes())["vocab"]
        return {str(phoneme): int(token) for phoneme, token in stated.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed(
            f"the vocabulary in {name} of {plan.model} cannot be read: {error}.", "Get it again."
        ) from error
