"""Whether a Piper voice is sound: its JSON, its graph, and that they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform.onnx import graph, inspection
from anyform_audio.finding import AGAIN, critical, warning

INPUTS = (
    (("input",), inspection.WHOLE, (-1, -1)),
    (("input_lengths",), inspection.WHOLE, (-1,)),
    (("scales",), inspection.FLOATS, (3,)),
)
SPEAKER = (("sid",), inspection.WHOLE, (-1,))
PHONEMES = ("espeak", "text", "pinyin", "hebrew", "japanese", "thai")
"""PhonemeType of piper-tts 1.8."""
MARKS = ("_", "^", "$")
"""Padding, beginning and end, which surround all phonemes."""
RATES = (4_000, 192_000)
MOST_SPEAKERS = 10_000
MOST_TEXT = 200


class Config:
    """The JSON beside a voice; what is of another kind than it should be counts as absent."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content

    def part(self, name: str) -> Mapping[str, Any]:
        """The object called *name*."""
        value = self.content.get(name)
        return value if isinstance(value, dict) else {}

    def text(self, name: str, part: str = "") -> str:
        """A text, of a sane length and without halves of characters."""
        value = (self.part(part) if part else self.content).get(name)
        return plain(value) if isinstance(value, str) else ""

    def number(self, name: str, part: str = "") -> int | None:
        """A whole number."""
        value = (self.part(part) if part else self.content).get(name)
        return value if type(value) is int and 0 <= value < 1 << 53 else None

    @property
    def sample_rate(self) -> int | None:
        """Of the sound, in Hz."""
        return self.number("sample_rate", "audio")

    @property
    def language(self) -> str:
        """As `en-US`."""
        said = self.text("code", "language") or self.text("voice", "espeak")
        family, _, region = said.replace("_", "-").partition("-")
        return f"{family.lower()}-{region.upper()}" if len(region) == 2 else family.lower() if not region else said

    @property
    def speakers(self) -> dict[str, int]:
        """Name -> number, by number; empty where there is one alone."""
        count = min(self.number("num_speakers") or 1, MOST_SPEAKERS)
        known = {plain(name): id for name, id in self.part("speaker_id_map").items() if type(id) is int}
        if count < 2:
            return {}
        return dict(sorted(known.items(), key=lambda one: one[1])) or {str(number): number for number in range(count)}


def plain(text: str) -> str:
    """What can be shown."""
    return text[:MOST_TEXT].encode("utf-8", "replace").decode("utf-8")


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: no weights are read."""
    return list(condensed(_findings(files, match)))


def _findings(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    yield from inspection.check(files, match.entry, "piper")
    name = f"{match.entry}.json"
    if name not in files.files:
        text = f"{name} is missing, which says how the voice is to be spoken with: fetch it into the same folder."
        yield critical("piper.missing_json", text)
        return
    content = files.json(name)
    if not content:
        yield critical("piper.bad_json", f"{name} is no JSON object, or too large. {AGAIN}")
        return
    config = Config(content)
    yield from _said(config, name)
    yield from _phonemes(config, name)
    yield from _speakers(config, name)
    found = graph.read(files, match.entry)
    if found.whole and not found.troubles:
        several = (config.number("num_speakers") or 1) > 1
        wrong = inspection.takes(found, (*INPUTS, SPEAKER) if several else INPUTS)
        if wrong:
            text = f"{match.entry} and {name} do not belong together, or are no Piper voice: {wrong}. Get both again."
            yield critical("piper.bad_inputs", text)


def _said(config: Config, name: str) -> Iterator[Finding]:
    """What piper-tts reads, and fails without."""
    rate = config.sample_rate
    if rate is None or not RATES[0] <= rate <= RATES[1]:
        said = repr(config.part("audio").get("sample_rate"))[:60]
        text = f"{name}: audio.sample_rate is {said}; it has to be a number of {RATES[0]} to {RATES[1]}. {AGAIN}"
        yield critical("piper.bad_value", text)
    for key in ("num_symbols", "num_speakers"):
        if not config.number(key):
            text = f"{name}: {key} is {config.content.get(key)!r:.60}; it has to be 1 or more. {AGAIN}"
            yield critical("piper.bad_value", text)
    if not config.text("voice", "espeak"):
        said = repr(config.part("espeak").get("voice"))[:60]
        yield critical("piper.bad_value", f"{name}: espeak.voice is {said}; it has to name a language. {AGAIN}")
    kind = config.content.get("phoneme_type", "espeak")
    if kind not in PHONEMES:
        text = f"{name}: phoneme_type is {kind!r:.60}; known are {', '.join(PHONEMES)}."
        yield critical("piper.bad_value", text)


def _phonemes(config: Config, name: str) -> Iterator[Finding]:
    """Each phoneme has a list of ids below num_symbols."""
    known = config.part("phoneme_id_map")
    lacks = [mark for mark in MARKS if mark not in known]
    if lacks:
        text = f"{name}: phoneme_id_map has no {', '.join(map(repr, lacks))}, which surround all phonemes. {AGAIN}"
        yield critical("piper.bad_phonemes", text)
    most = config.number("num_symbols") or 0
    for phoneme, ids in known.items():
        if not isinstance(ids, list) or not all(type(id) is int and 0 <= id < most for id in ids):
            text = (
                f"{name}: phoneme_id_map gives {phoneme!r:.20} the ids {repr(ids)[:60]}; num_symbols is {most}. {AGAIN}"
            )
            yield critical("piper.bad_phonemes", text)


def _speakers(config: Config, name: str) -> Iterator[Finding]:
    """As many names as speakers, each with a number of its own."""
    count, known = config.number("num_speakers") or 0, config.part("speaker_id_map")
    if count < 2 or not known:
        return
    wrong = {who: id for who, id in known.items() if type(id) is not int or not 0 <= id < count}
    if wrong:
        who, id = next(iter(wrong.items()))
        text = (
            f"{name}: speaker_id_map gives {who!r:.60} the number {id!r:.60}, and there are {count} speakers. {AGAIN}"
        )
        yield critical("piper.bad_speakers", text)
    elif len(known) != count:
        text = f"{name} has {count} speakers, of which speaker_id_map names {len(known)}; only those can be chosen."
        yield warning("piper.bad_speakers", text)
