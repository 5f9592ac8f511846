"""What the names of .rkllm files and of their repositories say: hints, for there is no rule that anyone must follow.

Forms: `MODEL-rk3588-w8a8-opt-1-hybrid-ratio-0.0` (ez-er's converter), `MODEL_W8A8_RK3588` (the vendor's
export_rkllm.py), and what people make of them; repositories end in `-1.1.4`, the version of the toolkit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from anyform_rkllm.board import BOARDS, chip

LONGEST = 255
"""Characters of a name that are looked at: what a file's name may have."""
LEAST_CONTEXT, MOST_CONTEXT = 256, 16 << 10
"""Tokens. No toolkit makes longer contexts, so a larger number says what the original was trained for."""
GENERIC = frozenset({"", "model", "llm", "rkllm", "language", "language-model", "language_model", "decoder"})
"""Names that say nothing: the folder's serves instead."""

_BEFORE, _AFTER = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
PLATFORM = re.compile(rf"{_BEFORE}(?:rk|rv)\d{{4}}[a-z]?{_AFTER}", re.I)
WEIGHTS = re.compile(
    rf"{_BEFORE}(?:(?P<numbers>w\d{{1,2}}a\d{{1,2}})(?:[-_]?(?P<group>g\d{{2,4}}))?|(?P<plain>fp16|float16))"
    rf"(?:[-_]level[-_]?\d)?{_AFTER}",
    re.I,
)
OPTIMIZATION = re.compile(rf"{_BEFORE}opt(?:imization)?[-_]?(?:level[-_]?)?(?P<level>\d)(?!\.\d){_AFTER}", re.I)
"""Not the models called OPT: opt-1.3b, opt-125m."""
HYBRID = re.compile(rf"{_BEFORE}hybrid[-_]?(?:ratio|rate)?[-_]?(?P<ratio>[01](?:\.\d{{1,3}})?){_AFTER}", re.I)
TOOLKIT = re.compile(
    rf"{_BEFORE}(?<!\d\.)(?P<word>rkllm[-_]?(?:toolkit[-_]?)?)?v?(?P<version>\d{{1,2}}\.\d{{1,2}}\.\d{{1,3}}(?:b\d{{1,2}})?)"
    rf"(?!\.?\d){_AFTER}",
    re.I,
)
SHORT_TOOLKIT = re.compile(rf"{_BEFORE}rkllm[-_]?v(?P<digits>[01]\d\d){_AFTER}", re.I)
"""`rkllm-v123`: 1.2.3."""
WORD = re.compile(rf"{_BEFORE}rkllm{_AFTER}", re.I)
CONTEXT = re.compile(rf"{_BEFORE}(?:ctx|context)[-_]?(?:len[-_]?)?(?P<count>\d{{1,6}})(?P<kilo>k?){_AFTER}", re.I)
KILO = re.compile(rf"{_BEFORE}(?P<count>\d{{1,2}})(?P<kilo>k)(?:[-_]?(?:ctx|context))?{_AFTER}", re.I)
PARAMETERS = re.compile(
    r"(?<![A-Za-z0-9.])(?:(?P<experts>\d{1,2})x)?(?P<count>\d{1,4}(?:[._]\d{1,3})?)(?P<unit>[bm])(?![A-Za-z0-9])", re.I
)
UNITS = {"b": 10**9, "m": 10**6}
PART = re.compile(r"(?<=.)[-_]llm\Z", re.I)
"""How the vendor's examples mark what is not the encoder of pictures: `Qwen3-VL-2B_llm_w8a8_rk3588`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """What a name says; empty or None: nothing."""

    base: str = ""
    """The model's own name, as it was before it was converted."""
    platforms: tuple[str, ...] = ()
    """Chips in upper case, by the library's names for them (RK3588, not RK3588S)."""
    quantization: str = ""
    """In upper case: W8A8, W8A8_G128, FP16."""
    optimization: int | None = None
    hybrid_ratio: float | None = None
    """The share of layers that are quantized in groups."""
    toolkit: str = ""
    """The version that it was converted with: 1.1.4."""
    context: int | None = None
    """Tokens that it was converted for."""
    parameters: int | None = None
    rest: str = ""
    """What follows the base and is none of these."""

    @property
    def marked(self) -> bool:
        """Whether it says anything of a conversion."""
        return bool(self.platforms or self.quantization or self.toolkit)


