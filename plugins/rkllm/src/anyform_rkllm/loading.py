"""From a plan to a loaded model: its options, its words, the engine, and what is to be said of all that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import Plan
from anyform_rkllm import engine, sampling, vision, wording
from anyform_rkllm.binding import Binding
from anyform_rkllm.board import BOARDS, chip
from anyform_rkllm.engine import Engine
from anyform_rkllm.layout import Era
from anyform_rkllm.model import RkllmModel
from anyform_rkllm.options import Options
from anyform_rkllm.prompting import Prompting
from anyform_rkllm.vision.finding import NPU
from anyform_rkllm.wording import Way, Wording

if TYPE_CHECKING:
    from anyform_rkllm.vision.encoding import Encoder

IGNORED = "sampling values of requests are ignored, and said to be: a library of ABI {abi} takes them at load"
RETOLD = (
    "conversations are put into words by the library's own template: earlier turns that it does not hold are told it "
    "in one text"
)


def load(plan: Plan, options: Options, binding: Binding, *, stand_in: bool) -> RkllmModel:
    """The model. *stand_in*: whether *binding* is the tests' library. Raises as `engine.start` does."""
    path = Path(plan.path) / plan.match.entry
    if plan.settings.parallel is not None and plan.settings.parallel < 1:
        raise Invalid(f"parallel is {plan.settings.parallel}.", "It must be 1; requests are run one after another.")
    chats = not plan.metadata.tasks or "chat" in plan.metadata.tasks
    home = _home(plan)
    words = wording.read(
        home, by_library=options.template == "library", chats=chats, blanks=binding.abi.era >= Era.V120
    )
    wanted = sampling.own(wording.defaults(home)) | options.sampling
    given = sampling.whole(wanted, words.words.size if words.words else None)
    typed = {name: _typed(name, value) for name, value in given.items()}
    options = replace(options, **{**dict.fromkeys(wanted), **typed})
    platform = chip(options.platform)
    options, sight, unseeing = _sight(plan, options, platform)
    board = BOARDS.get(platform)
    # Each run is told its most tokens. Before 1.3 they are counted here, and the library's own would end it sooner.
    told = replace(options, max_new_tokens=None)
    started = engine.start(
        binding,
        path,
        context=plan.settings.context,
        options=told,
        board=board,
        version=binding.version,
        first_domain=int(sight is not None and sight.path.suffix.lower() == NPU),
    )
    try:
        if words.way in (Way.TEXT, Way.PLAIN):
            started.template("", "", "")
    except BaseException:
        started.close()
        raise
    prompting = Prompting(
        abi=started.abi,
        wording=words,
        context=started.context,
        defaults=wanted,
        most=options.max_new_tokens,
        sight=sight,
        unseeing=unseeing,
    )
    return RkllmModel(
        started,
        prompting,
        runs_on=_runs_on(started, binding.version, options, stand_in),
        notes=_notes(plan, started, words, binding.version, stand_in),
        text_interval_s=options.text_interval,
        close=getattr(sight, "close", None),
    )


def _sight(plan: Plan, options: Options, platform: str) -> tuple[Options, Encoder | None, str]:
    """*options* with the words around pictures, and what encodes them; or why nothing does."""
    unseeing = vision.absence(plan, options, platform)
    if unseeing:
        return options, None, unseeing
    options = vision.marked(plan, options)
    return options, vision.encoder(plan, options, platform), ""


def _home(plan: Plan) -> Path:
    """The folder of the model's tokenizer; else of what else says how it is talked to."""
    places = {PurePosixPath(name).name: PurePosixPath(name).parent for name in plan.match.files}
    wanted = (wording.TOKENIZER, "tokenizer_config.json", "config.json", PurePosixPath(plan.match.entry).name)
    return Path(plan.path) / next(places[name] for name in wanted if name in places)


def _typed(name: str, value: float) -> Any:
    return int(value) if name in ("top_k", "mirostat") else float(value)


def _runs_on(started: Engine, version: str, options: Options, stand_in: bool) -> str:
    if stand_in:
        return f"stand-in {version}, no NPU"
    return f"NPU {started.limits.platform or chip(options.platform)} (librkllmrt {version})"


def _notes(plan: Plan, started: Engine, words: Wording, version: str, stand_in: bool) -> tuple[str, ...]:
    notes = []
    if stand_in:
        notes.append(f"this is the tests' stand-in of Rockchip's library {version}: it runs no model.")
    if (plan.settings.parallel or 1) > 1:
        notes.append(f"parallel is {plan.settings.parallel}; the library runs one request at a time, the others wait.")
    if not started.abi.samples_per_run:
        notes.append(IGNORED.format(abi=started.abi.name) + ".")
    if words.way is Way.LIBRARY and (not plan.metadata.tasks or "chat" in plan.metadata.tasks):
        notes.append(RETOLD + ".")
    return (*notes, *words.notes, *started.notes)
