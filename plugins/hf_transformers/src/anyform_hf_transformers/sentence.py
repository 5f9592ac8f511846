"""A folder of sentence-transformers, read for the engine: which modules follow the network, and what they hold.

The files: sentence_transformers' Module.load and its kin; modules.py reads the same for those who have no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Plan
from anyform_hf_transformers import head
from anyform_hf_transformers.backend import torch
from anyform_hf_transformers.head import Head, Step
from anyform_hf_transformers.layout import CONFIG, MODULES, is_inside
from anyform_hf_transformers.modules import LIMITS, MODES

_SAID = "config_sentence_transformers.json"
RUNS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
_NAMES = {"mean_sqrt_len_tokens": "mean_sqrt_len", "lasttoken": "last"}
"""What newer releases call two of them."""


@dataclass(frozen=True, slots=True)
class Part:
    """One module."""

    kind: str
    folder: Path
    said: Mapping[str, Any]
    """Its config.json."""

    def weights(self) -> Mapping[str, Any]:
        """Raises LoadFailed."""
        from anyform_hf_transformers.backend import load_file

        stored, pickled = self.folder / "model.safetensors", self.folder / "pytorch_model.bin"
        try:
            found: Mapping[str, Any] = (
                load_file(stored) if stored.is_file() else torch.load(pickled, map_location="cpu", weights_only=True)
            )
        except Exception as error:  # whatever the two raise
            raise LoadFailed(
                f"the weights of {self.folder.name} cannot be read: {error}.", "Get them again."
            ) from error
        return found


@dataclass(frozen=True, slots=True)
class Sentence:
    """All that such a folder says. Without modules.json there are no parts."""

    plan: Plan
    parts: Sequence[Part]
    limits: Mapping[str, Any]
    """sentence_bert_config.json: of the module that reads the text."""
    said: Mapping[str, Any]
    """config_sentence_transformers.json."""

    @property
    def prompt(self) -> str:
        """What sentence-transformers puts before every text (default_prompt_name)."""
        prompts, name = self.said.get("prompts"), self.said.get("default_prompt_name")
        found = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
        return found if isinstance(found, str) else ""

    @property
    def pools_prompt(self) -> bool:
        """Whether the prompt's tokens are pooled with the text's."""
        return all(part.said.get("include_prompt", True) is not False for part in self.parts)

    @property
    def lowers(self) -> bool:
        """Whether texts are lower-cased, whatever the tokenizer does."""
        return self.limits.get("do_lower_case") is True

    @property
    def normalizes(self) -> bool:
        """Whether vectors are to have length one: as the last module says; without modules they do."""
        kinds = [part.kind for part in self.parts if part.kind != "Dropout"]
        return not kinds or kinds[-1] == "Normalize"

    @property
    def output(self) -> str:
        """Which of the network's outputs the modules begin with. Raises Unsupported."""
        asked = self.limits.get("modality_config")
        text = asked.get("text") if isinstance(asked, dict) else None
        if not isinstance(text, dict):
            return "last_hidden_state"
        method, name = text.get("method"), text.get("method_output_name")
        if method != "forward" or not isinstance(name, str):
            raise Unsupported(
                f"{self.plan.model} takes {name!r} of the network's {method!r}, which this backend does not."
            )
        return name

    def poolings(self) -> list[str]:
        """Of the Pooling module; none where there is none. Raises Unsupported."""
        part = next((part for part in self.parts if part.kind == "Pooling"), None)
        if part is None:
            return []
        named = part.said.get("pooling_mode") or [kind for flag, kind in MODES.items() if part.said.get(flag) is True]
        kinds = [_NAMES.get(kind, kind) for kind in ([named] if isinstance(named, str) else named or ["mean"])]
        strange = next((kind for kind in kinds if kind not in head.POOLINGS), None)
        if strange is not None:
            raise Unsupported(
                f"{self.plan.model} pools by {strange}, which this backend does not.",
                f"It pools by one of {', '.join(head.POOLINGS)}.",
            )
        return kinds

    def head(self, asked: str, device: str) -> Head:
        """*asked*: a pooling instead of the folder's own; empty: none. Raises Unsupported, LoadFailed."""
        strange = next((part.kind for part in self.parts if part.kind not in RUNS), None)
        if strange is not None:
            raise Unsupported(
                f"{self.plan.model} has a module {strange!r}, which this backend does not run.",
                f"It runs {', '.join(RUNS)}.",
            )
        if not self.parts:
            return Head([head.pool([asked or "mean"])])
        steps = [step for part in self.parts for step in self._steps(part, asked, device)]
        return Head(steps, self.output)

    def _steps(self, part: Part, asked: str, device: str) -> list[Step]:
        try:
            if part.kind == "Pooling":
                return [head.pool([asked] if asked else self.poolings())]
            if part.kind == "Dense":
                return [head.dense(part.weights(), self._activation(part), device)]
            if part.kind == "LayerNorm":
                return [head.layer_norm(part.weights(), device)]
        except KeyError as error:
            raise LoadFailed(
                f"{part.folder.name} of {self.plan.model} has no weights {error}.", "Get it again."
            ) from error
        return [head.normalize] if part.kind == "Normalize" else []

    def _activation(self, part: Part) -> Any:
        return (
            activation(part.said.get("activation_function"), f"{part.folder.name} of {self.plan.model}") or torch.tanh
        )

    def score(self, config: Any) -> str:
        """The function that a cross-encoder's score goes through, by its name in torch; empty: it does not say.

        CrossEncoder's own order: config_sentence_transformers.json, then config.json in its newer and older words.
        """
        beside = getattr(config, "sentence_transformers", None)
        said = (
            self.said.get("activation_fn"),
            beside.get("activation_fn") if isinstance(beside, dict) else None,
            getattr(config, "sbert_ce_default_activation_function", None),
        )
        return next((name for name in said if isinstance(name, str)), "")


