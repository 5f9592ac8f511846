"""Units: whole numbers converted where the digits are copied and moved, or where the results are few."""

from __future__ import annotations

from dataclasses import dataclass

from anyform_samples.corpus.draw import Draw


@dataclass(frozen=True)
class _Conversion:
    """So many *to* make one *from*; *largest*: the largest number that is asked."""

    written: str
    """The unit in the question: alternatives, the plural."""
    short: str
    """The unit in the answer."""
    to: str
    to_short: str
    factor: int
    largest: int


_TENS = (
    _Conversion("[km|kilometres|kilometers]", "km", "[m|metres|meters]", "m", 1000, 999),
    _Conversion("[m|metres|meters]", "m", "[cm|centimetres|centimeters]", "cm", 100, 999),
    _Conversion("[cm|centimetres|centimeters]", "cm", "[mm|millimetres|millimeters]", "mm", 10, 999),
    _Conversion("[m|metres|meters]", "m", "[mm|millimetres|millimeters]", "mm", 1000, 999),
    _Conversion("[kg|kilograms|kilos]", "kg", "[g|grams]", "g", 1000, 999),
    _Conversion("[g|grams]", "g", "[mg|milligrams]", "mg", 1000, 999),
    _Conversion("[tonnes|tons]", "t", "[kg|kilograms|kilos]", "kg", 1000, 999),
    _Conversion("[l|litres|liters]", "l", "[ml|millilitres|milliliters]", "ml", 1000, 999),
    _Conversion("[centuries]", "centuries", "[years]", "years", 100, 99),
    _Conversion("[kB|kilobytes]", "kB", "[bytes]", "bytes", 1000, 999),
)
_TIMES = (
    _Conversion("[hours]", "hours", "[minutes|min]", "minutes", 60, 12),
    _Conversion("[minutes|min]", "minutes", "[seconds|s]", "seconds", 60, 12),
    _Conversion("[days]", "days", "[hours]", "hours", 24, 10),
    _Conversion("[weeks]", "weeks", "[days]", "days", 7, 12),
    _Conversion("[years]", "years", "[months]", "months", 12, 12),
    _Conversion("[dozen]", "dozen", "[pieces|eggs|items]", "pieces", 12, 12),
)
_ASKED = (
    "[what is|what's|how much is] {n} FROM in TO",
    "how many TO are [|in|there in] {n} FROM",
    "how many TO [do {n} FROM have|make {n} FROM|is {n} FROM]",
    "[convert|change|turn] {n} FROM [to|into] TO",
    "{n} FROM [in|to|into|as] TO",
    "[I need|give me|write|can you give me] {n} FROM in TO",
    "[how do I write|how do you write] {n} FROM in TO",
    "~[tell me|say] how many TO {n} FROM [are|is]",
    "~[what do|what are] {n} FROM [make|] in TO",
)


def asked(draw: Draw) -> tuple[str, str]:
    """A question and its answer, such as `3 km = 3000 m`.

    Numbers with powers of ten are held out from training. Those of times and dozens are few and are all in training:
    these are held out in their phrasing alone.
    """
    if draw.chance(0.65):
        conversion = draw.one(_TENS)
        number = draw.value(lambda: (conversion.short, conversion.to_short, _magnitude(draw, conversion.largest)))[2]
    else:
        conversion = draw.one(_TIMES)
        number = draw.random.randint(2, conversion.largest)
    patterns = [each.replace("FROM", conversion.written).replace("TO", conversion.to) for each in _ASKED]
    answer = f"{number} {conversion.short} = {number * conversion.factor} {conversion.to_short}"
    return draw.question(patterns, n=number), answer


def _magnitude(draw: Draw, largest: int) -> int:
    """A number from 2, of one, two or three digits about equally often."""
    return draw.random.randint(2, min(largest, draw.one((9, 99, 999))))
