# ruff: noqa: RUF001 - DeepSeek's markers do have fullwidth bars
"""How models write what they think and which tools they call: declared forms, chosen by the chat template's text.

The forms are those that the models' own chat templates teach; each is named after its best known model family.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Style = Literal["json", "list", "named", "parameters", "pairs", "invoke", "python", "mapping", "braces"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """One way of writing tool calls.

    json: `opener {"name": …, "arguments": {…}} closer`, each call in markers of its own.
    list: the same with a JSON list of calls between the markers (both readers take either).
    named: `section_open (opener name name_end args_open {…} closer)+ section_close`.
    parameters: Qwen3-Coder's `<function=f><parameter=a>…</parameter></function>`.
    pairs: GLM's `f <arg_key>a</arg_key><arg_value>…</arg_value>`.
    invoke: MiniMax's `<invoke name="f"><parameter name="a">…</parameter></invoke>`.
    python: `[f(a=1), g()]`. mapping: a JSON list of `{"f": {…}}`.
    braces: Gemma 4's `call:f{a:<|"|>text<|"|>,b:1}`.
    """

    style: Style
    opener: str
    """Empty: a call is bare JSON at the beginning of the answer."""
    closer: str = ""
    name_key: str = "name"
    arguments_key: str = "arguments"
    section_open: str = ""
    section_close: str = ""
    name_end: str = ""
    args_open: str = ""
    padding: str = ""
    """Whitespace that the model writes inside the markers."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Every marker of the form."""
        given = (self.opener, self.closer, self.section_open, self.section_close, self.name_end, self.args_open)
        return tuple(dict.fromkeys(marker for marker in given if marker.strip()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one model family answers."""

    name: str
    calls: tuple[CallForm, ...] = ()
    """Recognised forms; the first is the one that the model was taught."""
    think_open: str = "<think>"
    think_close: str = "</think>"
    hidden: tuple[str, ...] = ()
    """Markers around plain content, which no user wants to see."""
    channels: bool = False
    """Whether the whole answer comes in gpt-oss's channels (the harmony format)."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that `AnswerParser` must get to see even where they are control tokens, which are else not text."""
        found = [marker for form in self.calls for marker in form.markers]
        own = _CHANNEL_MARKERS if self.channels else ()
        return tuple(dict.fromkeys([self.think_open, self.think_close, *self.hidden, *own, *found]))


_CHANNEL_MARKERS = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|call|>", "<|return|>", "<|constrain|>")

HERMES = CallForm(style="json", opener="<tool_call>", closer="</tool_call>", padding="\n")
BARE = CallForm(style="json", opener="", arguments_key="parameters")

_PARAMETERS = CallForm(style="parameters", opener="<tool_call>", closer="</tool_call>", padding="\n")
_SEED = CallForm(style="parameters", opener="<seed:tool_call>", closer="</seed:tool_call>", padding="\n")
_PAIRS = CallForm(style="pairs", opener="<tool_call>", closer="</tool_call>")
_INVOKE = CallForm(style="invoke", opener="<minimax:tool_call>", closer="</minimax:tool_call>", padding="\n")
_PYTHON = CallForm(style="python", opener="<|tool_call_start|>", closer="<|tool_call_end|>")
_MAPPING = CallForm(style="mapping", opener="<|tools_prefix|>", closer="<|tools_suffix|>")
_BRACES = CallForm(style="braces", opener="<|tool_call>", closer="<tool_call|>")
_TOOLCALL = CallForm(style="list", opener="<TOOLCALL>", closer="</TOOLCALL>")
_PYTHON_TAG = CallForm(style="json", opener="<|python_tag|>", arguments_key="parameters")
_TOOL_CALLS = CallForm(style="list", opener="[TOOL_CALLS]")
_TOOL_CALLS_NAMED = CallForm(style="named", opener="[TOOL_CALLS]", name_end="[ARGS]")
_PIPED = CallForm(style="list", opener="<|tool_call|>", closer="<|/tool_call|>")
_ACTION = CallForm(
    style="list", opener="<|START_ACTION|>", closer="<|END_ACTION|>", name_key="tool_name", arguments_key="parameters"
)
_FUNCTION = CallForm(style="named", opener="<function=", name_end=">", closer="</function>")
_FUNCTOOLS = CallForm(style="list", opener="functools")
_KIMI = CallForm(
    style="named",
    opener="<|tool_call_begin|>",
    name_end="<|tool_call_argument_begin|>",
    closer="<|tool_call_end|>",
    section_open="<|tool_calls_section_begin|>",
    section_close="<|tool_calls_section_end|>",
)
_DEEPSEEK = CallForm(
    style="named",
    opener="<｜tool▁call▁begin｜>",
    name_end="<｜tool▁sep｜>",
    closer="<｜tool▁call▁end｜>",
    section_open="<｜tool▁calls▁begin｜>",
    section_close="<｜tool▁calls▁end｜>",
)
_DEEPSEEK_FENCED = replace(
    _DEEPSEEK,
    opener="<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    name_end="\n",
    args_open="```json\n",
    closer="\n```<｜tool▁call▁end｜>",
)
CHANNELS = CallForm(
    style="named",
    opener="<|channel|>commentary to=functions.",
    name_end=" <|constrain|>json<|message|>",
    closer="<|call|>",
)

_FAMILIES: tuple[tuple[str, tuple[str, ...], tuple[CallForm, ...]], ...] = (
    ("gpt-oss", ("<|channel|>", "<|message|>"), (CHANNELS,)),
    ("deepseek-r1", ("<｜tool▁calls▁begin｜>", "```json"), (_DEEPSEEK_FENCED, _DEEPSEEK)),
    ("deepseek-v3", ("<｜tool▁calls▁begin｜>",), (_DEEPSEEK, _DEEPSEEK_FENCED)),
    ("mistral-args", ("[TOOL_CALLS]", "[ARGS]"), (_TOOL_CALLS_NAMED, _TOOL_CALLS)),
    ("mistral", ("[TOOL_CALLS]",), (_TOOL_CALLS, _TOOL_CALLS_NAMED)),
    ("kimi", ("<|tool_calls_section_begin|>",), (_KIMI,)),
    ("seed", ("<seed:tool_call>",), (_SEED,)),
    ("minimax", ("<minimax:tool_call>", "<invoke"), (_INVOKE,)),
    ("qwen3-coder", ("<tool_call>", "<function=", "<parameter="), (_PARAMETERS, HERMES)),
    ("glm", ("<arg_key>",), (_PAIRS, HERMES)),
    ("command-r", ("<|START_ACTION|>",), (_ACTION,)),
    ("lfm2", ("<|tool_call_start|>",), (_PYTHON,)),
    ("lfm2", ("<|tool_list_start|>",), (_PYTHON,)),
    ("gemma4", ("<|tool_call>call:",), (_BRACES,)),
    ("nemotron", ("<TOOLCALL>",), (_TOOLCALL,)),
    ("apertus", ("<|tools_prefix|>",), (_MAPPING,)),
    ("functionary", ("<function=",), (_FUNCTION,)),
    ("hermes", ("<tool_call>",), (HERMES,)),
    ("llama3", ("<|python_tag|>",), (BARE, _PYTHON_TAG)),
    ("llama3", ("Environment: ipython",), (BARE, _PYTHON_TAG)),
    ("granite", ("<|tool_call|>",), (_PIPED,)),
    ("firefunction", ("functools[",), (_FUNCTOOLS,)),
)

_THINKING = (
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
)
_HIDDEN = ("<|START_RESPONSE|>", "<|END_RESPONSE|>")


def dialect_of(source: str, *, knows_tools: bool = True) -> Dialect:
    """The dialect that the chat template *source* teaches.

    *knows_tools*: whether the template itself tells of tools (`ChatTemplate.features`); if not, they
    are described in Hermes' form, and so called. Bare JSON calls are recognised where no other form is taught.
    """
    think_open, think_close = next((pair for pair in _THINKING if pair[1] in source), ("<think>", "</think>"))
    hidden = _HIDDEN if _HIDDEN[0] in source else ()
    taught = ((family, forms) for family, signs, forms in _FAMILIES if all(sign in source for sign in signs))
    name, calls = next(taught, ("generic", (HERMES, BARE)))
    if name != "gpt-oss" and not knows_tools:
        name, calls = "generic", (HERMES, *(form for form in calls if form != HERMES))
    elif name != "gpt-oss" and HERMES not in calls:
        calls = (*calls, HERMES)
    return Dialect(
        name=name,
        calls=calls,
        think_open=think_open,
        think_close=think_close,
        hidden=hidden,
        channels=name == "gpt-oss",
    )
