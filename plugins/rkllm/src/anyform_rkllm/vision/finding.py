"""Which file beside a model is its vision encoder, by names alone; nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from anyform_rkllm import name as names_of
from anyform_rkllm.board import chip
from anyform_rkllm.info import SUFFIX

NPU, GRAPH = FORMS = (".rknn", ".onnx")
"""The NPU's form of an encoder, and that which any machine's CPU runs."""
_SEES = re.compile(r"vision|visual|(?<![a-z])(?:vit|clip|siglip|mmproj)(?![a-z])", re.IGNORECASE)
_DATA = (".data", "_data")


@dataclass(frozen=True, slots=True)
class Choice:
    """The encoder's name, or why there is none."""

    name: str = ""
    trouble: str = ""


def encoders(names: Iterable[str]) -> tuple[str, ...]:
    """Those of *names* that are called as vision encoders are: `qwen2_vl_vision_rk3588.rknn`, `vision_encoder.onnx`."""
    return tuple(name for name in names if name.lower().endswith(FORMS) and _SEES.search(PurePosixPath(name).stem))


def data(names: Iterable[str], encoder: str) -> tuple[str, ...]:
    """Those of *names* that hold the weights of *encoder*, a .onnx whose weights lie outside."""
    graph = encoder.lower().endswith(GRAPH)
    return tuple(name for name in names if graph and name in {encoder + end for end in _DATA})


def choose(names: Iterable[str], model: str, platform: str = "") -> Choice:
    """The one of *names* that encodes pictures for *model*, a .rkllm among them, on *platform* ("": any).

    A name that speaks of another platform, or that begins as another model of *names* does, is none. The NPU's form
    comes before the CPU's. Several of one form that fit are none: nobody could say which.
    """
    listed = tuple(names)
    found = encoders(listed)
    if not found:
        return Choice(trouble=f"no vision encoder (a {NPU} or {GRAPH} with 'vision' in its name) lies beside it")
    there = [name for name in found if runs_on(name, platform)]
    if not there:
        return Choice(trouble=f"{_told(found)} is made for another platform than {platform}")
    own = [name for name in there if not _is_of_another(name, model, listed)]
    if not own:
        return Choice(trouble=f"{_told(there)} is of another model that lies beside it")
    form = next(suffix for suffix in FORMS if any(name.lower().endswith(suffix) for name in own))
    fitting = [name for name in own if name.lower().endswith(form)]
    named = [name for name in fitting if _begins(name, model)]
    one = named if len(named) == 1 else fitting
    if len(one) > 1:
        return Choice(trouble=f"several vision encoders lie beside it: {_told(one)}")
    return Choice(one[0])


def runs_on(name: str, platform: str) -> bool:
    """Whether nothing in an encoder's *name* speaks against *platform*: a .onnx runs on the CPU of any."""
    made, wanted = names_of.platforms(PurePosixPath(name).name), chip(platform)
    return not wanted or not made or wanted in made or name.lower().endswith(GRAPH)


def _is_of_another(name: str, model: str, names: Sequence[str]) -> bool:
    if not _title(name) or _begins(name, model):
        return False
    return any(_begins(name, other) for other in names if other.lower().endswith(SUFFIX))


def _begins(name: str, model: str) -> bool:
    """Whether *model* is called as the encoder *name* is, up to the word that makes it one."""
    title = _title(name)
    return bool(title) and _plain(PurePosixPath(model).stem).startswith(title)


def _title(name: str) -> str:
    return _plain(_SEES.split(PurePosixPath(name).stem)[0])


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _told(names: Sequence[str]) -> str:
    return " and ".join(names)
