"""`anyform imagine PROMPT -o FILE`: have a model paint pictures, or change one, step by step, into files."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyform.cli import document, painting
from anyform.cli.arguments import add_json, add_library, add_offline, add_settings
from anyform.cli.background import Answer
from anyform.cli.chosen import add_choice, opened_to
from anyform.cli.opening import Where
from anyform.cli.painting import PIPE
from anyform.cli.parser import misused
from anyform.cli.run import load, piped
from anyform.cli.suiting import check_loras, check_painting, in_words, paints
from anyform.cli.terminal import errors, output
from anyform.cli.writing import add_force, check, whole
from anyform.config import Log
from anyform.contract.errors import Fault, Invalid
from anyform.contract.events import Blob, Done, Event, Progress
from anyform.contract.jobs import Image
from anyform.journal import begin

if TYPE_CHECKING:
    from anyform.contract.jobs import EditImage, VaryImage
    from anyform.kernel.runtime import Runtime

CELLS = 20
"""Of the bar that shows how far it is."""
DESCRIPTION = """\
Paint what PROMPT says, or what comes on standard input, into the file of -o; without -o into one that is called as the
prompt. The path goes to standard output; seed, size and seconds go to standard error."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to paint; `-`: standard input")
    parser.add_argument("-o", "--output", default="", metavar="OUT", help="the file; its ending says the format")
    parser.add_argument(
        "--format", choices=tuple(painting.FORMATS), help="what it is written as (default: by OUT, else png)"
    )
    parser.add_argument(
        "--compression", type=_compression, metavar="N", help="of JPEG and WebP: 0, the smallest file, to 100"
    )
    add_force(parser)
    add_choice(parser, Image.task)
    painting.add_painting(parser)
    parser.add_argument("--here", action="store_true", help="run the model in this process, not in a worker")
    add_json(parser)
    add_offline(parser)
    add_settings(parser, context=False)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Paint, and say what was written where."""
    painting.check(args)
    prompt = _prompt(args)
    _check_pipe(args)
    targets = painting.targets(args, prompt)
    for target in targets:
        check(target, args.force)
    given = painting.pictures(args)
    begin(Log(level=args.log_level or "warning"), short=True)
    where: Where = "here" if args.here else "worker"
    with opened_to(painting.task(args), args, where, lambda known: paints(known, args.scheduler)) as opened:
        runtime, name = opened
        entry = runtime.find(name)
        job = painting.job(args, prompt, given, runtime.rule(entry).request)
        wanted = job if isinstance(job, Image) else job.image
        check_painting(name, runtime.metadata(entry), wanted)
        if wanted.loras:
            check_loras(runtime, entry, wanted.loras)
        load_s = load(runtime, name, job)
        backend = next((one.backend for one in runtime.loaded() if one.model == name), None)
        began = monotonic()
        easel = Easel(targets, args)
        _paint(runtime, name, job, easel)
        took_s = monotonic() - began
    if args.json:
        seconds = {"load_s": round(load_s, 3), "took_s": round(took_s, 3)}
        print(
            document.text(
                {"model": name, "backend": backend, "pictures": easel.told, "remarks": easel.remarks, **seconds}
            )
        )
    return 0


class Easel:
    """Shows how far the pictures are, and writes each when it is finished."""

    def __init__(self, targets: Sequence[Path], args: Namespace) -> None:
        """*targets*: a file for each picture; none: standard output."""
        self._targets, self._force, self._silent = targets, args.force, args.json
        self._named = bool(args.output)
        self._terminal = errors()
        self._began = self._painting = monotonic()
        self._finished: float | None = None
        """When the last picture was, of which no other was begun yet."""
        self._shown = ""
        self.told: list[Mapping[str, Any]] = []
        """What there is to say of each, for programs."""
        self.remarks: Sequence[str] = ()
        """What the model remarks on all of them."""

    def take(self, event: Event) -> None:
        """Show or write what *event* brings."""
        if isinstance(event, Blob) and "partial" not in event.extra:
            self._terminal.status("")
            self._finish(event)
        elif isinstance(event, Progress):
            self._begin(event)
            self._shown = _progress(event, monotonic() - self._began)
        elif isinstance(event, Done):
            self._end(event)
        self._terminal.status(self._shown)

    def clear(self) -> None:
        """Leave nothing half shown."""
        self._terminal.status("")

    def _begin(self, event: Progress) -> None:
        """The first step of another picture: those that are painted together all took as long."""
        if event.stage == "step" and self._finished is not None:
            self._painting, self._finished = self._finished, None

    def _end(self, done: Done) -> None:
        self.remarks = list(done.extra.get("remarks", ()))
        self._shown = ""
        if not self._silent:
            for remark in self.remarks:
                self._terminal.status("")
                self._terminal.line(f"note: {remark}")

    def _finish(self, picture: Blob) -> None:
        target = self._target(picture.index)
        with ExitStack() as ending:
            file = sys.stdout.buffer if target is None else ending.enter_context(whole(target, self._force))
            file.write(picture.data)
            file.flush()
        self._finished = monotonic()
        seconds = self._finished - self._painting
        said = {"output": target, "media_type": picture.media_type, "bytes": len(picture.data), **picture.extra}
        self.told.append({**said, "took_s": round(seconds, 3)})
        if self._silent:
            return
        if target is not None:
            output().line(str(target))
            output().stream.flush()
        self._terminal.line(self._terminal.paint(_facts(picture.extra, seconds), "dim"))

    def _target(self, index: int) -> Path | None:
        """Where nobody named a file, one that is free now: another program may have taken the name meanwhile."""
        target = self._targets[index] if self._targets else None
        if target is None or self._named or self._force:
            return target
        return next(one for one in painting.further(target) if not one.exists())


def _paint(runtime: Runtime, name: str, job: Image | EditImage | VaryImage, easel: Easel) -> None:
    try:
        with Answer(lambda stop: runtime.generate(name, job, stop)) as events:
            for event in events:
                easel.take(event)
    except Fault as fault:
        fault.message = in_words(fault)
        raise
    finally:
        easel.clear()


def _progress(event: Progress, seconds: float) -> str:
    if event.stage == "queue":
        return f"{event.total} {'job is' if event.total == 1 else 'jobs are'} ahead" if event.total else ""
    if event.stage != "step" or not event.total:
        return ""
    full = CELLS * event.done // event.total
    return f"[{'=' * full}{' ' * (CELLS - full)}] step {event.done} of {event.total}, {seconds:.0f} s"


def _facts(extra: Mapping[str, Any], seconds: float) -> str:
    """One line for people."""
    parts = [
        f"seed {extra['seed']}" if "seed" in extra else "",
        f"{extra['width']} x {extra['height']}" if "width" in extra else "",
        f"{extra['steps']} step{'' if extra['steps'] == 1 else 's'}" if "steps" in extra else "",
        str(extra.get("scheduler", "")),
        f"{seconds:.1f} s",
    ]
    return " · ".join(part for part in parts if part)


def _prompt(args: Namespace) -> str:
    """What to paint. Raises Invalid for nothing, where no picture is varied."""
    words = [word for word in args.prompt if word != PIPE]
    if PIPE in args.prompt or (not args.prompt and args.vary is None and not sys.stdin.isatty()):
        words.append(piped())
    elif not args.prompt and args.vary is None:
        misused("PROMPT is missing.", 'Write `anyform imagine "a red fox" -o fox.png`, or pipe the text in.', args.json)
    text = " ".join(words)
    if not text.strip() and args.vary is None:
        raise Invalid("the prompt is empty.", "Give one on the command line, or pipe it in.")
    return text


def _check_pipe(args: Namespace) -> None:
    """Complains where standard output gets a picture and cannot have one."""
    if args.output != PIPE:
        return
    if args.json:
        misused("with --json the picture needs a file of its own.", "Name one: `-o picture.png`.", True)
    if sys.stdout.isatty():
        misused("a terminal shows no picture.", "Name a file, such as `-o picture.png`, or pipe it on.")


def _compression(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 100:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to 100")
    return number
