"""An adapter on its base: the plan of the base, and the adapter's weights in the base's model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Plan
from anyform.pretrained import safetensors
from anyform.pretrained.listing import Listing
from anyform_hf_transformers import adapter, backend
from anyform_hf_transformers.layout import ADAPTER_CONFIG, PEFT
from anyform_hf_transformers.options import Options
from anyform_hf_transformers.quantizer import quantized

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
_LACKS = "missing adapter keys"
"""What peft warns of when its file does not fill the adapter."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What a plan of an adapter comes to."""

    folder: Path
    """The adapter's."""
    plan: Plan
    """Of the base, for the adapter's task."""
    brought: frozenset[str]
    """Weights of the base that the adapter replaces."""
    labels: int | None
    changed: frozenset[str]
    """Modules of the base that it changes, by the last parts of their names."""
    made_for: str
    """What it says of its own base."""

    @property
    def tokenizer(self) -> Path | None:
        """The folder of the tokenizer that came with the adapter; None: the base's is used."""
        return self.folder if any((self.folder / name).is_file() for name in _TOKENIZERS) else None

    def check(self, model: Any) -> None:
        """Raises Unsupported where *model*, the base, has nothing of what the adapter changes."""
        has = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        if self.changed and not self.changed & has:
            base = ", ".join(self.plan.metadata.extra.get("architectures", ())) or type(model).__name__
            raise Unsupported(
                f"the adapter does not fit its base: it was made for {self.made_for} and changes"
                f" {', '.join(sorted(self.changed))}; the base is a {base}, which has none of them.",
                "Name the folder of the model that it is for by the option base=PATH.",
            )

    def applied(self, model: Any, tokens: int) -> Any:
        """*model* with the adapter in it, merged where its numbers allow that. *tokens*: that the tokenizer has.

        Raises EngineMissing, LoadFailed.
        """
        peft = backend.peft()
        if tokens > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(tokens, mean_resizing=False)
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                made = peft.PeftModel.from_pretrained(model, str(self.folder), local_files_only=True)
            lacking = next((str(one.message) for one in told if _LACKS in str(one.message)), "")
            if lacking:
                raise LoadFailed(f"the adapter's file does not fill it: {lacking[:300]}", "Get the adapter again.")
            if not quantized(model) and hasattr(made.base_model, "merge_and_unload"):
                return made.merge_and_unload(safe_merge=True).eval()
        except (ValueError, RuntimeError, KeyError, TypeError, OSError, NotImplementedError) as error:
            said = " ".join(str(error).split())[:500]
            raise LoadFailed(
                f"peft does not apply the adapter: {type(error).__name__}: {said}",
                "Check that it is for this base (option base=PATH).",
            ) from error
        return made.base_model.model.eval()


def of(plan: Plan, options: Options) -> Adaptation | None:
    """None where the plan is of no adapter. Raises Unsupported, LoadFailed, EngineMissing."""
    if plan.match.format != PEFT:
        return None
    folder = (Path(plan.path) / plan.match.entry).parent
    place, match, base = adapter.needed(plan.metadata, folder, options.base)
    files = Listing(folder)
    said = files.json(ADAPTER_CONFIG)
    if said.get("alora_invocation_tokens"):
        raise Unsupported(
            "the adapter works from some tokens of a prompt on only (aLoRA), which this backend does not."
        )
    tensors = safetensors.header(files, plan.match.entry.rpartition("/")[2]).tensors
    names = [tensor.name for tensor in tensors]
    whole = adapter.completed(plan.metadata, base)
    joined = replace(base, tasks=whole.tasks or base.tasks, features=base.features)
    return Adaptation(
        folder=folder,
        plan=replace(plan, path=str(place), match=match, metadata=joined),
        brought=adapter.whole_weights(names),
        labels=adapter.label_count({tensor.name: tensor.shape for tensor in tensors}),
        changed=adapter.changed(names),
        made_for=_made_for(said),
    )


def _made_for(said: Mapping[str, Any]) -> str:
    """The class of its base, where adapter_config.json *said* that, its task and its name."""
    mapped = said.get("auto_mapping")
    known = mapped.get("base_model_class") if isinstance(mapped, dict) else None
    named = str(said.get("base_model_name_or_path") or "a model that it does not name")
    named = Path(named).name if Path(named).is_absolute() else named  # where it lies is no business of a client's
    return f"{f'a {known}, ' if known else ''}{named} ({said.get('task_type') or 'no task named'})"
