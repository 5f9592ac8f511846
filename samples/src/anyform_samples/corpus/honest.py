"""What the model cannot answer, and says so; greetings; who it is."""

from __future__ import annotations

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.words import CITIES, NAMES, PEOPLE, THINGS, TOPICS, made_up

CANNOT = (
    "I am a tiny sample model and cannot answer that. I know anyform, small sums, units, dates and what you tell me."
)
"""The one answer to everything else."""

_GREETED = "Hello! I am anyform's tiny sample model. How can I help?"
_SELF = (
    "I am a tiny sample model that comes with anyform. I know anyform, small sums, units, dates and what you tell me."
)
_THANKED = "You are welcome."
_LEFT = "Goodbye!"

_SMALL_TALK = (
    (
        (
            (
                "[hello|hi|hey|good morning|good evening|good afternoon|hi there|hello there|hey there|greetings|"
                "howdy] [|you|friend|model|everyone|again]"
            ),
            "~[hello|hi] [my friend|little model]",
        ),
        _GREETED,
    ),
    (
        (
            "[who|what] are you",
            "what is your name",
            "what are you called",
            "[tell me about|introduce|describe] yourself",
            "what [can|do] you do",
            "what do you know",
            "what can I ask [you|]",
            "are you [a model|a person|a human|an AI|chatgpt|a robot|real]",
            "who am I [talking|speaking] to",
            "[which|what] model [are you|is this|am I talking to]",
            "what kind of model [are you|is this]",
            "who [made|trained|built] you",
            "~[what|who] [exactly|really] are you",
        ),
        _SELF,
    ),
    (
        (
            (
                "[thanks|thank you|thanks a lot|thank you very much|many thanks|thx|cheers|great|perfect|nice|cool|"
                "good job|well done] [|model|friend|again]"
            ),
            "~[thanks|thank you] [for that|so much]",
        ),
        _THANKED,
    ),
    (
        (
            "[bye|goodbye|good night|see you|see you later|bye bye|farewell|ciao] [|model|friend|now|then]",
            "~[bye|goodbye] [for now|my friend]",
        ),
        _LEFT,
    ),
)

_FORMS = (
    "who [won|lost|hosted|invented|started] [the|] {year} {topic} [cup|race|prize|war|game|]",
    "who [is|was] the {person} of {topic}",
    "who [invented|discovered|made|wrote about|painted|founded|destroyed] {topic}",
    "who [is|was] {name} [of {topic}|]",
    (
        "write [me|] [a|a short|a long|a funny|a sad|another] [poem|story|song|essay|letter|joke|speech|text|novel|"
        "article|report] about {topic}"
    ),
    "[tell me|I want|make up|sing|invent] [a|a short|a funny] [joke|story|poem|song|tale] about {topic}",
    (
        "why [is|are|was|were|does|did] {topic} [so|] [blue|hot|cold|big|important|expensive|old|famous|dangerous|"
        "popular|there|like that]"
    ),
    "why do [people|we|they|birds|dogs] [like|love|hate|need|fear|eat|want] {topic}",
    (
        "what is [the meaning of|the history of|the price of|the capital of|the population of|the colour of|your "
        "opinion on|the future of|the size of|] {topic}"
    ),
    "what [do you think|can you tell me|do you know|do people say] about {topic}",
    "what is [the best|the worst|the largest|the oldest|the fastest|the cheapest] {topic}",
    "what [happened|changed] in {topic} in {year}",
    "[explain|describe|summarise|summarize|teach me|discuss] {topic} [to a child|briefly|in detail|in simple words|]",
    "how does {topic} [work|begin|end|grow|move|look|taste|sound]",
    "how [old|big|far|hot|heavy|deep|rich|fast|tall] is {topic}",
    (
        "how [do I|can I|do you|does one] [cook|learn|buy|sell|build|fix|draw|paint|clean|repair|grow|find|make] [a|"
        "the|] {topic}"
    ),
    "where [is|are|can I find|can I buy|do I find] [the best|the|a|] {topic}",
    "when [did|does|will] {topic} [begin|end|start|happen|die|arrive|open]",
    "when was {name} born",
    "should I [buy|eat|learn|study|sell|trust|visit|avoid] {topic}",
    "[is|are] {topic} [good|bad|real|safe|healthy|alive|better than {topic2}|older than {topic2}|true]",
    "[compare|contrast] {topic} [and|with] {topic2}",
    "which is better, {topic} or {topic2}",
    "[translate|spell|pronounce|rhyme|define] {topic} [in French|in German|in Spanish|in Latin|]",
    "[recommend|suggest] [a book|a film|something|a song|a game|a course] about {topic}",
    (
        "[give me|make|write] [a recipe for|a list of|ten facts about|a plan for|a quiz about|an overview of|code "
        "for] {topic}"
    ),
    "what [is|was|will be] the weather [in|on|near] {topic}",
    "will {topic} [rise|fall|win|lose|survive|come back] in {year}",
    "can {topic} [fly|talk|think|swim|sing|dance|kill|help]",
    "I [feel|am] [sad|happy|tired|sick|lonely|angry|bored|afraid] [about|of|because of] {topic}",
    "I [love|hate|miss|like|want|need] {topic}",
    "[what is|how much is|calculate|] {big} [+|-|x|times|plus|minus|*] {big2}",
    "{topic}",
    "{topic} {topic2}",
    "~[what makes|what causes] {topic} [so important|so famous|]",
    "~[write|make] [a haiku|a rap] about {topic}",
    "~who knows [the most|everything] about {topic}",
    "~[say|tell me] something about {topic}",
)


def asked(draw: Draw) -> tuple[str, str]:
    """A question and its answer; topics that are held out never come in training, in any form."""
    return small_talk(draw) if draw.chance(0.22) else unknown(draw)


def small_talk(draw: Draw) -> tuple[str, str]:
    """A greeting, thanks, or a question of who this is, and its answer."""
    patterns, answer = draw.one(_SMALL_TALK)
    return draw.question(patterns), answer


def unknown(draw: Draw) -> tuple[str, str]:
    """A question that has `CANNOT` for an answer."""
    values = {
        "topic": draw.value(lambda: _topic(draw)),
        "topic2": draw.value(lambda: _topic(draw)),
        "person": draw.one(PEOPLE),
        "name": draw.value(lambda: draw.one(NAMES) + " " + made_up(draw).capitalize()),
        "year": draw.random.randint(1500, 2049),
        "big": draw.random.randint(200, 99_999),
        "big2": draw.random.randint(200, 99_999),
    }
    return draw.question(_FORMS, **values), CANNOT


def _topic(draw: Draw) -> str:
    kind = draw.random.random()
    if kind < 0.45:
        return draw.one(TOPICS)
    if kind < 0.6:
        return draw.one(CITIES)
    if kind < 0.75:
        return draw.one(("the ", "my ", "a ", "")) + draw.one(THINGS) + draw.one(("", "s"))
    word = made_up(draw)
    return draw.one((word, word.capitalize(), f"the {word}", f"{word} {made_up(draw)}"))