def parse(name: str) -> Name:
    """What *name* says: a file's name without folder and suffix, or a repository's without its owner. Never raises."""
    text = name[-LONGEST:]
    weights = WEIGHTS.search(text)
    optimization, hybrid = OPTIMIZATION.search(text), HYBRID.search(text)
    sure = [mark for mark in (*PLATFORM.finditer(text), weights, optimization, hybrid, WORD.search(text)) if mark]
    toolkit, mark = _toolkit(_without(text, sure), min((mark.start() for mark in sure), default=len(text)))
    marks = [*sure, *([mark] if mark else [])]
    first = min((mark.start() for mark in marks), default=len(text))
    context, mark = _context(text, first)
    marks += [mark] if mark else []
    base, rest = _parts(text, sorted(mark.span() for mark in marks))
    return Name(
        base="" if base.lower() in GENERIC else base,
        platforms=tuple(dict.fromkeys(_chip(found.group()) for found in PLATFORM.finditer(text))),
        quantization=_quantization(weights),
        optimization=int(optimization["level"]) if optimization else None,
        hybrid_ratio=float(hybrid["ratio"]) if hybrid else None,
        toolkit=toolkit,
        context=context,
        parameters=parameters(base),
        rest=rest,
    )


def parameters(base: str) -> int | None:
    """How many parameters a model's name says it has: 0.5B, 135M, 8x7B; None where it does not."""
    found = PARAMETERS.search(base)
    if found is None:
        return None
    number = float(found["count"].replace("_", "."))
    return round(number * int(found["experts"] or 1) * UNITS[found["unit"].lower()]) or None


def quantization(text: str) -> str:
    """The quantization that *text* names, as `Metadata.quantization` spells it; empty where it names none."""
    return _quantization(WEIGHTS.search(text[:LONGEST]))


def platforms(text: str) -> tuple[str, ...]:
    """The chips that *text* names."""
    return tuple(dict.fromkeys(_chip(found.group()) for found in PLATFORM.finditer(text[:LONGEST])))


def _chip(text: str) -> str:
    """The library's name for a chip: RK3576 for RK3576J, as it is RK3588 for RK3588S."""
    name = chip(text)
    return name[:-1] if name not in BOARDS and name[:-1] in BOARDS else name


def _quantization(found: re.Match[str] | None) -> str:
    if found is None:
        return ""
    if found["plain"]:
        return "FP16"
    return "_".join(part.upper() for part in (found["numbers"], found["group"]) if part)


def _without(text: str, marks: list[re.Match[str]]) -> str:
    """*text* with blanks for what *marks* say of the conversion: a version may follow after a dot."""
    for mark in marks:
        if not WORD.fullmatch(mark.group()):
            text = text[: mark.start()] + " " * len(mark.group()) + text[mark.end() :]
    return text


def _toolkit(text: str, first: int) -> tuple[str, re.Match[str] | None]:
    """The toolkit's version and where it stands. Three numbers alone count only behind what is said of the conversion,
    where *first* is: a model may have a version too.
    """
    found = list(TOOLKIT.finditer(text))
    named = [one for one in found if one["word"]]
    bare = [one for one in found if one.start() > first and one["version"].startswith(("0.", "1."))]
    for one in (*named, *bare):
        return one["version"].lower(), one
    short = SHORT_TOOLKIT.search(text)
    return (".".join(short["digits"]), short) if short else ("", None)


def _context(text: str, first: int) -> tuple[int | None, re.Match[str] | None]:
    """Tokens and where they stand; `16k` counts only behind what is said of the conversion, where *first* is: before
    it, that is what the original was trained for.
    """
    for found in (*CONTEXT.finditer(text), *KILO.finditer(text, first)):
        tokens = int(found["count"]) * (1024 if found["kilo"] else 1)
        if LEAST_CONTEXT <= tokens <= MOST_CONTEXT:
            return tokens, found
    return None, None


def _parts(text: str, spans: list[tuple[int, int]]) -> tuple[str, str]:
    """(base, rest): what stands before the first of *spans*, else the first piece between; and all that follows."""
    pieces = [piece for piece in _between(text, spans) if piece]
    if not pieces:
        return "", ""
    return (PART.sub("", pieces[0]) if spans else pieces[0]), "-".join(pieces[1:])


def _between(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
    place = 0
    for start, end in spans:
        yield text[place : max(start, place)].strip(" -_.()[]")
        place = max(place, end)
    yield text[place:].strip(" -_.()[]")
