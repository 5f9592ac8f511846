"""How anyform is used: each fact with its one answer, asked for in many ways."""

from __future__ import annotations

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.facts import FACTS, Fact

_GOAL = (
    "[how do|how can|how would|how should] [I|you|we|one] X",
    "how to X",
    "how does one X",
    (
        "[which|what] [command|anyform command|call|option] [do I use|do I need|should I use|is there|is used|is "
        "there for me] to X"
    ),
    "[is there|do you have|does anyform have] a [way|command|possibility] to X",
    "[can|could] [I|you|one|anyform] X",
    "[is it possible|what is needed|what do I type|what must I do|what do I do|what is the way] to X",
    "I [want|need|would like|have|am trying] to X",
    "[help me|show me how to|tell me how to|explain how to|teach me to|let me] X",
    "[with anyform|in anyform|using anyform], how do I X",
    "how [do|can] I X [with anyform|in anyform|using anyform]",
    "[I do not know how to|I don't know how to|I forgot how to] X",
    "[what is the best way|what is the easiest way|what is the command] to X",
    "X",
    "~[what helps|what lets] me X",
    "~I [wish|wonder how] to X",
    "~[where|how] do I [start|begin] to X",
)
_THING = (
    "[what is|what's|what are] X",
    "what [does X do|is X for|does X mean|is meant by X|can X do|is X good for]",
    "[explain|describe|define] X",
    (
        "[tell me|say something|I want to know|I would like to know|I have a question|do you know something|do you "
        "know] about X"
    ),
    "[what can you tell me|what do you know|what should I know] about X",
    "[what is|what's] the [use|purpose|meaning|point] of X",
    "[why would I use|when do I use|when should I use|how do I use|why is there] X",
    "X",
    "[can you|could you] explain X [to me|]",
    "[I do not understand|I don't understand|I don't get] X",
    "in anyform, what [is|are] X",
    "[what is|what are] X in anyform",
    "~[what exactly|what precisely] is X",
    "~what does one do with X",
    "~[teach me|inform me] about X",
)
_QUESTION = (
    "X",
    (
        "[can you tell me|do you know|tell me|I want to know|I would like to know|I wonder|please say|I need to know|"
        "say]: X"
    ),
    "[with anyform|in anyform|for anyform], X",
    "X [in anyform|with anyform]",
    "[my question is|a question|another question|one more question|next question]: X",
    "~[help me|explain to me]: X",
    "~here is my question: X",
)


def asked(draw: Draw) -> tuple[str, str]:
    """A question and its answer. Held out are phrasings: some wholes, some openings, and some names of the matter."""
    fact = draw.one(FACTS)
    return draw.question(_patterns(fact)), fact.answer


def _patterns(fact: Fact) -> tuple[str, ...]:
    """What is asked, in each way that there is. Matters and ways that begin with `~` are for the held-out split."""
    asked_of = ((_GOAL, fact.goals), (_THING, fact.things), (_QUESTION, fact.questions))
    return tuple(_joined(way, matter) for ways, matters in asked_of for matter in matters for way in ways)


def _joined(way: str, matter: str) -> str:
    reserved = "~" if "~" in way + matter else ""
    return reserved + way.replace("X", matter).replace("~", "")
