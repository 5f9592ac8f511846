"""The kinds of tools that the corpus knows: names, parameters, questions that call for them, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anyform_samples.corpus.draw import Draw
from anyform_samples.corpus.words import CITIES, DAYS, city, made_up, name, number, thing

Make = Callable[[Draw], object]

_LANGUAGES = ("French", "German", "Spanish", "Italian", "Dutch", "Greek", "Latin", "Polish", "Danish", "Turkish")


@dataclass(frozen=True)
class Kind:
    """A kind of tool under several names. Each parameter has several names as well, and one value to draw."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[tuple[tuple[str, ...], Make], ...]
    """In the questions they are `{p0}`, `{p1}`."""
    asked: tuple[str, ...]
    result: tuple[str, Callable[..., object]]
    """How the answer states what the tool gave, with `{p0}` and `{r}`; and what it gives, from the arguments."""


def _small(draw: Draw) -> object:
    return number(draw, 1, 99)


def _large(draw: Draw) -> object:
    return number(draw, 1, 9999)


def _guests(draw: Draw) -> object:
    return number(draw, 2, 29)


INTEGERS = (_small, _large, _guests)
"""What makes whole numbers; all else makes strings."""


def _query(draw: Draw) -> object:
    return draw.value(lambda: " ".join(draw.one((made_up(draw), thing(draw))) for _ in range(draw.one((1, 1, 2)))))


def _text(draw: Draw) -> object:
    return draw.value(
        lambda: (
            draw.one(("hello", "see you", "come to", "I like", "where is", "good morning", "thank you", "bring the"))
            + " "
            + draw.one((made_up(draw), draw.one(DAYS), draw.one(CITIES)))
        )
    )


