"""What the files beside a model say of words, conversations and sampling; read without transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import LoadFailed
from anyform.pretrained import facts, marks
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.listing import Listing
from anyform.pretrained.template import templates
from anyform.text.defaults import sampling
from anyform.text.words import Words
from anyform_rkllm.info import INSTALL

if TYPE_CHECKING:
    from anyform.text.prompt import ChatForm

TOKENIZER = "tokenizer.json"


class Way(Enum):
    """How conversations reach the model."""

    TOKENS = "tokens"
    """By the model's own template, as tokens of its own tokenizer."""
    TEXT = "text"
    """By the model's own template as text, which the library's tokenizer reads; its own template is emptied."""
    LIBRARY = "library"
    """By the template that the file was converted with, which the library fills in."""
    PLAIN = "plain"
    """Not at all: texts go to the library's tokenizer as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A model's words."""

    way: Way
    words: Words | None = None
    form: ChatForm | None = None
    source: str = ""
    """The model's chat template, whether or not it is used; empty: it has none here."""
    width: int | None = None
    """Numbers in a hidden state."""
    adds_bos: str = ""
    """WAY TEXT: what the library's tokenizer puts before a text by itself."""
    notes: tuple[str, ...] = ()


def read(folder: Path, *, by_library: bool, chats: bool, blanks: bool) -> Wording:
    """What *folder*, the model's, says. Raises LoadFailed where a file of it is damaged.

    *by_library*: conversations are put into words by the library, whatever the folder has. *chats*: whether the model
    takes conversations. *blanks*: whether the library's own template can be emptied (ABI 1.2.0).
    """
    files = Listing(folder)
    config = Configuration(files.json("config.json"))
    width = config.number("hidden_size")
    words, notes = _words(files, config)
    named = templates(files, ".", files.json("tokenizer_config.json")) if chats else {}
    source = named.get("default", "")
    made = Wording(way=Way.LIBRARY, words=words, source=source, width=width, notes=notes)
    if source and not by_library:
        form, missing = _form(files, words, named)
        made = replace(made, form=form, notes=notes + missing)
        if form is not None and words is not None:
            return replace(made, way=Way.TOKENS)
        if form is not None and blanks:
            return replace(made, way=Way.TEXT, adds_bos=_bos_added(files))
    if chats or words is not None or not blanks:
        return made
    return replace(made, way=Way.PLAIN)


def defaults(folder: Path) -> dict[str, Any]:
    """What generation_config.json asks of sampling, by the names of a Sampling."""
    return sampling({"sampling": facts.sampling(Listing(folder).json("generation_config.json"))})


def _words(files: Listing, config: Configuration) -> tuple[Words | None, tuple[str, ...]]:
    if TOKENIZER not in files.files:
        return None, ()
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None, (f"{TOKENIZER} lies beside the model and cannot be used: tokenizers is missing ({INSTALL}).",)
    try:
        made = Tokenizer.from_file(str(files.path / TOKENIZER))
    except Exception as error:  # the library raises plain Exception
        raise LoadFailed(
            f"{TOKENIZER} beside the model cannot be read: {error}.", "Get it again, or take it away."
        ) from error
    generation = files.json("generation_config.json")
    said = (generation.get("eos_token_id"), config.get("eos_token_id"))
    ends = next((found for one in said if (found := marks.ids(one))), [])
    size = max(made.get_vocab_size(with_added_tokens=True), config.number("vocab_size") or 0)
    special = facts.special(config, generation)
    written = marks.written(files, ".")
    bos, eos = (_mark(made, written, f"{name}_token", special.get(name)) for name in ("bos", "eos"))
    return Words(made, size, ends, bos=bos, eos=eos), ()


def _mark(tokenizer: Any, written: Mapping[str, str], name: str, otherwise: int | None) -> int | None:
    """The id of the token *name*, which the tokenizer's files spell; *otherwise*: what the other files say."""
    if name not in written:
        return otherwise
    found: int | None = tokenizer.token_to_id(written[name]) if written[name] else None
    return found


def _form(files: Listing, words: Words | None, source: Mapping[str, str]) -> tuple[ChatForm | None, tuple[str, ...]]:
    try:
        from anyform.text.prompt import ChatForm
    except ImportError:
        missing = f"the model's chat template cannot be used: jinja2 is missing ({INSTALL}); the library's own is used."
        return None, (missing,)
    return ChatForm(words or Spelt(marks.written(files, ".")), source["default"], source.get("tool_use", "")), ()


def _bos_added(files: Listing) -> str:
    """The BOS, where the tokenizer's settings say that it goes before each text: a template's own would be a second."""
    adds = files.json("tokenizer_config.json").get("add_bos_token") is True
    return marks.written(files, ".").get("bos_token", "") if adds else ""


class Spelt:
    """A `Tokenizer` that only knows how BOS and EOS are written: all that a chat template asks of one."""

    size = 2
    bos, eos = 0, 1
    adds_bos = adds_eos = False
    fim_prefix = fim_suffix = fim_middle = -1
    ends: frozenset[int] = frozenset()
    suppressed: tuple[int, ...] = ()

    def __init__(self, written: Mapping[str, str]) -> None:
        self._names = (written.get("bos_token", ""), written.get("eos_token", ""))

    def tokenize(self, text: str, *, affixes: bool, special: bool) -> list[int]:
        return []

    def is_control(self, token: int) -> bool:
        return True

    def ids_of(self, names: object) -> frozenset[int]:
        return frozenset()

    def piece(self, token: int, special: bool = False) -> bytes:
        return self._names[token].encode("utf-8", "replace")
