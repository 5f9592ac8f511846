"""A folder of sentence-transformers, read to be loaded: which modules follow the network, and what they hold.

The files: sentence_transformers' Module.load and its kin; modules.py reads the same through `ModelFiles`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.facts import Plan
from anyform.pretrained.layout import CONFIG, MODULES, is_inside
from anyform.pretrained.modules import LIMITS, MODES

_SAID = "config_sentence_transformers.json"
RUNS = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dropout", "Normalize")
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last")
_NAMES = {"mean_sqrt_len_tokens": "mean_sqrt_len", "lasttoken": "last"}
"""What newer releases call two of them."""
ACTIVATION = "torch.nn.modules.activation.Tanh"
"""Of a Dense module that names none."""
Step = TypeVar("Step", covariant=True)


@dataclass(frozen=True, slots=True)
class Part:
    """One module."""

    kind: str
    folder: Path
    said: Mapping[str, Any]
    """Its config.json."""

    @property
    def activation(self) -> str:
        """What a Dense module's numbers go through, by its name in torch."""
        return str(self.said.get("activation_function") or ACTIVATION)


class Maker(Protocol[Step]):
    """How an engine computes what modules do. It raises KeyError for weights that a module lacks, and faults."""

    def pool(self, kinds: Sequence[str]) -> Step:
        """From the states of tokens one vector by each of *kinds*, joined."""

    def dense(self, part: Part) -> Step:
        """A linear layer, and its activation."""

    def layer_norm(self, part: Part) -> Step:
        """To a mean of 0 and a variance of 1, then scaled and shifted."""

    def normalize(self) -> Step:
        """To length one."""


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
        strange = next((kind for kind in kinds if kind not in POOLINGS), None)
        if strange is not None:
            raise Unsupported(
                f"{self.plan.model} pools by {strange}, which this backend does not.",
                f"It pools by one of {', '.join(POOLINGS)}.",
            )
        return kinds

    def steps(self, asked: str, maker: Maker[Step]) -> list[Step]:
        """What follows the network. *asked*: a pooling instead of the folder's own. Raises Unsupported, LoadFailed."""
        strange = next((part.kind for part in self.parts if part.kind not in RUNS), None)
        if strange is not None:
            raise Unsupported(
                f"{self.plan.model} has a module {strange!r}, which this backend does not run.",
                f"It runs {', '.join(RUNS)}.",
            )
        if not self.parts:
            return [maker.pool([asked or "mean"])]
        return [step for part in self.parts for step in self._steps(part, asked, maker)]

    def _steps(self, part: Part, asked: str, maker: Maker[Step]) -> list[Step]:
        try:
            if part.kind == "Pooling":
                return [maker.pool([asked] if asked else self.poolings())]
            if part.kind == "Dense":
                return [maker.dense(part)]
            if part.kind == "LayerNorm":
                return [maker.layer_norm(part)]
        except KeyError as error:
            raise LoadFailed(
                f"{part.folder.name} of {self.plan.model} has no weights {error}.", "Get it again."
            ) from error
        return [maker.normalize()] if part.kind == "Normalize" else []

    def score(self, config: Mapping[str, Any]) -> str:
        """The function that a cross-encoder's score goes through, by its name in torch; empty: it does not say.

        CrossEncoder's own order: config_sentence_transformers.json, then *config*, which is config.json, in its newer
        and older words.
        """
        beside = config.get("sentence_transformers")
        said = (
            self.said.get("activation_fn"),
            beside.get("activation_fn") if isinstance(beside, dict) else None,
            config.get("sbert_ce_default_activation_function"),
        )
        return next((name for name in said if isinstance(name, str)), "")

    def check_ranks(self, labels: int) -> None:
        """Raise Unsupported where a model with *labels* is no cross-encoder that this backend runs."""
        strange = next((part.kind for part in self.parts if part.kind not in ("Transformer", "Dropout")), None)
        if strange is not None:
            raise Unsupported(
                f"{self.plan.model} scores with a module {strange!r}, which this backend does not run.",
                "Use a cross-encoder that classifies sequences.",
            )
        if labels > 2:
            raise Unsupported(f"{self.plan.model} has {labels} labels; one that ranks has 1 or 2.")


def unknown_function(name: str, whose: str, runs: str) -> Unsupported:
    """Why a module of *whose* is refused. *runs*: what the backend has instead, as a sentence."""
    return Unsupported(f"{whose} wants the function {name!r}, which this backend does not run.", runs)


def read(plan: Plan, folder: Path) -> Sentence:
    """What lies beside the weights of *plan*, whose config.json is in *folder*. Raises LoadFailed."""
    listing = next((name for name in plan.match.files if Path(name).name == MODULES), None)
    if listing is None:
        return Sentence(plan, (), {}, _json(plan, folder / _SAID, missing={}))
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
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} of {plan.model} cannot be read: {error}.", "Get the model again.") from error
