"""From a plan to a loaded model: what all kinds of models share, and which module makes which kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid, LoadFailed, OutOfMemory, Unsupported
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform_onnx import layout, manifest
from anyform_onnx.backend import tokenizers
from anyform_onnx.options import Options
from anyform_onnx.session import Session, open_session

PARALLEL = 4
CONTEXT = 8192
"""What a plan that names no context gets, or the training context if that is less."""
_MOST_PARALLEL = 256
_CHAT = ("chat", "complete")


def load(plan: Plan, options: Options) -> LoadedModel:
    """The model, warmed up. Raises Invalid, LoadFailed, OutOfMemory, Unsupported."""
    loading = Loading(plan, options)
    maker = import_module(f"anyform_onnx.{kind(loading)}loading")
    try:
        made: LoadedModel = maker.load(loading)
    except MemoryError as error:
        raise OutOfMemory(
            f"there is no memory to run {plan.model}: {error}.", "Use a smaller context or fewer parallel requests."
        ) from error
    tell(made, loading.sessions)
    return made


def tell(model: LoadedModel, sessions: Sequence[Session]) -> None:
    """Let *model* say what *sessions* really run on, and what went otherwise than planned."""
    runs_on = "; ".join(dict.fromkeys(session.runs_on for session in sessions))
    notes = tuple(dict.fromkeys(note for session in sessions for note in session.notes))
    for name, value in (("runs_on", runs_on), ("notes", notes)):
        setattr(model, name, value)  # the models are the toolkit's, which knows no engine


def kind(loading: Loading) -> str:
    """Which module makes the model: text, vector or picture."""
    metadata = loading.plan.metadata
    if not metadata.tasks:
        raise Unsupported(f"{loading.plan.model} is a graph that this backend knows no task for.")
    if metadata.tasks[0] in _CHAT:
        return "text"
    return "picture" if "vision" in metadata.features else "vector"


class Loading:
    """One plan, and what is read for it once."""

    def __init__(self, plan: Plan, options: Options) -> None:
        self.plan = plan
        self.options = options
        self.sessions: list[Session] = []
        """What `open` gave."""

    def open(self, path: Path, *, spins: bool = True) -> Session:
        """The graph *path*, on the plan's device. *spins*: see `Options.spinning`, which is asked first.

        Raises Invalid, LoadFailed, MemoryError.
        """
        device = self.plan.devices[0].id if self.plan.devices else "cpu"
        spinning = spins if self.options.spinning is None else self.options.spinning
        session = open_session(path, replace(self.options, spinning=spinning), device, model=self.plan.model)
        self.sessions.append(session)
        return session

    @cached_property
    def folder(self) -> Path:
        """Where config.json and the tokenizer lie: where they were when the model was validated (`layout.home`)."""
        match = self.plan.match
        return Path(self.plan.path) / layout.home_among(match.files, match.entry)

    @cached_property
    def own(self) -> Path:
        """The entry's folder."""
        return (Path(self.plan.path) / self.plan.match.entry).parent

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """config.json; empty where there is none. Raises LoadFailed."""
        return self.json("config.json")

    def json(self, name: str) -> Mapping[str, Any]:
        """An object from a file of the folder; empty: there is no such file. Raises LoadFailed."""
        path = (self.own if name == layout.GENAI_CONFIG else self.folder) / name
        if not path.is_file():
            return {}
        try:
            found = self._genai(path) if name == layout.GENAI_CONFIG else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise LoadFailed(f"{name} of {self.plan.model} cannot be read: {error}.", "Get the model again.") from error
        return found if isinstance(found, dict) else {}

    def _genai(self, path: Path) -> Any:
        """Judged again, as it is now. Raises LoadFailed, OSError, ValueError."""
        said = manifest.strict(path.read_bytes())
        for finding in manifest.harm(str(path), said):
            raise LoadFailed(finding.text)
        return said

    @cached_property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`, which neither cuts nor pads. Raises LoadFailed."""
        path = self.folder / "tokenizer.json"
        try:
            made = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise LoadFailed(
                f"the tokenizer of {self.plan.model} cannot be read: {error}.", "It needs a sound tokenizer.json."
            ) from error
        made.no_truncation()
        made.no_padding()
        return made

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
        return context or min(self.plan.metadata.context or CONTEXT, CONTEXT)
