"""The library that stands in for Rockchip's, compiled by the tests themselves."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.facts import Plan, Settings
from anyform.contract.jobs import Chat, Message
from anyform.contract.jobs import Text as Words
from anyform.testing import compiling, jobs, rkllm
from anyform_rkllm.backend import open_library
from anyform_rkllm.info import LIBRARY
from anyform_rkllm.layout import Abi, Era, InputType

SOURCE = Path(__file__).parent / "stand_in" / "stand_in.cpp"


@pytest.fixture(scope="session")
def stand_in() -> Callable[..., Path]:
    """Era -> a library of that ABI, built once; audio: 1.3.1 in place of 1.3.0. Skips where there is no compiler."""

    def built(era: Era, audio: bool = False) -> Path:
        if not compiling.compiler():
            pytest.skip("there is no C++ compiler (such as g++) to build the stand-in library with")
        return compiling.shared_library(SOURCE, LIBRARY, {"ERA": int(era), "AUDIO": int(audio)})

    return built


class Driven:
    """A model in the stand-in, driven by its functions alone: nothing of the engine is between."""

    def __init__(self, library: Path, model: Path, **parameters: Any) -> None:
        self.bound = open_library(library, stand_in=True)
        self.abi, self.era = self.bound.abi, self.bound.abi.era
        self.handle, self.model = ctypes.c_void_p(), model
        self.results: list[Told] = []
        self.meanwhile: Callable[[Told], int | None] = lambda told: None
        """Called with each result; what it gives is what the callback returns."""
        self._take = self.abi.result_callback(self._taken)
        param = self.bound.default_param()
        param.model_path = str(model).encode()
        for name, value in parameters.items():
            setattr(param if hasattr(param, name) else param.extend_param, name, value)
        callbacks = self.abi.new("Callback", result_callback=self._take) if self.era >= Era.V13 else None
        third = ctypes.byref(callbacks) if callbacks else self._take
        self.code = self.bound.init(ctypes.byref(self.handle), ctypes.byref(param), third)

    def _taken(self, result: Any, userdata: Any, state: int) -> int | None:
        told = Told.of(self.abi, result.contents, state)
        self.results.append(told)
        given = self.meanwhile(told)
        return int(given or 0) if self.era >= Era.V121 else None

    def input(self, text: str = "", tokens: Sequence[int] = ()) -> Any:
        made = self.abi.new("Input", input_type=InputType.TOKEN if tokens else InputType.PROMPT)
        if tokens:
            made.data.token_input.input_ids = (ctypes.c_int32 * len(tokens))(*tokens)
            made.data.token_input.n_tokens = len(tokens)
        else:
            made.data.prompt_input = text.encode()
        if self.abi.has_roles:
            made.role = b"user"
        return made

    def run(self, text: str | Any, tokens: Sequence[int] = (), asynchronous: bool = False, **infer: Any) -> int:
        """What rkllm_run gives. *infer*: fields of InferParam; structures in them are passed by address."""
        given = self.input(text, tokens) if isinstance(text, str) else text
        held = {name: value for name, value in infer.items() if isinstance(value, ctypes.Structure)}
        addresses = {name: ctypes.addressof(value) for name, value in held.items()}
        self.kept = given, held, self.abi.new("InferParam", **{**infer, **addresses})
        run = self.bound.run_async if asynchronous else self.bound.run
        return int(run(self.handle, ctypes.byref(given), ctypes.byref(self.kept[2]), None))

    def said(self, text: str | Any, tokens: Sequence[int] = (), **infer: Any) -> str:
        """The text that a run says, which goes well."""
        before = len(self.results)
        assert self.run(text, tokens, **infer) == 0
        return b"".join(one.text or b"" for one in self.results[before:]).decode()

    def close(self) -> None:
        if self.handle:
            self.bound.destroy(self.handle)
            self.handle = ctypes.c_void_p()


@dataclass(frozen=True)
class Told:
    """A result, copied."""

    state: int
    text: bytes | None
    token: int
    rows: tuple[list[float], int, int]
    """Hidden states, or logits: (numbers, how many a row, rows)."""
    perf: tuple[float, ...] = ()
    thread: int = 0

    @classmethod
    def of(cls, abi: Abi, result: Any, state: int) -> Told:
        hidden, logits = result.last_hidden_layer, getattr(result, "logits", None)
        rows: tuple[list[float], int, int] = [], 0, 0
        if hidden.hidden_states:
            rows = hidden.hidden_states[: hidden.embd_size * hidden.num_tokens], hidden.embd_size, hidden.num_tokens
        elif logits is not None and logits.logits:
            rows = logits.logits[: logits.vocab_size * logits.num_tokens], logits.vocab_size, logits.num_tokens
        perf = tuple(getattr(result.perf, name) for name, _ in result.perf._fields_) if abi.measures else ()
        text = ctypes.string_at(result.text) if result.text else None
        return cls(state, text, result.token_id, rows, perf, threading.get_ident())


@pytest.fixture
def drive(stand_in: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Driven]]:
    """(era, facts of the model, parameters of rkllm_init) -> the model in the stand-in."""
    made: list[Driven] = []

    def begin(era: Era, facts: str = '"context":4096', **parameters: Any) -> Driven:
        model = tmp_path / "model.rkllm"
        model.write_bytes(b"a file\nSTANDIN {" + facts.encode() + b"}\nand more")
        made.append(Driven(stand_in(era), model, **parameters))
        return made[-1]

    yield begin
    for one in made:
        one.close()


class Kit(jobs.Kit):
    """Loads models as the kernel would, and asks them."""

    def __init__(self, library: Callable[[Era], Path], folder: Path) -> None:
        self._library, self._folder = library, folder
        self.models: list[Any] = []

    def load(
        self,
        era: Era,
        *,
        tokenizer: bool = True,
        markers: bool = True,
        template: str = rkllm.CHATML,
        facts: Mapping[str, Any] | None = None,
        sidecars: Mapping[str, Any] | None = None,
        tasks: tuple[str, ...] = (),
        context: int | None = None,
        by: str = "model",
        **options: Any,
    ) -> Any:
        """A model with all its files; without *tokenizer* one with the *template* alone, and without both by itself.

        *markers*: whether <think> and the like are tokens, which the stand-in does not read as words. *facts*: of the
        stand-in's model. *sidecars*: JSON files beside it, written last. *by*: the load option template.
        """
        from anyform_rkllm import backend

        folder = self._folder / f"model{len(self.models)}"
        rkllm.write_model(folder, template=template, trailer="1.1.0", stand_in={"toolkit": "1.1.0", **(facts or {})})
        away = [] if tokenizer else ["tokenizer.json", *([] if template else ["tokenizer_config.json"])]
        for name in away:
            (folder / name).unlink()
        if not markers:
            content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
            kept = [token for token in content["added_tokens"] if token["special"]]
            (folder / "tokenizer.json").write_text(json.dumps(content | {"added_tokens": kept}), "utf-8")
        for name, content in (sidecars or {}).items():
            (folder / name).write_text(json.dumps(content), "utf-8")
        machine = {"library": str(self._library(era)), "stand_in": True, "platform": "RK3588", "base_domain_id": 0}
        given = {**machine, "template": by, **options}
        self.models.append(backend.load(self._plan(folder, tasks, Settings(context=context, options=given))))
        return self.models[-1]

    @staticmethod
    def _plan(folder: Path, tasks: tuple[str, ...], settings: Settings) -> Plan:
        from anyform.kernel.files import FolderFiles
        from anyform_rkllm import detection, metadata

        files = FolderFiles(folder)
        (match,) = detection.detect(files)
        found = metadata.extract(files, match)
        found = replace(found, tasks=tasks or found.tasks)
        return Plan(
            plugin="rkllm",
            backend="rkllm",
            model=folder.name,
            path=str(folder),
            match=match,
            metadata=found,
            settings=settings,
        )

    @staticmethod
    def turns(*texts: str, system: str = "", **fields: Any) -> Chat:
        """A conversation: the user's words and the assistant's, one after another."""
        roles = ("user", "assistant")
        before = (Message(role="system", parts=(Words(text=system),)),) if system else ()
        said = [Message(role=roles[place % 2], parts=(Words(text=text),)) for place, text in enumerate(texts)]
        return Chat(messages=(*before, *said), **fields)


@pytest.fixture
def kit(stand_in: Callable[..., Path], tmp_path: Path) -> Iterator[Kit]:
    """Loads models over the stand-in, and closes them when the test is over."""
    made = Kit(stand_in, tmp_path)
    yield made
    for model in made.models:
        model.close()
