"""Days, months and years."""

from __future__ import annotations

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.words import DAYS, MONTHS

_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth",
    "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
)  # fmt: skip

_NEXT = (
    "[what|which] UNIT [comes|is|follows] [right|directly|just|] after {x}",
    "[what|which] is the [next|] UNIT [that comes|] after {x}",
    "[what|which one] [comes|is] [next|] after {x}",
    "if [it|this|the UNIT] is {x}, what [comes|is] next",
    "~tell me [the UNIT|what] [comes|] after {x}",
)
_BEFORE = (
    "[what|which] UNIT [comes|is] [right|directly|just|] before {x}",
    "[what|which] UNIT [precedes|came before|was before] {x}",
    "[what|which one] [comes|is|came] before {x}",
    "[which|what] is the UNIT [that comes|] before {x}",
    "~tell me [the UNIT|what] [comes|] before {x}",
)
_NUMBERED = (
    "[which|what] month is number {n}",
    "[which|what] is the {ordinal} month [of the year|of a year|in a year|]",
    "[what's|name|give me] the {ordinal} month [of the year|in the year|]",
    "month [number|] {n} [of the year|]",
    "~tell me the {ordinal} month [of the year|]",
)
_LENGTH = (
    "how many days [has {x}|does {x} have|are in {x}|are there in {x}|in {x}]",
    "[what is|what's] the [number|count] of days in {x}",
    "[how long is {x}|how long is {x} in days|number of days in {x}]",
    "~[tell me|say] how many days {x} has",
)
_LATER = (
    "[what|which] [day|weekday] is [it|] {n} days after {x}",
    "[today is|it is|it's] {x}. [what|which] day is [it|] in {n} days",
    "{n} days after {x} is [what|which] day",
    "if today is {x}, [what|which] day is it in {n} days",
    "~[what|which] day comes {n} days after {x}",
)
_YEARS = (
    "[what|which] year is [it|] {n} years after {x}",
    "[what|which] year comes {n} years after {x}",
    "{n} years after {x} is [what|which] year",
    "if it is {x} now, [what|which] year is it in {n} years",
    "~[it is|the year is] {x}. [what|which] year is it in {n} years",
)
_LEAP = (
    "[is|was] {x} a leap year",
    "[is|was] the year {x} a leap year",
    "[does|did] {x} have 366 days",
    "[is|was] {x} a leap year or not",
    "[can you tell me if|do you know if|tell me if] {x} [is|was] a leap year",
    "~[say|tell me] whether {x} [is|was] a leap year",
)


def asked(draw: Draw) -> tuple[str, str]:
    """A question and its answer, such as `After Monday comes Tuesday.`

    There are few days and months: those are held out in their phrasing alone. Years are held out as values too.
    """
    kind = draw.random.random()
    if kind < 0.32:
        return _neighbour(draw)
    if kind < 0.44:
        number = draw.random.randint(1, 12)
        question = draw.question(_NUMBERED, n=number, ordinal=_ORDINALS[number - 1])
        return question, f"Month {number} is {MONTHS[number - 1]}."
    if kind < 0.58:
        at = draw.random.randint(0, 11)
        return draw.question(_LENGTH, x=MONTHS[at]), f"{MONTHS[at]} has {_LENGTHS[at]} days."
    if kind < 0.74:
        at, days = draw.random.randint(0, 6), draw.random.randint(2, 6)
        later = DAYS[(at + days) % 7]
        return draw.question(_LATER, x=DAYS[at], n=days), f"{days} days after {DAYS[at]} is {later}."
    if kind < 0.88:
        year, years = draw.value(lambda: (draw.random.randint(1980, 2049), draw.random.randint(1, 9)))
        return draw.question(_YEARS, x=year, n=years), f"{years} years after {year} is {year + years}."
    year = draw.value(lambda: ("leap", draw.random.randint(1950, 2049)))[1]
    return draw.question(_LEAP, x=year), f"{year} is {'a leap year' if year % 4 == 0 else 'not a leap year'}."


def _neighbour(draw: Draw) -> tuple[str, str]:
    cycle, unit = draw.one(((DAYS, "day"), (MONTHS, "month")))
    at, after = draw.random.randrange(len(cycle)), draw.chance(0.6)
    patterns = [each.replace("UNIT", unit) for each in (_NEXT if after else _BEFORE)]
    found = cycle[(at + (1 if after else -1)) % len(cycle)]
    return draw.question(patterns, x=cycle[at]), f"{'After' if after else 'Before'} {cycle[at]} comes {found}."
