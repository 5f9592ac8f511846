"""`anyform run MODEL`: chat in the terminal, or answer one prompt and end."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyform import config
from anyform.cli import asking, document
from anyform.cli.arguments import add_library, add_model, add_offline, add_settings
from anyform.cli.asking import Reply
from anyform.cli.background import Answer, waited
from anyform.cli.complaint import MISUSED, complain
from anyform.cli.opening import opened_for, spelled
from anyform.cli.parser import EXIT
from anyform.cli.terminal import Terminal, errors, output
from anyform.config import Log
from anyform.contract.errors import Invalid, InvalidModel, Unsupported
from anyform.contract.events import Event, Reasoning, Text
from anyform.journal import begin

if TYPE_CHECKING:
    from anyform.contract.jobs import Chat, Complete, Job
    from anyform.kernel.runtime import Runtime

DESCRIPTION = """\
Chat with MODEL: a file, a folder, or the name of a configured model. With a PROMPT, or with text on standard input,
answer that once and end; only the answer goes to standard output."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = DESCRIPTION
    add_model(parser, optional=True)
    parser.add_argument(
        "prompt", nargs="*", default=[], metavar="PROMPT", help="what to ask; `-` stands for standard input"
    )
    parser.add_argument("--system", default="", metavar="S", help="what the model is told before the conversation")
    parser.add_argument("--raw", action="store_true", help="continue the prompt as it is, without a chat template")
    parser.add_argument("--image", type=Path, action="append", default=[], metavar="FILE", help="show a picture")
    parser.add_argument("--think", action=BooleanOptionalAction, help="have a reasoning model think first, or not")
    parser.add_argument("--json", action="store_true", help="print one JSON object: the answer, usage, timings")
    parser.add_argument("--no-stream", action="store_true", help="print the answer when it is whole")
    parser.add_argument("--stats", action="store_true", help="say how many tokens it was, and how fast")
    parser.add_argument("--here", action="store_true", help="run the model in this process, not in a worker")
    add_offline(parser)
    asking.add_generation(parser)
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Chat, or answer once."""
    if not args.model and not config.load(args.config).default_model:
        hint = "Name one, or set default_model in anyform.toml; see `anyform run --help`."
        complain("MODEL is missing.", hint, code=MISUSED, as_json=args.json)
        return EXIT
    how, prompt = asking.generation(args), _prompt(args)
    if prompt is not None and not prompt.strip() and not args.image:
        raise Invalid("the prompt is empty.", "Give one on the command line, or pipe it in.")
    begin(Log(level=args.log_level or "warning"), short=True)
    with opened_for(args, "here" if args.here else "worker", absent="pull") as (runtime, name):
        choice = runtime.library.choice(spelled(runtime, args, name))
        if choice:
            errors().line(errors().paint(f"{name}: {choice}", "dim"))
        rule = runtime.rule(runtime.find(name))
        args.system, how = args.system or rule.system, asking.completed(how, rule.request)
        task = _task(runtime, name, args)
        if prompt is None:
            from anyform.cli.chat import Conversation

            return Conversation(runtime, name, task, how, args).hold()
        job = asking.job(task, prompt, args.system, asking.pictures(args.image), how, args.think)
        load_s = load(runtime, name, job)
        return _answer(runtime, name, job, load_s, args)


def load(runtime: Runtime, name: str, job: Job | None = None) -> float:
    """Load the model, showing on a terminal that it takes time; the seconds that it took."""
    began, terminal = monotonic(), errors()
    try:
        waited(lambda: runtime.open(name, job), lambda seconds: terminal.status(f"loading {name} … {seconds:.0f} s"))
    finally:
        terminal.status("")
    return monotonic() - began


def write(terminal: Terminal, event: Event, reply: Reply) -> None:
    """Show a piece of an answer; what a model thinks is dim on a terminal, and left out elsewhere."""
    if isinstance(event, Reasoning) and terminal.interactive:
        terminal.write(terminal.paint(printable(event.text), "dim"))
    elif isinstance(event, Text) and event.text:
        after_thinking = bool(reply.reasoning) and reply.text == event.text and terminal.interactive
        text = event.text.lstrip("\n") if after_thinking else event.text
        terminal.write(("\n\n" if after_thinking else "") + (printable(text) if terminal.interactive else text))


def printable(text: str) -> str:
    """*text* without what could command the terminal: a model's words must not move the cursor."""
    return "".join(
        c if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160) else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _answer(runtime: Runtime, name: str, job: Chat | Complete, load_s: float, args: Namespace) -> int:
    reply, terminal, at_once = Reply(), output(), not (args.json or args.no_stream)
    with Answer(lambda stop: runtime.generate(name, job, stop)) as events:
        for event in events:
            reply.take(event)
            if at_once:
                write(terminal, event, reply)
    if args.json:
        print(document.text(_document(runtime, name, reply, load_s)))
        return 0
    if not at_once:
        terminal.write(printable(reply.text) if terminal.interactive else reply.text)
    if not reply.text.endswith("\n"):
        terminal.line()
    for remark in reply.remarks:
        errors().line(errors().paint(f"note: {remark}", "dim"))
    if args.stats:
        errors().line(errors().paint(reply.speed(), "dim"))
    return 0


def _document(runtime: Runtime, name: str, reply: Reply, load_s: float) -> Mapping[str, Any]:
    loaded = next((one for one in runtime.loaded() if one.model == name), None)
    return {
        "model": name,
        "backend": loaded.backend if loaded else None,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish,
        "usage": reply.done.usage if reply.done else None,
        "remarks": reply.remarks,
        "timings": {"load_s": round(load_s, 4), **reply.timings()},
    }


def _prompt(args: Namespace) -> str | None:
    """The prompt of the command line or of a pipe; None: a person is there to talk to."""
    if "-" in args.prompt or (not args.prompt and not sys.stdin.isatty()):
        return (
            " ".join(part for part in args.prompt if part != "-") + ("\n\n" if len(args.prompt) > 1 else "") + piped()
        )
    if args.prompt:
        return " ".join(args.prompt)
    if args.json or not sys.stdout.isatty():
        return piped()
    return None


def piped() -> str:
    """All of standard input, without its last line end."""
    text = sys.stdin.buffer.read()
    try:
        return text.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise Invalid(
            f"standard input is not UTF-8 at byte {error.start}.", "Convert it first, for instance with iconv."
        ) from None


def _task(runtime: Runtime, name: str, args: Namespace) -> str:
    """chat, or complete for a model that cannot chat. Raises Unsupported for one that writes no text, or InvalidModel
    where its files are damaged.
    """
    entry = runtime.find(name)
    tasks = runtime.metadata(entry).tasks
    if not args.raw and ("chat" in tasks or not tasks):
        return "chat"
    if "complete" in tasks or not tasks:
        return "complete"
    fault = next(runtime.describe([entry])).fault
    if isinstance(fault, InvalidModel):
        raise fault
    wanted = "complete" if args.raw else "chat"
    raise Unsupported(f"{name} does {', '.join(tasks)}, not {wanted}.", _instead(tasks, args.model))


def _instead(tasks: Sequence[str], typed: str) -> str:
    """How a model that writes no answers is used."""
    if "transcribe" in tasks:
        return f"Write `anyform transcribe FILE --model {quote(typed)}`."
    if "speak" in tasks:
        return f"Write `anyform say TEXT -o speech.mp3 --model {quote(typed)}`."
    if "image" in tasks:
        return f"Write `anyform imagine PROMPT -o picture.png --model {quote(typed)}`."
    return "Serve it, and use the endpoint for that task."
