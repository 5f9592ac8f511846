"""Small sums: two numbers of up to two digits added or subtracted, and the times table up to 12 times 12."""

from __future__ import annotations

from anyform_samples.corpus.draw import Draw

LARGEST = 99
"""No sum, and no number that is subtracted from, is larger."""

_ADD = (
    "[what is|what's|how much is|compute|calculate|work out|] {a} + {b}",
    "[what is|what's|how much is|compute|calculate|work out|] {a} plus {b}",
    "[what is|what's|compute|calculate|work out|find|give me] the sum of {a} and {b}",
    "[what do you get|what do I get|what comes out|what is the result] if [I|you|we] add {a} [and|to] {b}",
    "[can you|could you|] add {a} [and|to] {b}",
    "[what is|what's|how much is] {a} and {b} [together|in total|added]",
    "I have {a} [apples|coins|books|pens] and get {b} more. How many [do I have|are there] [now|then|]",
    "{a}+{b}[|=|= ]",
    "~[tell me|say] [what|how much] {a} plus {b} is",
    "~[what is|how much is] the result of {a} + {b}",
)
_SUBTRACT = (
    "[what is|what's|how much is|compute|calculate|work out|] {a} - {b}",
    "[what is|what's|how much is|compute|calculate|work out|] {a} minus {b}",
    "[what is|what's|compute|calculate|work out|find|give me] the difference of {a} and {b}",
    "[what do you get|what do I get|what comes out|what is the result] if [I|you|we] subtract {b} from {a}",
    "[what do you get|what do I get|what is left|what is the result] if [I|you|we] take {b} from {a}",
    "[can you|could you|] subtract {b} from {a}",
    "I have {a} [apples|coins|books|pens] and give away {b}. How many [do I have|are] [left|now|then]",
    "{a}-{b}[|=|= ]",
    "~[tell me|say] [what|how much] {a} minus {b} is",
    "~[what is|how much is] the result of {a} - {b}",
)
_TIMES = (
    "[what is|what's|how much is|compute|calculate|work out|] {a} [x|*] {b}",
    "[what is|what's|how much is|compute|calculate|work out|] {a} times {b}",
    "[what is|what's|compute|calculate|work out|find|give me] the product of {a} and {b}",
    "[what do you get|what do I get|what comes out|what is the result] if [I|you|we] multiply {a} [and|by|with] {b}",
    "[can you|could you|] multiply {a} [and|by|with] {b}",
    "[what is|what's|how much is] {a} multiplied by {b}",
    "{a}[*|x]{b}[|=|= ]",
    "~[tell me|say] [what|how much] {a} times {b} is",
    "~[what is|how much is] the result of {a} times {b}",
)


def asked(draw: Draw) -> tuple[str, str]:
    """A question and its answer, such as `17 + 25 = 42`.

    Sums are held out in families: where 17 + 25 is, so are 25 + 17, 42 - 17 and 42 - 25. The times table can only be
    learnt by heart: all of it is in training, and a product is held out in its phrasing alone.
    """
    if draw.chance(0.2):
        return _multiplied(draw)
    total, *parts = draw.value(lambda: _family(draw))
    a, b = draw.random.sample(parts, 2)
    if draw.chance(0.5):
        return draw.question(_ADD, a=a, b=b), f"{a} + {b} = {total}"
    return draw.question(_SUBTRACT, a=total, b=b), f"{total} - {b} = {a}"


def _family(draw: Draw) -> tuple[int, int, int]:
    """A sum and its two parts, the smaller first. Small sums come more often."""
    total = draw.random.randint(0, LARGEST)
    part = draw.random.randint(0, total)
    return total, min(part, total - part), max(part, total - part)


def _multiplied(draw: Draw) -> tuple[str, str]:
    a, b = draw.random.randint(0, 12), draw.random.randint(0, 12)
    return draw.question(_TIMES, a=a, b=b), f"{a} x {b} = {a * b}"
