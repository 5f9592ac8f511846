"""What a text model's folder says of words and chats, as the text toolkit wants it; read without transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.pretrained import facts, marks
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.listing import Listing
from anyform.pretrained.template import templates
from anyform.text.defaults import sampling
from anyform.text.prompt import ChatForm
from anyform.text.words import Words
from anyform_onnx.loading import Loading

_TOKENIZER = "tokenizer_config.json"
_GENERATION = "generation_config.json"
_GENAI = "genai_config.json"


def words(loading: Loading, size: int) -> Words:
    """The tokenizer, and the tokens that end an answer or may not come in it. *size*: numbers in a row of logits.

    Raises LoadFailed.
    """
    generation, config, genai = loading.json(_GENERATION), Configuration(loading.config), _model(loading)
    said = (generation.get("eos_token_id"), config.get("eos_token_id"), genai.get("eos_token_id"))
    ends = next((found for one in said if (found := marks.ids(one))), [])
    special = facts.special(config, generation)
    return Words(
        loading.tokenizer,
        size,
        ends,
        marks.ids(generation.get("suppress_tokens")),
        bos=_mark(loading, "bos_token", special.get("bos")),
        eos=_mark(loading, "eos_token", special.get("eos")),
    )


def chat_form(loading: Loading, vocabulary: Words) -> ChatForm:
    """How the folder's chat templates write a conversation. Raises LoadFailed."""
    found = templates(Listing(loading.folder), ".", loading.json(_TOKENIZER))
    return ChatForm(vocabulary, found.get("default", ""), found.get("tool_use", ""))


def defaults(loading: Loading) -> dict[str, Any]:
    """What the folder asks of sampling: generation_config.json, else genai_config.json where that samples at all.

    onnxruntime-genai's builder writes `do_sample: false` where a model's makers said nothing.
    """
    generation = loading.json(_GENERATION)
    search = _table(loading.json(_GENAI).get("search"))
    asked = generation or (search if search.get("do_sample") is True else {})
    return sampling({"sampling": facts.sampling(asked)})


def _mark(loading: Loading, name: str, otherwise: int | None) -> int | None:
    """The id of the token *name*, which the tokenizer's files spell; *otherwise*: what the other files say."""
    written = marks.written(Listing(loading.folder), ".")
    if name not in written:
        return otherwise
    found: int | None = loading.tokenizer.token_to_id(written[name]) if written[name] else None
    return found


def _model(loading: Loading) -> Mapping[str, Any]:
    return _table(loading.json(_GENAI).get("model"))


def _table(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}