def activation(name: Any, whose: str) -> Any:
    """One of torch.nn, such as torch.nn.modules.activation.Tanh; None where nothing is said. Raises Unsupported."""
    if name is None or name == "":
        return None
    kind = getattr(torch.nn, str(name).rpartition(".")[2], None) if str(name).startswith("torch.nn.") else None
    try:
        return kind() if isinstance(kind, type) and issubclass(kind, torch.nn.Module) else _unknown(name, whose)
    except TypeError:
        return _unknown(name, whose)


def _unknown(name: Any, whose: str) -> Any:
    raise Unsupported(
        f"{whose} wants the function {name!r}, which this backend does not run.", "It runs those of torch.nn."
    )


def read(plan: Plan) -> Sentence:
    """What lies beside the weights of *plan*. Raises LoadFailed where it cannot be read."""
    listing = next((name for name in plan.match.files if Path(name).name == MODULES), None)
    if listing is None:
        entry = Path(plan.path) / plan.match.entry
        return Sentence(plan, (), {}, _json(plan, (entry if entry.is_dir() else entry.parent) / _SAID, missing={}))
    home = (Path(plan.path) / listing).parent
    parts = [_part(plan, home, one) for one in _list(plan, home / MODULES)]
    limits = _json(plan, parts[0].folder / LIMITS, missing={}) if parts else {}
    return Sentence(plan, parts, limits, _json(plan, home / _SAID, missing={}))


def _list(plan: Plan, path: Path) -> list[Any]:
    found = _json(plan, path)
    if not isinstance(found, list):
        raise LoadFailed(f"{path.name} of {plan.model} is no list of modules.", "Get the model again.")
    return found


def _part(plan: Plan, home: Path, said: Any) -> Part:
    kind, path = (said.get("type"), said.get("path")) if isinstance(said, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(path, str) or (path and not is_inside(path)):
        raise LoadFailed(f"{MODULES} of {plan.model} has a module {said!r}.", "Get the model again.")
    return Part(kind.rpartition(".")[2], home / path, _json(plan, home / path / CONFIG, missing={}))


def _json(plan: Plan, path: Path, missing: Any = None) -> Any:
    if missing is not None and not path.is_file():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadFailed(f"{path.name} of {plan.model} cannot be read: {error}.", "Get the model again.") from error
