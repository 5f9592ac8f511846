"""Which model a command means that may leave it out: the one that is named, the default, or the best that can do it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from anyform.cli.arguments import read_config
from anyform.cli.background import waited
from anyform.cli.opening import Where, opened, opened_for, spelled
from anyform.cli.terminal import errors
from anyform.contract.errors import Fault, ModelNotFound
from anyform.contract.facts import Severity

if TYPE_CHECKING:
    from anyform.contract.facts import Metadata
    from anyform.kernel.runtime import Description, Runtime

Suits: TypeAlias = "Callable[[Metadata], int]"
"""How well a model suits what is asked for; more is better, beside size."""

DOES = {
    "transcribe": "writes down speech",
    "translate": "translates speech",
    "speak": "speaks",
    "image": "paints",
    "edit_image": "changes pictures",
    "vary_image": "varies pictures",
}
"""What a model that does a task does."""
PAINTING = ("image", "edit_image", "vary_image")
"""Tasks whose requests are done one after another, whatever `parallel` says."""
PULL = {
    "transcribe": "anyform pull Systran/faster-whisper-small",
    "translate": "anyform pull Systran/faster-whisper-small",
    "speak": "anyform pull onnx-community/Kokoro-82M-v1.0-ONNX:fp32",
    **dict.fromkeys(PAINTING, "anyform pull stable-diffusion-v1-5/stable-diffusion-v1-5:F16"),
}
"""What fetches one to begin with."""


def add_choice(parser: ArgumentParser, task: str) -> None:
    """The model, as an option."""
    text = f"a file, a folder, or a name; without it the default_model, else the largest here that {DOES[task]}"
    parser.add_argument("--model", default="", metavar="MODEL", help=text)


@contextmanager
def opened_to(
    task: str, args: Namespace, where: Where = "worker", suits: Suits = lambda metadata: 0
) -> Iterator[tuple[Runtime, str]]:
    """A runtime, and the name in it of the model that is to do *task*; what `args.model` left open is told.

    Raises ModelNotFound where no model does, and why the best of those that would cannot.
    """
    if args.model:
        with opened_for(args, where, absent="pull") as (runtime, name):
            _tell(name, runtime.library.choice(spelled(runtime, args, name)))
            yield runtime, name
        return
    config = read_config(args)
    with opened(config, where) as runtime:
        able = _able(runtime, task, suits)
        default = _default(runtime, config.default_model)
        name = next((one.entry.name for one in able if one.entry.name == default), able[0].entry.name)
        if len(able) > 1 and name != default:
            _say(f"using {name}, {_why(name, able)} (also: {_listed(able, name)}); --model names another")
        yield runtime, name


def none(task: str) -> ModelNotFound:
    """The fault where no model does *task*."""
    return ModelNotFound(
        f"no model here {DOES[task]}.",
        f"Fetch one, such as with `{PULL[task]}`, or name a file or a folder with --model.",
    )


def _able(runtime: Runtime, task: str, suits: Suits) -> list[Description]:
    """The models that can do *task* here, the best first. Raises where there is none."""
    terminal = errors()
    try:
        known = waited(
            lambda: list(runtime.describe(runtime.library.entries())),
            lambda seconds: terminal.status(f"looking for models … {seconds:.0f} s"),
        )
    finally:
        terminal.status("")
    doing = [one for one in known if one.metadata and task in one.metadata.tasks]
    doing.sort(key=lambda one: _rank(one, suits), reverse=True)
    able = [one for one in doing if one.plugin]
    if able:
        return able
    raise next((one.fault for one in doing if one.fault), None) or none(task)


def _rank(one: Description, suits: Suits) -> tuple[int, bool, int, int]:
    assert one.metadata
    return suits(one.metadata), _sound(one), one.entry.size_bytes, one.metadata.parameters or 0


def _sound(one: Description) -> bool:
    """Whether validation warns of nothing."""
    return all(finding.severity < Severity.WARNING for finding in one.findings)


def _default(runtime: Runtime, name: str) -> str:
    """The full name of `default_model`; empty where there is none, or no such model here."""
    try:
        return runtime.find(name).name if name else ""
    except Fault:
        return ""


def _why(name: str, able: Sequence[Description]) -> str:
    """Why it is *name* that is taken of *able*."""
    sizes = {one.entry.name: one.entry.size_bytes for one in able}
    sound = {one.entry.name: one.entry.size_bytes for one in able if _sound(one)}
    if sizes[name] == max(sizes.values()):
        return f"the {'larger' if len(able) == 2 else 'largest'} of {len(able)}"
    if name in sound and sizes[name] == max(sound.values()):
        return f"the largest of {len(able)} of which `anyform validate` warns of nothing"
    return f"which of {len(able)} suits best what is asked for"


def _listed(able: Sequence[Description], but: str, few: int = 5) -> str:
    names = [one.entry.name for one in able if one.entry.name != but]
    return ", ".join(names[:few]) + (f" and {len(names) - few} more" if len(names) > few else "")


def _tell(name: str, choice: str) -> None:
    if choice:
        _say(f"{name}: {choice}")


def _say(text: str) -> None:
    errors().line(errors().paint(text, "dim"))
