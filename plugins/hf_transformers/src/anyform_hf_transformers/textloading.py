"""Loads models that generate text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Unsupported
from anyform.contract.model import LoadedModel
from anyform.text.decoder import Decoder
from anyform.text.defaults import sampling
from anyform.text.prompt import ChatForm
from anyform.text.textmodel import TextModel
from anyform.text.words import Words
from anyform_hf_transformers.backend import transformers
from anyform_hf_transformers.generation import expect, open_decoder
from anyform_hf_transformers.loop import Loop
from anyform_hf_transformers.packed import pack
from anyform_hf_transformers.paged import Paged
from anyform_hf_transformers.pagedloop import PagedLoop, log, open_pages
from anyform_hf_transformers.words import words as words_of

if TYPE_CHECKING:
    from anyform_hf_transformers.loading import Loading

UNSEEING = "it reads text only."


def load(loading: Loading, unseeing: str = UNSEEING) -> LoadedModel:
    """The model, its first step done. *unseeing*: why it reads no pictures.

    Raises LoadFailed, OutOfMemory, Unsupported.
    """
    if loading.config.is_encoder_decoder:
        raise Unsupported(f"{loading.plan.model} is an encoder-decoder model, which this backend does not run.")
    return made(loading, loading.read(transformers.AutoModelForCausalLM), unseeing)


def made(loading: Loading, model: Any, unseeing: str = UNSEEING) -> LoadedModel:
    """What `load` gives, of *model*. Raises LoadFailed."""
    parallel, context = loading.parallel, loading.context
    words, exact = vocabulary(loading, model), loading.exact(model)
    if loading.device == "cpu" and not exact and loading.options.packed:
        pack(model, lambda: expect(model, loading.device))
    decoder = open_decoder(model, loading.device, parallel, context, exact=exact)
    return TextModel(
        open_loop(loading, model, decoder),
        words,
        chat_form(loading, words),
        context=context,
        parallel=parallel,
        defaults=sampling(loading.plan.metadata.extra),
        unseeing=unseeing,
    )


def open_loop(loading: Loading, model: Any, decoder: Decoder) -> Loop:
    """A loop for *decoder*, with transformers' own batching beside it where the options say so."""
    options, parallel = loading.options, loading.parallel
    if options.batching == "own" or (options.batching == "auto" and not loading.device.startswith("cuda")):
        return Loop(decoder, parallel, options.batch, options.text_interval)
    make = partial(Paged, model, parallel, loading.context, options.batch)
    paged, why = open_pages(model, decoder, make, exact=bool(options.exact))
    log.info("%s: plain requests run in %s", loading.plan.model, f"our own batches: {why}" if why else "pages")
    return PagedLoop(decoder, parallel, options.batch, options.text_interval, make, paged, why)


def vocabulary(loading: Loading, model: Any) -> Words:
    """The tokenizer, and the tokens that end an answer of *model* or may not come in it."""
    asked, text = model.generation_config, model.config.get_text_config()
    ends = _ids(asked.eos_token_id) or _ids(text.eos_token_id)
    return words_of(loading.tokenizer, text.vocab_size, ends, _ids(asked.suppress_tokens))


def chat_form(loading: Loading, words: Words) -> ChatForm:
    """How the folder's chat templates write a conversation."""
    templates = loading.tokenizer.chat_template
    named = templates if isinstance(templates, dict) else {"default": templates or ""}
    return ChatForm(words, named.get("default", ""), named.get("tool_use", ""))


def _ids(value: Any) -> list[int]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, int) and not isinstance(one, bool)]
