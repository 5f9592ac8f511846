"""What a plugin's author states for the conformance kit, and what its checks stand on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from anyform.contract.facts import (
    BackendInfo,
    Device,
    FormatMatch,
    Metadata,
    ModelFiles,
    Plan,
    Settings,
)
from anyform.contract.hooks import ModelSource
from anyform.contract.jobs import (
    Answer,
    Caption,
    Chat,
    Classify,
    Complete,
    EditImage,
    Embed,
    Generation,
    Image,
    Job,
    Message,
    Picture,
    Rerank,
    Sampling,
    Text,
    VaryImage,
    ZeroShot,
)
from anyform.contract.model import LoadedModel
from anyform.kernel.plugins import GROUP
from anyform.testing.asking import Asked, read
from anyform.testing.picture import png
from anyform.workers.wire import Decoder, pack

GENERATING_TASKS = ("chat", "complete")
TEXT_TASKS = ("chat", "complete", "embed", "rerank")
PAINTING_TASKS = (Image.task, EditImage.task, VaryImage.task)
PAINTED = Image(prompt="a small boat", width=64, height=64, steps=2, seed=1)
TEXTS = ("a small boat", "the sea", "once upon a time a small boat lay in the sea")
"""Inputs of several lengths, so that a batch of them is padded."""
CANVAS = Picture(data=png(PAINTED.width or 0, PAINTED.height or 0), media_type="image/png")
GREEDY = Sampling(temperature=0.0, seed=1)


class Subject:
    """One plugin under test. Override the class attributes, `samples`, and what does not fit."""

    plugin: ClassVar[str] = ""
    """The name of its entry point."""
    module: ClassVar[str] = ""
    """The module that the entry point names."""
    format_module: ClassVar[str] = ""
    """The module that detects the samples, where it is another plugin's."""
    light: ClassVar[Sequence[str]] = ()
    """Top-level modules beside the standard library that importing the plugin may import."""
    where: ClassVar[Sequence[str]] = ("here", "worker")
    """Where models are run; a worker finds the plugin by its entry point only, so it must be installed."""
    settings: ClassVar[Settings] = Settings(context=256)
    """Load-time settings for the samples; room for a few hundred tokens and more."""
    wait_s: ClassVar[float] = 60.0
    """How long a short job on a tiny model may take on a busy machine."""
    stop_s: ClassVar[float] = 10.0
    """How long a stopped job may go on: many engine steps of any model, few enough to wait for."""
    near: ClassVar[float] = 1e-3
    """How far numbers of one input may lie apart, alone and in a batch, as a share of the largest of them."""
    _kept: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Each subclass keeps its own samples and models."""
        super().__init_subclass__(**kwargs)
        cls._kept = {}

    @classmethod
    def teardown_class(cls) -> None:
        """Close the models that the checks shared."""
        for name, kept in cls._kept.items():
            if name.startswith("model "):
                kept.close()
        cls._kept.clear()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run the checks that take *where* once in each place."""
        if "where" in metafunc.fixturenames:
            metafunc.parametrize("where", self.where)

    def samples(self, folder: Path) -> list[Path]:
        """Write one or more tiny sound models, each in a folder of its own below *folder*; return those folders."""
        raise NotImplementedError("override samples(): write tiny models of your format and return their folders")

    def source(self, folder: Path) -> ModelSource | None:
        """Your source as it reads a store in *folder*: write a small one there first, if *folder* exists.

        None: the source cannot be told where to look, or there is none; then `list_sources` is taken as it is.
        """
        return None

    def jobs(self, metadata: Metadata) -> list[Job]:
        """Short jobs, one for each task of the model; override for speech."""
        short = Generation(sampling=GREEDY, max_tokens=8)
        pictures = tuple(Picture(data=png(seed=number), media_type="image/png") for number in range(3))
        inputs: tuple[str | Picture, ...] = pictures if "vision" in metadata.features else TEXTS
        known: dict[str, Job] = {
            "chat": chat("Say three words.", short),
            "complete": Complete(prompt="Once upon a time", generation=short),
            "embed": Embed(inputs=inputs),
            "rerank": Rerank(query="boat", documents=("a small boat", "a mountain")),
            "classify": Classify(inputs=inputs),
            "zero_shot": ZeroShot(inputs=inputs, labels=("boat", "sea")),
            "caption": Caption(picture=pictures[0], max_tokens=8),
            "answer": Answer(picture=pictures[0], question="what is it?", max_tokens=8),
            "image": replace(PAINTED, n=2, partials=1),
            "edit_image": EditImage(pictures=(CANVAS,), mask=CANVAS, image=PAINTED, strength=1.0),
            "vary_image": VaryImage(picture=CANVAS, image=PAINTED, strength=1.0),
        }
        return [known[task] for task in metadata.tasks if task in known]

    def long_job(self, metadata: Metadata) -> Job | None:
        """A job that would go on for long if it were not stopped; None: the model has none."""
        endless = Generation(sampling=GREEDY, ignore_eos=True)
        if "complete" in metadata.tasks:
            return Complete(prompt="Once upon a time", generation=endless)
        if "image" in metadata.tasks:
            return replace(PAINTED, steps=1000)
        return chat("Tell me a story.", endless) if "chat" in metadata.tasks else None

    def too_long_job(self, metadata: Metadata, context: int) -> Job | None:
        """A job whose prompt is longer than *context* tokens; None: the model has no context."""
        prompt = "many words " * context
        known: dict[str, Job] = {
            "complete": Complete(prompt=prompt),
            "chat": chat(prompt, Generation()),
            "embed": Embed(inputs=(prompt,)),
            "rerank": Rerank(query="words", documents=(prompt,)),
            "classify": Classify(inputs=(prompt,)),
        }
        if "vision" in metadata.features and not {"chat", "complete"} & {*metadata.tasks}:
            return None
        return next((known[task] for task in known if task in metadata.tasks), None)

    @pytest.fixture
    def folders(self, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        """The samples, written once."""
        if "folders" not in self._kept:
            self._kept["folders"] = self.samples(tmp_path_factory.mktemp("samples"))
        kept: list[Path] = self._kept["folders"]
        return kept

    @pytest.fixture
    def tables(self) -> Mapping[str, Any]:
        """Your plugin's part of the settings file; override this fixture where an engine or a device is found by it."""
        return {}

    @pytest.fixture
    def asked(self, tables: Mapping[str, Any]) -> Asked:
        """The plugin's module."""
        return Asked(self.module, tables)

    @pytest.fixture
    def reader(self, asked: Asked) -> Asked:
        """The module that reads the samples."""
        return Asked(self.format_module) if self.format_module else asked

    @pytest.fixture
    def plans(self, folders: list[Path], asked: Asked, reader: Asked) -> list[Plan]:
        """A plan for the first match of each sample, with the first backend that reads it."""
        plans = []
        for folder in folders:
            files, match = read(reader, folder)[0]
            metadata = reader.ask("extract_metadata", files=files, match=match)
            readers = [info for info in self._backends(asked) if match.format in (*info.reads, *info.converts)]
            devices = asked.ask_if_there("find_devices")
            plans += [self._plan(folder, match, metadata, info, devices) for info in readers[:1]]
        if not plans:
            pytest.skip(f"{self.module} brings no backend for its samples")
        return plans

    def _plan(
        self, folder: Path, match: FormatMatch, metadata: Metadata, info: BackendInfo, devices: Sequence[Device]
    ) -> Plan:
        return Plan(
            plugin=self.plugin,
            backend=info.name,
            model=folder.name,
            path=str(folder),
            match=match,
            metadata=metadata,
            settings=replace(self.settings, options={**info.options, **self.settings.options}),
            devices=tuple(device for device in devices if device.kind in info.devices)[:1],
        )

    def _need(self, asked: Asked, hook: str) -> None:
        if not asked.has(hook):
            pytest.skip(f"{self.module} does not implement {hook}")

    @staticmethod
    def _need_engine(backend: BackendInfo) -> None:
        if backend.trouble:
            pytest.skip(f"{backend.name} cannot be used here: {backend.trouble}")
        for name in backend.engine:
            try:
                importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                pytest.skip(f"{name} is not installed; {backend.install}")

    @staticmethod
    def _backends(asked: Asked) -> list[BackendInfo]:
        found: list[BackendInfo] = asked.ask_if_there("list_backends")
        return found

    def _backend(self, asked: Asked, plan: Plan) -> BackendInfo:
        return next(info for info in self._backends(asked) if info.name == plan.backend)

    @staticmethod
    def _matches(folders: Sequence[Path], reader: Asked) -> list[tuple[ModelFiles, FormatMatch]]:
        return [found for folder in folders for found in read(reader, folder)]

    def _load(self, where: str, plan: Plan, asked: Asked) -> LoadedModel:
        self._need_engine(self._backend(asked, plan))
        if where == "here":
            model: LoadedModel = asked.ask("load", plan=plan)
            return model
        from anyform.workers.isolation import Workers

        installed = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}
        assert self.plugin in installed, (
            f"no entry point {self.plugin!r} in the group {GROUP!r} is installed, so a worker cannot find the plugin. "
            f"Install it (pip install -e .) or set where = ('here',)."
        )
        return Workers().load(plan)

    def _model(self, where: str, plan: Plan, asked: Asked) -> LoadedModel:
        """The model of *plan*, loaded once for all checks."""
        key = f"model {where} {plan.model}"
        if key not in self._kept:
            self._kept[key] = self._load(where, plan, asked)
        model: LoadedModel = self._kept[key]
        return model


def chat(text: str, generation: Generation) -> Chat:
    return Chat(messages=(Message(role="user", parts=(Text(text=text),)),), generation=generation)


def check_wire(fact: Any) -> None:
    try:
        [back] = Decoder().feed(pack(fact))
    except Exception as error:
        raise AssertionError(
            f"{type(fact).__name__} cannot cross the wire ({type(error).__name__}: {error}). Fields typed Mapping hold "
            f"JSON values only: no paths, sets, arrays or objects."
        ) from error
    assert back == fact, f"{type(fact).__name__} comes back from the wire changed: {back!r}, not {fact!r}."
