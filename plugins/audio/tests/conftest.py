"""Tiny models of speech that the engine's tests load, plans for them, and how they are asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.events import Blob, Done, Event, Progress, Segment
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings
from anyform.contract.jobs import Sound, Speak, Transcribe, Translate
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import jobs
from anyform.testing.safetensors import Tensor, write_safetensors
from anyform.testing.whisper import TEXT, voice, wave_file, write_whisper

SPEECH = Path(__file__).parents[3] / "tests" / "media" / "jfk.flac"
POSITIONS = 448
LOUD = 16.0
"""What the last layer always says in its first place, by which tokens are made likelier or less likely."""
CHANGE = 4.0
"""How much more than the last token its place says what comes next; else words go round in circles."""
LEANING = {"words": 0.275, "end": 0.4, "others": -2.0}


def talkative(folder: Path, **wanted: Any) -> Path:
    """What transformers reads: a Whisper that says whole words, between times: bytes and marks never win."""
    from anyform_audio.hearing.tensors import Tensors

    write_whisper(folder, **{"positions": POSITIONS, **wanted})
    held = Tensors(folder, ["model.safetensors"])
    found = {name: held.get(name).copy() for name in held.names}  # type: ignore[union-attr]
    tokens = found["decoder.embed_tokens.weight"]
    times = len(tokens) - 1501
    tokens[:, 0] = 0
    tokens[:times, 0] = LEANING["others"]
    tokens[256 : TEXT - 1, 0] = LEANING["words"]
    tokens[TEXT, 0] = LEANING["end"]
    found["decoder.embed_positions.weight"] *= CHANGE
    found["decoder.layer_norm.weight"][0], found["decoder.layer_norm.bias"][0] = 0, LOUD
    write_safetensors(
        folder / "model.safetensors",
        [Tensor(f"model.{name}", array.shape, "F32", array.tobytes()) for name, array in found.items()],
    )
    return folder


def plan(
    folder: Path, *, parallel: int | None = 2, device: str | None = None, english: bool = False, **options: Any
) -> Plan:
    """A plan as the kernel makes it."""
    names = tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()
    ours = "model.bin" in names
    tasks = ("transcribe",) if english else ("transcribe", "translate")
    return Plan(
        plugin="audio",
        backend="faster_whisper",
        model=folder.name,
        path=str(folder),
        match=FormatMatch(
            format="ctranslate2" if ours else "whisper",
            entry="model.bin" if ours else ".",
            files=names,
            evidence=Evidence.MAGIC,
            why="a test wrote it",
        ),
        metadata=Metadata(name=folder.name, architecture="whisper", tasks=tasks, context=POSITIONS),
        settings=Settings(parallel=parallel, device=device, options=options),
    )


class Heard:
    """All events of one request."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.segments = [event for event in events if isinstance(event, Segment)]
        self.progress = [event for event in events if isinstance(event, Progress)]
        done = events[-1]
        assert isinstance(done, Done)
        assert sum(isinstance(event, Done) for event in events) == 1
        self.done = done

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)

    @property
    def tokens(self) -> list[list[int]]:
        return [segment.extra["tokens"] for segment in self.segments]

    @property
    def words(self) -> list[dict[str, Any]]:
        return [word for segment in self.segments for word in segment.extra["words"]]


class HearingKit(jobs.Kit):
    """What the tests of hearing call."""

    SPEECH = SPEECH
    LONG = wave_file(voice(20) * 20)
    """Some minutes."""
    plan = staticmethod(plan)
    talkative = staticmethod(talkative)

    @staticmethod
    def hear(model: LoadedModel, file: bytes, stop: Stop | None = None, **wanted: Any) -> Heard:
        kind = Translate if wanted.pop("translate", False) else Transcribe
        return Heard(list(model.generate(kind(audio=Sound(data=file), **wanted), stop or Stop())))

    @staticmethod
    def sound(seconds: float, seed: int = 0) -> bytes:
        return wave_file(voice(seconds, seed))


@pytest.fixture(scope="session")
def hearing() -> type[HearingKit]:
    pytest.importorskip("faster_whisper")
    return HearingKit


@pytest.fixture(scope="session")
def talker(hearing: type[HearingKit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers reads: a multilingual Whisper."""
    return hearing.talkative(tmp_path_factory.mktemp("speech") / "several")


@pytest.fixture(scope="session")
def english_talker(hearing: type[HearingKit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers reads: a Whisper that knows English only."""
    return hearing.talkative(tmp_path_factory.mktemp("speech") / "several.en", english=True)


@pytest.fixture(scope="session")
def converted(hearing: type[HearingKit], talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CTranslate2's files of `talker`."""
    from anyform_audio.hearing.conversion import convert

    out = tmp_path_factory.mktemp("converted") / "ct2"
    out.mkdir()
    convert(hearing.plan(talker), talker, out)
    return out


@pytest.fixture(scope="module")
def loaded(hearing: type[HearingKit]) -> Iterator[Callable[..., LoadedModel]]:
    """Loads folders; the models live as long as the module."""
    from anyform_audio.hearing import backend

    models: list[LoadedModel] = []

    def load(folder: Path, **settings: Any) -> LoadedModel:
        models.append(backend.load(hearing.plan(folder, **settings)))
        return models[-1]

    yield load
    for model in models:
        model.close()


class Spoken:
    """All events of one request to speak."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.blobs = [event for event in events if isinstance(event, Blob)]
        done = events[-1]
        assert isinstance(done, Done)
        assert sum(isinstance(event, Done) for event in events) == 1
        self.done = done

    @property
    def data(self) -> bytes:
        return b"".join(blob.data for blob in self.blobs)


class SpeakingKit(jobs.Kit):
    """What the tests of speech call."""

    @staticmethod
    def plan(folder: Path, *, parallel: int | None = None, **options: Any) -> Plan:
        """A plan as the kernel makes it, from what the format's side finds in *folder*."""
        from anyform.kernel.files import FolderFiles
        from anyform_audio import form

        files = FolderFiles(folder)
        match = form.detect(files)[0]
        return Plan(
            plugin="audio",
            backend=match.format,
            model=folder.name,
            path=str(folder),
            match=match,
            metadata=form.of(match.format).extract(files, match),
            settings=Settings(parallel=parallel, options=options),
        )

    @staticmethod
    def say(model: LoadedModel, text: str, stop: Stop | None = None, **wanted: Any) -> Spoken:
        return Spoken(list(model.generate(Speak(text=text, **wanted), stop or Stop())))


@pytest.fixture(scope="session")
def speaking() -> type[SpeakingKit]:
    return SpeakingKit


@pytest.fixture(scope="module")
def speaker(speaking: type[SpeakingKit]) -> Iterator[Callable[..., Any]]:
    """Loads folders of models of speech, which live as long as the module."""
    from anyform_audio import engine

    models: list[LoadedModel] = []

    def load(folder: Path, **settings: Any) -> LoadedModel:
        plan = speaking.plan(folder, **settings)
        models.append(engine.of(plan.backend).load(plan))
        return models[-1]

    yield load
    for model in models:
        model.close()