KINDS = (
    Kind(
        ("get_weather", "weather", "current_weather", "weather_report"),
        ("The weather in a city", "Get the weather", "Tells the weather of a place"),
        ((("city", "location", "place", "town"), city),),
        (
            "[what is|what's|how is|how's] the weather [like|] [in|for] {p0} [today|now|right now|]",
            "[does it rain|is it raining|is it sunny|is it cold|is it warm|is it windy|is it hot] in {p0} [today|now|]",
            "[show|give|tell] me the weather [in|for|of] {p0}",
            "[do I need|should I take] an umbrella in {p0}",
            "weather [in|for] {p0}",
            "I live in {p0}. [is it cold here|how is the weather here|will it rain today]",
            "[we travel|we fly|tomorrow we drive] to {p0}. [do we need an umbrella|will it rain there|is it warm]",
            "my [friend|sister|brother|mother] is in {p0}. [is it sunny there|does it rain there|is it cold]",
            "{p0}: [what is the weather|is it raining|weather|rain or sun]",
            "in {p0}, [is it warm|what is the weather|does it rain]",
            "[I visit|we visit] {p0} [today|soon]. how [warm|cold] is it [there|]",
            "how [warm|cold|hot|windy|wet] is it in {p0} [today|now|]",
            "[I wonder|I want to know|tell me|find out] [how the weather is|if it rains|if the sun shines] in {p0}",
            "[is there|will there be] [rain|snow|sun|wind|fog] in {p0} [today|tomorrow|]",
            "[check|get|look up] the weather [of|for|in] {p0}",
            "[today's|the] weather of {p0}, please",
            "~[I am in|I go to] {p0}. [what is|how is] the weather there",
        ),
        (
            "The weather in {p0}: {r}.",
            lambda draw, *_: (
                draw.one(("sunny", "rain", "snow", "cloudy", "fog", "windy", "clear"))
                + f", {number(draw, 0, 39)} degrees"
            ),
        ),
    ),
    Kind(
        ("add", "add_numbers", "sum", "plus"),
        ("Adds two numbers", "The sum of two numbers", "Add numbers"),
        ((("a", "x", "first"), _large), (("b", "y", "second"), _large)),
        (
            "[what is|how much is|calculate|compute] {p0} [+|plus] {p1}",
            "[can you|please|] add {p0} [and|to] {p1}",
            "[what is|calculate|find] the sum of {p0} and {p1}",
            "{p0} [+|plus] {p1}",
            "[I have|there are|we have] {p0} and [get|find|take] {p1} more. how many [is that|are there]",
            "[what do I get|what comes out] if I add {p0} [and|to] {p1}",
            "put {p0} and {p1} together",
            "{p0} and {p1} [together|in total|added up]",
            "[the|a] sum: {p0} [and|+] {p1}",
            "[I need|I want|give me] {p0} [plus|+] {p1}",
            "increase {p0} by {p1}",
            "[I wonder|I want to know] what {p0} and {p1} [make|give|come to]",
            "~[tell me|say] [what|how much] {p0} plus {p1} is",
        ),
        ("{p0} + {p1} = {r}", lambda draw, a, b: a + b),
    ),
    Kind(
        ("multiply", "times", "multiply_numbers", "product"),
        ("Multiplies two numbers", "The product of two numbers", "Multiply numbers"),
        ((("a", "x", "first"), _large), (("b", "y", "second"), _large)),
        (
            "[what is|how much is|calculate|compute] {p0} [x|*|times] {p1}",
            "[can you|please|] multiply {p0} [and|by|with] {p1}",
            "[what is|calculate|find] the product of {p0} and {p1}",
            "{p0} [*|times] {p1}",
            "[there are|I have|we have] {p0} [boxes|bags|rows] of {p1} [each|]. how many is that",
            "[what do I get|what comes out] if I multiply {p0} [and|by|with] {p1}",
            "[the|a] product: {p0} [and|*] {p1}",
            "[I need|I want|give me] {p0} [times|*] {p1}",
            "take {p0} {p1} times",
            "{p0} multiplied [by|with] {p1}",
            "[I wonder|I want to know] what {p0} multiplied by {p1} [makes|gives]",
            "~[tell me|say] [what|how much] {p0} times {p1} is",
        ),
        ("{p0} x {p1} = {r}", lambda draw, a, b: a * b),
    ),
    Kind(
        ("set_timer", "timer", "start_timer", "countdown"),
        ("Sets a timer", "Start a timer", "A timer that rings after some minutes"),
        ((("minutes", "duration", "length"), _small),),
        (
            "[set|start|make|begin] a timer [for|of] {p0} minutes",
            "[set|start] a {p0} minute timer",
            "[wake me|ring|beep|call me|remind me] in {p0} minutes",
            "timer [for|of|] {p0} minutes",
            "[I need|I want] a timer [for|of] {p0} minutes",
            "[stop me|warn me|call me|say something] after {p0} minutes",
            "{p0} minutes [from now|on the clock|on the timer]",
            "[ring|beep|wake me] [when|once|as soon as] {p0} minutes have passed",
            "count [down|] {p0} minutes",
            "in {p0} minutes, [wake me|ring|beep|I must go]",
            "my [tea|egg|cake|pizza|rice] [needs|takes] {p0} minutes",
            "[I sleep|I rest|I wait|we play] for {p0} minutes. [wake me|ring|call us] then",
            "[give me|let me have|put] {p0} minutes on the [timer|clock]",
            "once {p0} minutes [are gone|have gone by], [ring|beep|wake me]",
            "[say|shout|signal] when the {p0} minutes are up",
            "[after|in] {p0} minutes [I have|we have] to [go|stop|leave]. [warn me|remind me]",
            "timer: {p0} minutes",
            "~[tell me when|let me know when] {p0} minutes are over",
        ),
        ("The timer is set for {p0} minutes.", lambda draw, *_: "ok"),
    ),
    Kind(
        ("search", "web_search", "search_web", "find"),
        ("Searches the web", "Search the internet", "Finds pages"),
        ((("query", "text", "words", "q"), _query),),
        (
            "[search|look] [the web|the internet|online|] for {p0}",
            "[find|find me|look up|google] {p0} [online|on the web|on the internet]",
            "[search|google|look up] {p0}",
            "do a [search|web search] for {p0}",
            "[what does the web say|what is there online] about {p0}",
            "[what is|who knows] {p0}? [search|google|look it up]",
            "{p0}: [search|look it up|find it online]",
            "[I need|I want|get me] [pages|results|something from the web] [on|about] {p0}",
            "[can you|could you] [search for|find|look up] {p0} [for me|]",
            "[see|check] what the [web|internet] [has|knows|says] [on|about] {p0}",
            "search [term|words|query]: {p0}",
            "[ask|use] the [web|internet|search] [about|for] {p0}",
            "[I am curious|I wonder] about {p0}. [search|google] [it|for it]",
            "[are there|is there] [pages|anything] about {p0} [online|on the web]",
            "~[start|make] a [search|web search] for {p0}",
        ),
        ("I found: {r}", lambda draw, *_: made_up(draw).capitalize() + " " + made_up(draw)),
    ),
    Kind(
        ("translate", "translate_text", "translator"),
        ("Translates a text", "Translate into another language", "A translator"),
        ((("text", "sentence", "words"), _text), (("language", "to", "target"), lambda draw: draw.one(_LANGUAGES))),
        (
            '[translate|put] "{p0}" [to|into] {p1}',
            '[how do you say|how do I say|how does one say|what is] "{p0}" in {p1}',
            'say "{p0}" in {p1}',
            '[I need|I want|give me] "{p0}" in {p1}',
            '"{p0}" in {p1}',
            'in {p1}, "{p0}" [is what|means what]',
            '[what does|how does] "{p0}" [sound|look] in {p1}',
            '{p1}: "{p0}"',
            'to {p1}: "{p0}"',
            '[the|a] {p1} translation of "{p0}"',
            '[I want to say|I have to say|we say] "{p0}". how [is|goes] that in {p1}',
            '[turn|bring|change] "{p0}" into {p1}',
            '[my friend|she|he] speaks {p1}. [how do I say|translate] "{p0}"',
            '[can you|could you] translate "{p0}" [to|into] {p1}',
            '[what is|give me] the {p1} [for|of] "{p0}"',
            '~[write|tell me] "{p0}" in {p1}',
        ),
        ('"{p0}" is "{r}" in {p1}.', lambda draw, *_: f"{made_up(draw)} {made_up(draw)}"),
    ),
    Kind(
        ("send_message", "message", "send_text", "send"),
        ("Sends a message", "Send a message to somebody", "Texts a person"),
        ((("to", "person", "recipient", "name"), name), (("text", "message", "body"), _text)),
        (
            '[send|write|text] {p0} [a message|the message|]: "{p1}"',
            '[tell|write to|text|message] {p0} "{p1}"',
            '[send|write] "{p1}" to {p0}',
            '[send|write] a message to {p0} [saying|that says|with the text] "{p1}"',
            'message to {p0}: "{p1}"',
            'inform {p0}: "{p1}"',
            '{p0} [should|must|has to] [hear|read|know] [this|]: "{p1}"',
            'make sure {p0} [hears|reads|gets]: "{p1}"',
            '"{p1}", [tell|write|send] that to {p0}',
            '"{p1}" [is for|goes to|to] {p0}',
            'to {p0}: "{p1}"',
            '[answer|reply to] {p0} [with|]: "{p1}"',
            '[write|send|say] to {p0}: "{p1}"',
            '[can you|could you] [tell|text|message] {p0} "{p1}"',
            '[I want|I need|I would like] to [tell|write|text] {p0}: "{p1}"',
            'have {p0} [read|hear]: "{p1}"',
            '[pass|give] {p0} [this|the] message: "{p1}"',
            'for {p0}, a message: "{p1}"',
            '[a text|a note] [for|to] {p0}: "{p1}"',
            'help {p0} [understand|see]: "{p1}"',
            '~let {p0} know: "{p1}"',
        ),
        ("The message to {p0} is sent.", lambda draw, *_: "sent"),
    ),
    Kind(
        ("play_song", "play_music", "play", "music"),
        ("Plays a song", "Play music", "Plays a song by its title"),
        ((("title", "song", "name"), lambda draw: draw.value(lambda: f"{made_up(draw)} {made_up(draw)}".title())),),
        (
            "[play|start|put on] [the song|] {p0}",
            "[I want|I would like] to hear [the song|] {p0}",
            "[can you|could you] play [the song|] {p0} [for me|now|]",
            "[let me hear|let us hear] [the song|] {p0}",
            "music: {p0}",
            "{p0}, [play it|play that song|put it on]",
            "[the song|song|a song]: {p0}",
            "[my favourite song is|I like|I love] {p0}. [play it|put it on]",
            "[I need|we want|give me|give us] the song {p0}",
            "[can we|can I] [hear|listen to] {p0}",
            "[listen to|hear] {p0}",
            "[it is|now it is] time for the song {p0}",
            "[next|now], [play|hear] {p0}",
            "[sing|go on with|continue with] [the song|] {p0}",
            "~[turn on|begin] the song {p0}",
        ),
        ("Now playing {p0}.", lambda draw, *_: "playing"),
    ),
    Kind(
        ("get_stock_price", "stock_price", "stock", "share_price"),
        ("The price of a share", "Get a stock's price", "Stock prices"),
        ((("company", "name", "symbol"), lambda draw: draw.value(lambda: made_up(draw).capitalize())),),
        (
            "[what is|what's|get|show me] the [stock|share] price of {p0}",
            "[how much is|what is the price of] [a|one] share of {p0}",
            "[stock|share] price [of|for] {p0}",
            "[what does|how much does] a share of {p0} cost",
            "[how is|how does] the stock of {p0} [today|do|now]",
            "{p0}: [stock price|share price|what does a share cost]",
            "[I have|I own|we bought] shares of {p0}. what [are they worth|do they cost|is one worth]",
            "what is {p0} worth on the [stock market|market|exchange]",
            "[tell me|give me|find|I need] [the|a] [stock|share] price [for|of] {p0}",
            "[did|has] the stock of {p0} [rise|risen|fall|fallen]",
            "[at what price|for how much] [does one get|are] [shares of|stock of] {p0}",
            "[how much|what] must I pay for a share of {p0}",
            "[the|] price of one {p0} share",
            "~[look up|check] the [stock|share] price of {p0}",
        ),
        ("A share of {p0} costs {r}.", lambda draw, *_: _large(draw)),
    ),
    Kind(
        ("turn_on_light", "light_on", "switch_on_light", "lights"),
        ("Turns on a light", "Switch on the light of a room", "Light in a room"),
        (
            (
                ("room", "place", "where"),
                lambda draw: draw.one(
                    ("kitchen", "bedroom", "bathroom", "garage", "hall", "office", "cellar", "garden")
                ),
            ),
        ),
        (
            "[turn|switch] on the [light|lights|lamp] in the {p0}",
            "[turn|switch] the {p0} [light|lights|lamp] on",
            "[light|lights] on in the {p0}",
            "it is [too|] dark in the {p0}",
            "[I need|I want|make] light in the {p0}",
            "{p0}: [lights|light|lamp] on",
            "[I cannot see|I see nothing|we see nothing] in the {p0}",
            "[I am|we are|she is] in the {p0}. [turn on the light|light, please|make it light]",
            "[light|brighten|light up] the {p0}",
            "[can you|could you] [light|turn on|switch on] the {p0} [lamp|light]",
            "the {p0} [is dark|needs light|has no light]",
            "in the {p0}, [turn|switch] [on the light|the light on]",
            "[put|have] the [light|lamp] of the {p0} on",
            "[bring|send|get] light [to|into] the {p0}",
            "~[let there be|give me] light in the {p0}",
        ),
        ("The light in the {p0} is on.", lambda draw, *_: "on"),
    ),
    Kind(
        ("book_table", "reserve_table", "reserve", "reservation"),
        ("Books a table", "Reserve a table in a restaurant", "Table reservation"),
        (
            (("people", "guests", "persons"), _guests),
            (("day", "date", "when"), lambda draw: draw.one(DAYS)),
        ),
        (
            "[book|reserve|get|order] [a|me a|us a] table for {p0} [people|persons|guests|] on {p1}",
            "[I need|we need|I want] a table for {p0} [people|persons|guests|] on {p1}",
            "table for {p0} [people|] on {p1}",
            "on {p1} [we are|we will be] {p0} [people|guests]. [book|reserve] a table",
            "[is there|do you have] a table for {p0} on {p1}",
            "{p1}, {p0} [people|guests]: [a table|book|reserve]",
            "[there are|it is|we come with] {p0} of us on {p1}. [get|find|book|reserve] [us|] a table",
            "[dinner|lunch] for {p0} on {p1}",
            "[I want|we want|we would like] to [eat out|have dinner|have lunch] on {p1}, {p0} [people|guests]",
            "{p0} [people|guests|persons] want [a table|to eat] on {p1}",
            "[this|next|for] {p1}, [book|reserve] for {p0}",
            "[can we|could we|can I] have a table on {p1} for {p0}",
            "a table on {p1}, {p0} [people|guests|seats]",
            "[guests|people]: {p0}, day: {p1}. [book|reserve] [it|a table]",
            "[book|reserve] [on|for] {p1} [a table|] for {p0}",
            "on {p1} [a party of|a group of] {p0} [comes|eats]. [book|reserve] a table",
            "~we are {p0} [people|guests] on {p1}. [book|reserve] a table",
        ),
        ("The table for {p0} on {p1} is booked.", lambda draw, *_: "booked"),
    ),
    Kind(
        ("get_time", "time_in", "current_time", "clock"),
        ("The time in a city", "Get the time of a place", "Tells what time it is"),
        ((("city", "location", "place", "town"), city),),
        (
            "[what time is it|what's the time|what is the time] [now|right now|] in {p0} [now|]",
            "[how late is it|tell me the time] in {p0}",
            "[show|give|tell] me the [time|local time] in {p0}",
            "[is it|is it already] [day|night|morning|evening|late] in {p0}",
            "[time|local time] in {p0}",
            "I live in {p0}. [what time is it here|how late is it]",
            "[we travel|we fly|tomorrow we drive] to {p0}. [what is the time there|is it night there]",
            "my [friend|sister|brother|mother] is in {p0}. [is it late there|what is her time|how late is it there]",
            "{p0}: [what time is it|what is the time|time]",
            "in {p0}, [what time is it|is it day or night|how late is it]",
            "[I visit|we visit] {p0} soon. which time do they have [there|]",
            "[I wonder|I want to know|find out] [what time it is|how late it is] in {p0}",
            "[what does the clock|which time does the clock] [say|show] in {p0}",
            "[check|get|look up] the [time|clock] [of|for|in] {p0}",
            "[can I|should I] call [somebody|my friend] in {p0} now, or is it [night|too late]",
            "~[I am in|I go to] {p0}. what time is it there",
        ),
        ("The time in {p0}: {r}.", lambda draw, *_: f"{draw.random.randint(0, 23):02}:{draw.random.randint(0, 59):02}"),
    ),
    Kind(
        ("add_event", "create_event", "calendar", "schedule"),
        ("Adds an event to the calendar", "Put something in the calendar", "Calendar entries"),
        ((("title", "event", "name"), _query), (("day", "date", "when"), lambda draw: draw.one(DAYS))),
        (
            '[add|put] "{p0}" [to|in|into] [my|the] calendar [on|for] {p1}',
            '[schedule|plan|note] "{p0}" [on|for] {p1}',
            'on {p1} [I have|there is|we have] "{p0}". [add|put] it [to|in] my calendar',
            'calendar: "{p0}" on {p1}',
            '[make|create] an event "{p0}" [on|for] {p1}',
            '{p1}: "{p0}". [add|note|save] [it|that]',
            '[do not let me|I must not] forget "{p0}" on {p1}',
            '"{p0}" [is|will be|takes place] on {p1}. [put it in my calendar|note it|save it]',
            '"{p0}", {p1}, [in|for] [my|the] calendar',
            '[my|the] calendar [needs|should have|gets] "{p0}" on {p1}',
            '[for|on] {p1}, [plan|schedule|note|save] "{p0}"',
            '[save|keep|block] {p1} for "{p0}"',
            '[new|an|one more] [event|entry|date]: "{p0}" on {p1}',
            '[next|this] {p1} [comes|is|I have] "{p0}". [schedule|note] it',
            '[can you|could you] [add|plan|schedule] "{p0}" [on|for] {p1}',
            '~[enter|write] "{p0}" in my calendar [on|for] {p1}',
        ),
        ("{p0} is in the calendar on {p1}.", lambda draw, *_: "added"),
    ),
)
