"""From a plan to a loaded model: what all kinds of models share, and which module makes which kind."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

from anyform.contract.errors import Invalid, OutOfMemory
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.pretrained import architecture
from anyform_hf_transformers import adaptation, conversion, weights
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.options import Options

PARALLEL = 4
CONTEXT = 8192
"""What a plan that names no context gets, or the training context if that is less."""
SMALL_MODEL_BYTES = 32 << 20
_MOST_PARALLEL = 256
_SPEECH = ("transcribe", "translate")
_CHAT = ("chat", "complete")
_PICTURES = ("caption", "answer")


def load(plan: Plan, options: Options) -> LoadedModel:
    """The model, warmed up. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    loading = Loading(plan, options)
    maker = import_module(f"anyform_hf_transformers.{kind(loading)}loading")
    try:
        made: LoadedModel = maker.load(loading)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(
            f"there is no memory to run {plan.model}: {error}.",
            "Use a smaller context or fewer parallel requests.",
        ) from error
    return made


def kind(loading: Loading) -> str:
    """Which module makes the model: text, sight (text about pictures), vector, picture or speech."""
    task = loading.task
    sees = "vision" in loading.plan.metadata.features
    if task in _SPEECH:
        return "speech"
    if sees and "chat" in loading.plan.metadata.tasks:
        return "sight"
    if task in _CHAT:
        return "sight" if sees else "text"
    looks = loading.config.model_type in architecture.DUAL | architecture.SEEING  # whatever its processor's files say
    return "picture" if sees or looks or task in _PICTURES else "vector"


class Loading:
    """One plan, and what is read for it once."""

    def __init__(self, plan: Plan, options: Options) -> None:
        self.adaptation = adaptation.of(plan, options)
        self.plan = self.adaptation.plan if self.adaptation else conversion.textual(plan)
        self.options = options
        self.device = weights.device(plan)
        self.config = weights.read_config(self.plan, options)
        if self.adaptation and self.adaptation.labels:
            self.config.num_labels = self.adaptation.labels

    @cached_property
    def tokenizer(self) -> Any:
        """Transformers' own."""
        place = self.adaptation.tokenizer if self.adaptation else None
        return weights.read_tokenizer(self.plan, self.options, place)

    @cached_property
    def task(self) -> str:
        """The main one: as the metadata say, else by the class that the configuration names."""
        if self.plan.metadata.tasks:
            return self.plan.metadata.tasks[0]
        name = next(iter(self.config.architectures or ()), "")
        if name.endswith("ForSequenceClassification"):
            return "classify" if self.config.num_labels > 1 else "rerank"
        return "chat" if name.endswith(("ForCausalLM", "LMHeadModel")) else "embed"

    @property
    def parallel(self) -> int:
        """Requests at once. Raises Invalid."""
        parallel = self.plan.settings.parallel
        if parallel is not None and not 1 <= parallel <= _MOST_PARALLEL:
            raise Invalid(f"parallel is {parallel}.", f"It must be 1 to {_MOST_PARALLEL}.")
        return parallel or PARALLEL

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together. Raises Invalid."""
        context = self.plan.settings.context
        if context is not None and context < 1:
            raise Invalid(f"context is {context}.", "It must be 1 token or more.")
        return context or min(self.trained or CONTEXT, CONTEXT)

    @property
    def trained(self) -> int | None:
        """Positions that the network was made for."""
        text = self.config.get_text_config()
        found = next((getattr(text, name, None) for name in ("max_position_embeddings", "n_positions")), None)
        return found if isinstance(found, int) else None

    def read(self, kind: Any) -> Any:
        """A model of the auto class *kind* on the device, an adapter in it, and torch's threads set for it."""
        given = (self.plan, self.options, self.config, kind, self.device)
        if self.adaptation is None:
            model = weights.read_model(*given)
        else:
            model = weights.read_model(*given, self.adaptation.brought, self.adaptation.check)
            model = self.adaptation.applied(model, len(self.tokenizer))
        if self.device == "cpu":
            threads = self.options.threads or (1 if self.exact(model) else None)
            if threads:
                torch.set_num_threads(threads)
        return model

    def exact(self, model: Any) -> bool:
        """Whether an answer must not hang on what else runs: see `Options.exact`."""
        if self.device != "cpu":
            return False
        if self.options.exact is not None:
            return self.options.exact
        size = sum(one.numel() * one.element_size() for one in model.parameters())
        return bool(size < SMALL_MODEL_BYTES)
