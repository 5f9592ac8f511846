"""The languages that Kokoro was trained to speak, and what makes their phonemes."""

from __future__ import annotations

from dataclasses import dataclass

from anyform.contract.errors import Invalid
from anyform_audio.speech.kokoro import voice


@dataclass(frozen=True, slots=True)
class Language:
    """One of them."""

    letter: str
    """With which its voices' ids begin."""
    name: str
    espeak: str = ""
    """What espeak-ng calls it; empty: Kokoro was not trained on its phonemes for it."""
    packages: str = ""
    """What makes the phonemes else, as pip installs it."""
    most: int = 400
    """Characters that are about as long as what is spoken in one go."""

    @property
    def code(self) -> str:
        """BCP 47."""
        return voice.LANGUAGES[self.letter][1]


LANGUAGES = (
    Language("a", "American English", espeak="en-us"),
    Language("b", "British English", espeak="en-gb"),
    Language("e", "Spanish", espeak="es"),
    Language("f", "French", espeak="fr-fr"),
    Language("h", "Hindi", espeak="hi"),
    Language("i", "Italian", espeak="it"),
    Language("j", "Japanese", packages="misaki fugashi unidic-lite jaconv mojimoji", most=120),
    Language("p", "Brazilian Portuguese", espeak="pt-br"),
    Language("z", "Mandarin Chinese", packages='"misaki[zh]"', most=100),
)
DEFAULT = LANGUAGES[0]
"""Of voices whose ids tell none."""
_OTHERS = {"cmn": "zh", "jp": "ja"}
NAMED = [*(one.code for one in LANGUAGES), *_OTHERS]
"""Codes that mean one of them, whatever its region."""


def of_voice(id: str) -> Language:
    """The language that a voice's id tells: `bf_emma` is British."""
    known = voice.ID.fullmatch(id)
    return next((one for one in LANGUAGES if known and one.letter == known["language"]), DEFAULT)


def wanted(said: str, own: Language) -> Language:
    """The one that *said* names (`fr`, `en-GB`, `pt_br`); *own*, the voice's, where it fits. Raises Invalid."""
    main, _, region = said.strip().lower().replace("_", "-").partition("-")
    main = _OTHERS.get(main, main)
    found = [one for one in LANGUAGES if one.code.lower().partition("-")[0] == main]
    if not found:
        known = ", ".join(one.code for one in LANGUAGES)
        raise Invalid(
            f"the language {said[:60]!r} is none that Kokoro speaks.", f"It speaks {known}.", param="language"
        )
    exact = [one for one in found if region and one.code.lower() == f"{main}-{region}"]
    return next(iter(exact), own if own in found else found[0])
