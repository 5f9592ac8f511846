"""A loaded Piper voice: texts to windows of phonemes, a sentence each, and these to sound, as piper-tts does it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from anyform import option
from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.contract.facts import Plan
from anyform.contract.jobs import Speak
from anyform.contract.model import LoadedModel
from anyform.option import amount
from anyform.sound.sentence import Break, Piece
from anyform_audio.speech import pcm
from anyform_audio.speech.backend import Session
from anyform_audio.speech.model import LISTED, SpeechModel, Window, checked_speed, spoken, warm_up
from anyform_audio.speech.options import CHECKS, Options
from anyform_audio.speech.piper.backend import PhonemeType, PiperConfig, PiperVoice, SynthesisConfig
from anyform_audio.speech.piper.form import SPEEDS

MOST = 400
"""Characters in one go. Piper knows no limit; this bounds memory, and how long a stop may take."""
SILENT = 1e-8
"""What is nowhere louder is not made louder: piper-tts's own bound."""
_TRAILS_OFF = re.compile(r"\s*(?:\.{2,}|\u2026)(?=\s+\w)")
"""Before a word: piper-tts would run it and the word before together, without a pause. A comma gives them one."""
_EXTRAS = {PhonemeType.JAPANESE: "ja", PhonemeType.THAI: "th"}
"""Kinds of phonemes that piper-tts needs further packages for -> what it calls the set of them."""


@dataclass(frozen=True, slots=True)
class PiperOptions(Options):
    """What `Settings.options` may hold. None: as the voice's JSON says."""

    noise: float | None = None
    """How much chance there is in the sound (noise_scale)."""
    noise_w: float | None = None
    """How much chance there is in the lengths of phonemes; with both 0 a text sounds the same each time."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How one request wants its text to be spoken."""

    voice: str
    number: int | None
    """Of the speaker; None: there is one."""
    language: str
    speed: float
    most: int = MOST

    def told(self) -> dict[str, Any]:
        """Voice and language."""
        return {"voice": self.voice, "language": self.language}


class Piper:
    """A network and what makes its phonemes."""

    def __init__(self, session: Session, voice: Any, options: PiperOptions, extra: Mapping[str, Any]) -> None:
        """*voice*: piper-tts's own. *extra*: of the metadata."""
        self.session, self.rate = session, int(voice.config.sample_rate)
        self._voice, self._options = voice, options
        self._speakers = {str(name): int(number) for name, number in dict(extra.get("speakers", {})).items()}
        self._names = [str(one["id"]) for one in extra.get("voices", ())]
        self._language = next(iter(extra.get("languages", ())), "")

    def manner(self, job: Speak) -> Manner:
        """Raises Invalid that names voice, language or speed."""
        name = self._named(job.voice.strip())
        if job.language.strip() and self._language and _main(job.language) != _main(self._language):
            raise Invalid(
                f"the language is {job.language[:60]!r}; this voice speaks {self._language}.",
                "Use a voice of that language.",
                param="language",
            )
        speed = checked_speed(job.speed, SPEEDS)
        return Manner(name, self._speakers.get(name), self._language, speed)

    def windows(self, piece: Piece, manner: Manner) -> list[Window]:
        """The phonemes of *piece* as one sentence, also where espeak-ng takes the point of `Dr.` for the end of one."""
        units: list[str] = []
        for number, part in enumerate(self._voice.phonemize(_TRAILS_OFF.sub(",", piece.text))):
            if units and units[-1] == "." and not (number == 1 and LISTED.match(piece.text)):
                units.pop()
            units += [" ", *part] if units else part
        said = "".join(units)
        return [Window(self._voice.phonemes_to_ids(units), said, piece.end)] if spoken(said) else []

    def sound(self, window: Window, manner: Manner) -> Any:
        """Samples, the loudest of a window 1.0 as piper-tts makes it. Raises what onnxruntime raises."""
        config = SynthesisConfig(
            speaker_id=manner.number,
            length_scale=self._voice.config.length_scale / manner.speed,
            noise_scale=self._options.noise,
            noise_w_scale=self._options.noise_w,
        )
        sound = pcm.checked(self._voice.phoneme_ids_to_audio(list(window.tokens), config), window.said)
        loudest = np.abs(sound).max()
        return sound if loudest < SILENT else sound / loudest

    def _named(self, said: str) -> str:
        if not said:
            default = self._voice.config.default_speaker_id
            found = (name for name, number in self._speakers.items() if number == default)
            return next(found, next(iter(self._names), ""))
        if said in self._names:
            return said
        near = get_close_matches(said[:100], self._names, n=3, cutoff=0.5)
        known = f"Near it are {', '.join(near)}." if near else f"There are {', '.join(self._names[:60])}."
        raise Invalid(
            f"there is no voice {said[:60]!r}.", f"{known} Voices of Piper do not blend: write one name.", param="voice"
        )


def load(plan: Plan) -> LoadedModel:
    """The voice, run once. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    options = option.read(plan.settings.options, PiperOptions, {**CHECKS, "noise": amount, "noise_w": amount})
    config = _config(plan)
    session = Session(Path(plan.path) / plan.match.entry, plan.model, options.threads)
    piper = Piper(session, PiperVoice(session=session, config=config), options, plan.metadata.extra)
    model, manner = SpeechModel(piper, options, plan), piper.manner(Speak(text=""))
    warm_up(piper, _first(piper, manner, plan.model, config.phoneme_type), manner, plan.model)
    return model


def _config(plan: Plan) -> Any:
    """The JSON beside the model, as piper-tts reads it. Raises LoadFailed, Unsupported."""
    file = Path(plan.path) / f"{plan.match.entry}.json"
    try:
        config = PiperConfig.from_dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailed(
            f"{file.name} of {plan.model} is not as piper-tts wants it: {type(error).__name__}: {error}.",
            "Get it again.",
        ) from error
    if config.phoneme_type is PhonemeType.PINYIN:
        raise Unsupported(
            f"{plan.model} speaks Chinese in pinyin, for which piper-tts fetches a model at run time.",
            "Nothing is fetched behind your back; use a voice with phoneme_type espeak, or Kokoro.",
        )
    return config


def _first(piper: Piper, manner: Manner, model: str, kind: Any) -> list[Window]:
    """What the voice is tried with. Raises Unsupported where what makes its phonemes is not there."""
    try:
        return piper.windows(Piece("1.", Break.PARAGRAPH), manner)
    except (ImportError, OSError, RuntimeError, LookupError) as error:
        extra = f"[{_EXTRAS[kind]}]" if kind in _EXTRAS else ""
        raise Unsupported(
            f"the phonemes of {model} ({kind.value}) cannot be made: {error}.", f"Install: pip install piper-tts{extra}"
        ) from error


def _main(language: str) -> str:
    return language.strip().lower().replace("_", "-").partition("-")[0]
