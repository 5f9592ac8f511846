"""Languages as Whisper names them: codes, English names, and what a request means by one.

The table is that of https://github.com/openai/whisper/blob/main/whisper/tokenizer.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from anyform.contract.errors import Invalid, Unsupported

NAMES: Mapping[str, str] = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "as": "assamese", "az": "azerbaijani", "ba": "bashkir",
    "be": "belarusian", "bg": "bulgarian", "bn": "bengali", "bo": "tibetan", "br": "breton", "bs": "bosnian",
    "ca": "catalan", "cs": "czech", "cy": "welsh", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fo": "faroese",
    "fr": "french", "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian", "he": "hebrew",
    "hi": "hindi", "hr": "croatian", "ht": "haitian creole", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "is": "icelandic", "it": "italian", "ja": "japanese", "jw": "javanese", "ka": "georgian", "kk": "kazakh",
    "km": "khmer", "kn": "kannada", "ko": "korean", "la": "latin", "lb": "luxembourgish", "ln": "lingala",
    "lo": "lao", "lt": "lithuanian", "lv": "latvian", "mg": "malagasy", "mi": "maori", "mk": "macedonian",
    "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay", "mt": "maltese", "my": "myanmar",
    "ne": "nepali", "nl": "dutch", "nn": "nynorsk", "no": "norwegian", "oc": "occitan", "pa": "punjabi",
    "pl": "polish", "ps": "pashto", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sa": "sanskrit",
    "sd": "sindhi", "si": "sinhala", "sk": "slovak", "sl": "slovenian", "sn": "shona", "so": "somali",
    "sq": "albanian", "sr": "serbian", "su": "sundanese", "sv": "swedish", "sw": "swahili", "ta": "tamil",
    "te": "telugu", "tg": "tajik", "th": "thai", "tk": "turkmen", "tl": "tagalog", "tr": "turkish", "tt": "tatar",
    "uk": "ukrainian", "ur": "urdu", "uz": "uzbek", "vi": "vietnamese", "yi": "yiddish", "yo": "yoruba",
    "yue": "cantonese", "zh": "chinese",
}  # fmt: skip
"""Code -> English name: ISO 639-1, else ISO 639-3. No model knows all of them."""
ALIASES: Mapping[str, str] = {
    "burmese": "my", "castilian": "es", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "mandarin": "zh",
    "moldavian": "ro", "moldovan": "ro", "panjabi": "pa", "pushto": "ps", "sinhalese": "si", "valencian": "ca",
}  # fmt: skip
"""Other English names -> code."""
ENGLISH = "en"
_SHOWN, _LETTERS, _NAMED = 3, 40, 12


def code(asked: str, known: Collection[str] | None) -> str:
    """The code that *asked*, a code or an English name, means. *known*: a model's codes; None: it knows English only.

    Raises Invalid for what is no language, Unsupported for one that the model does not know.
    """
    wanted = asked.strip().lower()
    found = wanted if wanted in NAMES else _CODES.get(wanted, "")
    if not found:
        near = nearest(asked)
        raise Invalid(
            f"Invalid 'language': {asked[:_LETTERS]!r} is no language that Whisper knows.",
            f"Did you mean {' or '.join(near)}?" if near else "Give an ISO 639-1 code, such as en, or leave it out.",
            param="language",
        )
    if found not in (known if known is not None else (ENGLISH,)):
        told = "English only" if known is None else _told(sorted(known))
        raise Unsupported(
            f"this model does not know the language {asked[:_LETTERS]!r}: it knows {told}.",
            "Use a multilingual Whisper model." if known is None else "Leave the language out.",
            param="language",
        )
    return found


def _told(known: Sequence[str]) -> str:
    return ", ".join(known) if 0 < len(known) <= _NAMED else f"{len(known)} others"


def nearest(asked: str) -> list[str]:
    """What *asked* may be a slip of, such as "de (german)"; the likeliest first, and nothing where nothing is near."""
    wanted = asked.strip().lower()[:_LETTERS]
    found = [part for part in (wanted.replace("_", "-").partition("-")[0],) if part in NAMES]
    found += [_CODES[name] for name in get_close_matches(wanted, _CODES, _SHOWN)]
    return [f"{one} ({NAMES[one]})" for one in dict.fromkeys(found)][:_SHOWN]


_CODES = {name: one for one, name in NAMES.items()} | dict(ALIASES)
