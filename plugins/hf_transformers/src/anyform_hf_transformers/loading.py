"""From a plan to a loaded model: weights, tokenizer, memory, a first step."""

from __future__ import annotations

from typing import Any

import numpy as np

from anyform.contract.errors import Invalid, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.text.prompt import ChatForm
from anyform.text.textmodel import TextModel
from anyform.text.vectormodel import Floats, VectorModel, sigmoid
from anyform_hf_transformers import folder, weights
from anyform_hf_transformers.backend import torch, transformers
from anyform_hf_transformers.encoder import Encoder, EncoderLoop
from anyform_hf_transformers.encoderinputs import EncoderInputs
from anyform_hf_transformers.generation import open_decoder
from anyform_hf_transformers.loop import Loop
from anyform_hf_transformers.options import Options
from anyform_hf_transformers.words import Words

PARALLEL = 4
CONTEXT = 8192
"""What a plan that names no context gets, or the training context if that is less."""
SMALL_MODEL_BYTES = 32 << 20
_MOST_PARALLEL = 256


class Loader:
    """Loads one plan."""

    def __init__(self, plan: Plan, options: Options) -> None:
        self._plan = plan
        self._options = options

    def load(self) -> LoadedModel:
        """The model, warmed up. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
        self._device = weights.device(self._plan)
        self._config = weights.read_config(self._plan, self._options)
        if self._config.is_encoder_decoder:
            raise Unsupported(f"{self._plan.model} is an encoder-decoder model, which this backend does not run.")
        self._tokenizer = weights.read_tokenizer(self._plan, self._options)
        task = self._task()
        try:
            if task == "embed":
                return self._load_embedder()
            return self._load_ranker() if task == "rerank" else self._load_text()
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise OutOfMemory(
                f"there is no memory to run {self._plan.model}: {error}.",
                "Use a smaller context or fewer parallel requests.",
            ) from error

    def _task(self) -> str:
        tasks = self._plan.metadata.tasks
        if tasks:
            return "chat" if tasks[0] in ("chat", "complete") else tasks[0]
        name = next(iter(self._config.architectures or ()), "")
        if name.endswith("ForSequenceClassification"):
            return "rerank"
        return "chat" if name.endswith(("ForCausalLM", "LMHeadModel")) else "embed"

    def _parallel(self) -> int:
        parallel = self._plan.settings.parallel
        if parallel is not None and not 1 <= parallel <= _MOST_PARALLEL:
            raise Invalid(f"parallel is {parallel}.", f"It must be 1 to {_MOST_PARALLEL}.")
        return parallel or PARALLEL

    def _context(self) -> int:
        context = self._plan.settings.context
        if context is not None and context < 1:
            raise Invalid(f"context is {context}.", "It must be 1 token or more.")
        return context or min(self._trained() or CONTEXT, CONTEXT)

    def _trained(self) -> int | None:
        text = self._config.get_text_config()
        found = next((getattr(text, name, None) for name in ("max_position_embeddings", "n_positions")), None)
        return found if isinstance(found, int) else None

    def _read(self, kind: Any) -> Any:
        model = weights.read_model(self._plan, self._options, self._config, kind, self._device)
        if self._device == "cpu":
            threads = self._options.threads or (1 if self._exact(model) else None)
            if threads:
                torch.set_num_threads(threads)
        return model

    def _exact(self, model: Any) -> bool:
        if self._device != "cpu":
            return False
        if self._options.exact is not None:
            return self._options.exact
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        return bool(size < SMALL_MODEL_BYTES)

    def _load_text(self) -> LoadedModel:
        parallel, context = self._parallel(), self._context()
        model = self._read(transformers.AutoModelForCausalLM)
        asked = model.generation_config
        ends = _ids(asked.eos_token_id) or _ids(model.config.get_text_config().eos_token_id)
        size = model.config.get_text_config().vocab_size
        words = Words(self._tokenizer, size, ends, _ids(asked.suppress_tokens))
        decoder = open_decoder(model, self._device, parallel, context, exact=self._exact(model))
        templates = self._tokenizer.chat_template
        named = templates if isinstance(templates, dict) else {"default": templates or ""}
        chat = ChatForm(words, named.get("default", ""), named.get("tool_use", ""))
        loop = Loop(decoder, parallel, self._options.batch, self._options.text_interval)
        return TextModel(
            loop,
            words,
            chat,
            context=context,
            parallel=parallel,
            defaults=folder.sampling(self._plan.metadata.extra),
        )

    def _load_embedder(self) -> LoadedModel:
        kind = folder.pooling(self._plan, self._options.pooling)
        if not kind and self._generates():
            raise Unsupported(
                f"{self._plan.model} does not say how its embeddings are pooled.",
                "Load it with the option pooling=mean, cls or last, as its publisher says.",
            )
        model = self._read(transformers.AutoModel)
        return self._vectors(model, kind or "mean")

    def _generates(self) -> bool:
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in self._config.architectures or ())

    def _load_ranker(self) -> LoadedModel:
        if self._config.num_labels > 2:
            raise Unsupported(f"{self._plan.model} has {self._config.num_labels} labels; one that ranks has 1 or 2.")
        model = self._read(transformers.AutoModelForSequenceClassification)
        return self._vectors(model, "")

    def _vectors(self, model: Any, kind: str) -> LoadedModel:
        config = model.config
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0
        encoder = Encoder(model, self._device, kind, pad)
        inputs = EncoderInputs(self._tokenizer, config.vocab_size, getattr(config, "type_vocab_size", 0) > 1)
        width = len(self._warm_up(encoder, inputs))
        parallel = self._parallel()
        return VectorModel(
            EncoderLoop(encoder, max(self._options.batch, 1)),
            inputs,
            context=self._text_limit(),
            width=width,
            parallel=parallel,
            score=None if kind else _score,
            normalize=bool(self._plan.metadata.extra.get("normalize", True)),
        )

    def _text_limit(self) -> int:
        """Tokens of one text: as asked, but never more positions than there are."""
        positions = self._trained() or CONTEXT
        if self._config.model_type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            positions -= 2  # the first two of their position embeddings are never used
        return min(self._plan.settings.context or self._plan.metadata.context or positions, positions)

    def _warm_up(self, encoder: Encoder, inputs: EncoderInputs) -> Floats:
        try:
            row: Floats = encoder.rows([inputs.text("x")])[0]
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            if weights.out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise LoadFailed(f"{self._plan.model} cannot be run: {type(error).__name__}: {error}.") from error
        if not np.isfinite(row).all():
            raise LoadFailed(f"{self._plan.model} computes numbers that are not finite.", "Get the model again.")
        return row


def _ids(value: Any) -> list[int]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, int) and not isinstance(one, bool)]


def _score(row: Floats) -> float:
    """0 to 1: of one logit its sigmoid, of two the share of the second."""
    return sigmoid(float(row[0]) if len(row) == 1 else float(row[1]) - float(row[0]))
