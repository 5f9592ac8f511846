"""Text to the phonemes that Kokoro was trained on, language by language; nothing is fetched for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from anyform.contract.errors import Unsupported
from anyform_audio.speech.kokoro.backend import Tokenizer, misaki, phonemizer
from anyform_audio.speech.kokoro.language import DEFAULT, Language

MARKS = str.maketrans(
    {
        "\u3002": ". ", "\uff0e": ". ", "\uff61": ". ", "\u0964": ". ", "\u0965": ". ", "\u06d4": ". ",
        "\uff01": "! ", "\uff1f": "? ", "\u061f": "? ", "\u3001": ", ", "\uff0c": ", ", "\u060c": ", ",
        "\uff1b": "; ", "\u061b": "; ", "\uff1a": ": ",
    }
)  # fmt: skip
"""Punctuation of other scripts as the one that is in Kokoro's vocabulary; espeak-ng would leave it out."""
_BOPOMOFO = "\u3113"
"""In the vocabulary of Kokoro 1.1, whose Chinese phonemes are other ones."""
_espeak_lock = threading.Lock()
"""espeak-ng keeps its voice for the whole process."""


class Phonemes:
    """Makes them for one model. Safe to call from several threads."""

    def __init__(self, vocabulary: Mapping[str, int] | None) -> None:
        """*vocabulary*: phoneme to token; None: Kokoro 1.0's. Raises RuntimeError: there is no espeak-ng."""
        self._tokenizer = Tokenizer(vocab=dict(vocabulary) if vocabulary else None)
        self._others: dict[str, Callable[[str], str]] = {}
        self._lock = threading.Lock()

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Phoneme to token."""
        known: Mapping[str, int] = self._tokenizer.vocab
        return known

    def prepare(self, language: Language, voice: str) -> None:
        """Raises Unsupported where what makes the phonemes of *language* is not there; *voice* asks for it."""
        if language.espeak:
            return
        try:
            with self._lock:
                self._other(language)
        except (ImportError, OSError, RuntimeError) as error:
            raise Unsupported(
                f"{language.name} needs phonemes that espeak-ng does not make as Kokoro was trained on them; what makes"
                f" them for {voice} cannot be used: {error}.",
                f"Install it, with Python 3.11 or 3.12: pip install {language.packages}. Or choose another language.",
                param="voice",
            ) from error

    def of(self, text: str, language: Language) -> str:
        """Those of *text* that are in the vocabulary, with punctuation, stress and single blanks."""
        if language.espeak:
            made = espeak(text.translate(MARKS), language.espeak)
        else:
            with self._lock:
                made = self._other(language)(text)
        return " ".join("".join(one for one in made if one in self.vocabulary).split())

    def tokens(self, phonemes: str) -> list[int]:
        """A number for each."""
        made: list[int] = self._tokenizer.tokenize(phonemes)
        return made

    def _other(self, language: Language) -> Callable[[str], str]:
        if language.letter not in self._others:
            self._others[language.letter] = _japanese() if language.letter == "j" else _chinese(self.vocabulary)
        return self._others[language.letter]


def espeak(text: str, language: str) -> str:
    """What espeak-ng makes of *text*; words of another language are spoken in that, without a mark for it."""
    with _espeak_lock:
        made: str = phonemizer.phonemize(
            text, language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags"
        )
    return made


def _japanese() -> Callable[[str], str]:
    cutlet: Any = misaki("cutlet").Cutlet()
    return lambda text: str(cutlet(text)[0])


def _chinese(vocabulary: Mapping[str, int]) -> Callable[[str], str]:
    logging.getLogger("jieba").setLevel(logging.WARNING)
    version = "1.1" if _BOPOMOFO in vocabulary else None
    made: Any = misaki("zh").ZHG2P(version=version, en_callable=lambda text: espeak(text, DEFAULT.espeak))
    return lambda text: str(made(text)[0])
