"""`anyform say TEXT -o FILE`: have a model speak a text, sentence by sentence, into a file or a pipe."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO

from anyform.cli import document
from anyform.cli.arguments import add_json, add_library, add_offline, add_settings
from anyform.cli.background import Answer
from anyform.cli.chosen import add_choice, opened_to
from anyform.cli.opening import Where
from anyform.cli.parser import misused
from anyform.cli.run import load, piped
from anyform.cli.suiting import check_speaking, in_words, speaks
from anyform.cli.terminal import errors, output
from anyform.cli.writing import add_force, check, whole
from anyform.config import Log
from anyform.contract.errors import Fault, Invalid
from anyform.contract.events import Blob, Done, Progress
from anyform.contract.jobs import Speak
from anyform.journal import begin
from anyform.sound.encode import FORMATS, Encoder, prepare

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime

PIPE = "-"
ENDINGS = {
    ".mp3": "mp3",
    ".wav": "wav",
    ".flac": "flac",
    ".opus": "opus",
    ".ogg": "opus",
    ".aac": "aac",
    ".pcm": "pcm",
}
"""How files end, and what is in them."""
DESCRIPTION = """\
Speak TEXT, or what comes on standard input, into the file of -o. Without -o the sound goes to standard output, unless
that is a terminal: `anyform say "Hello!" | aplay`. `anyform voices` lists the voices."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what to say; `-`, or none: standard input")
    parser.add_argument("-o", "--output", default="", metavar="OUT", help="the file; its ending says the format")
    add_force(parser)
    add_choice(parser, Speak.task)
    parser.add_argument(
        "--voice", default="", metavar="V", help="who speaks; some models blend: af_heart(2)+af_bella(1)"
    )
    parser.add_argument("--speed", type=_speed, metavar="N", help="2: twice as fast; what a model can is in `show`")
    parser.add_argument("--language", default="", metavar="L", help="as which language it is read, such as en-GB")
    parser.add_argument("--format", choices=FORMATS, help="what the sound is written as (default: by OUT, else wav)")
    parser.add_argument("--here", action="store_true", help="run the model in this process, not in a worker")
    add_json(parser)
    add_offline(parser)
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Speak, and say where it was written."""
    if not args.text and sys.stdin.isatty():
        misused("TEXT is missing.", 'Write `anyform say "Hello!" -o hello.mp3`, or pipe the text in.', args.json)
    form, target = _form(args), _target(args)
    text = _text(args)
    if target is not None:
        check(target, args.force)
    _hint_at_file(args.text, args.output)
    prepare(form)
    begin(Log(level=args.log_level or "warning"), short=True)
    where: Where = "here" if args.here else "worker"
    with opened_to(Speak.task, args, where, lambda known: speaks(known, args.voice, args.language)) as opened:
        runtime, name = opened
        entry = runtime.find(name)
        job = _job(args, text, runtime.rule(entry).request)
        check_speaking(name, runtime.metadata(entry), job.voice, job.speed, job.language)
        with ExitStack() as ending:
            file = sys.stdout.buffer if target is None else ending.enter_context(whole(target, args.force))
            load(runtime, name, job)
            backend = next((one.backend for one in runtime.loaded() if one.model == name), None)
            began = monotonic()
            tape = Tape(file, form, whole=target is not None)
            told = _speak(runtime, name, job, tape)
        took_s = monotonic() - began
    if args.json:
        voice = told.get("voice") or job.voice or None
        said = {"model": name, "backend": backend, "output": target, "voice": voice, **tape.told()}
        print(document.text({**said, "took_s": round(took_s, 3)}))
    elif target is not None:
        output().line(str(target))
    terminal = errors()
    if terminal.interactive:
        terminal.line(terminal.paint(f"{tape.duration_s:.1f} s of speech in {took_s:.1f} s", "dim"))
    return 0


class Tape:
    """Writes sound into a file: into a pipe as it comes, elsewhere when it is whole, so that its head is true."""

    def __init__(self, file: BinaryIO, form: str, whole: bool) -> None:
        self._file, self._form, self._whole = file, form, whole
        self._encoder: Encoder | None = None
        self._bytes = 0

    @property
    def duration_s(self) -> float:
        """Seconds of sound so far."""
        return self._encoder.seconds if self._encoder else 0.0

    def take(self, event: Blob) -> None:
        """Add a piece of sound."""
        if self._encoder is None:
            self._encoder = Encoder(self._form, int(event.extra["sample_rate"]), whole=self._whole)
        self._write(self._encoder.write(event.data))

    def end(self) -> None:
        """Write what the encoder still holds."""
        if self._encoder is not None:
            self._write(self._encoder.end())

    def told(self) -> Mapping[str, Any]:
        """What there is to say of it, for programs."""
        rate = self._encoder.rate if self._encoder else None
        told = {"format": self._form, "duration_s": round(self.duration_s, 3)}
        return {**told, "sample_rate": rate, "bytes": self._bytes}

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        self._bytes += len(data)


def _speak(runtime: Runtime, name: str, job: Speak, tape: Tape) -> Mapping[str, Any]:
    """Have the model speak onto *tape*, showing on a terminal how far it is; what it says of it at the end."""
    terminal, total, pieces, done = errors(), 0, 0, 0
    told: Mapping[str, Any] = {}
    try:
        with Answer(lambda stop: runtime.generate(name, job, stop)) as events:
            for event in events:
                if isinstance(event, Progress):
                    total, done = event.total, event.done
                elif isinstance(event, Blob):
                    tape.take(event)
                    pieces += 1
                elif isinstance(event, Done):
                    tape.end()
                    told = event.extra
                spoken = min(max(done, pieces), total)
                terminal.status(f"spoken: {spoken} of {total} sentences, {tape.duration_s:.0f} s")
    except Fault as fault:
        fault.message = in_words(fault)
        raise
    finally:
        terminal.status("")
    return told


def _hint_at_file(words: Sequence[str], output: str) -> None:
    """Say how the text of a file is spoken, where the file's name is about to be."""
    if len(words) == 1 and words[0] != PIPE and _is_file(words[0]):
        into = f" -o {quote(output)}" if output else ""
        told = f"there is a file of that name; to speak its text: anyform say{into} < {quote(words[0])}"
        errors().line(errors().paint(told, "yellow"))


def _is_file(words: str) -> bool:
    try:
        return Path(words).is_file()
    except (OSError, ValueError):  # no name of a file, such as a long text
        return False


def _form(args: Namespace) -> str:
    """The format that is asked for, in words or by the ending of the file."""
    if args.format or args.output in ("", PIPE):
        return args.format or "wav"
    form = ENDINGS.get(Path(args.output).suffix.lower())
    if form is None:
        known = ", ".join(ENDINGS)
        misused(f"{args.output} does not end as a sound does.", f"Let it end in {known}, or say --format.", args.json)
    return form


def _target(args: Namespace) -> Path | None:
    """The file to write; None: standard output."""
    if args.output not in ("", PIPE):
        return Path(args.output)
    if args.json:
        misused("with --json the sound needs a file of its own.", "Name one: `-o speech.mp3`.", True)
    if sys.stdout.isatty():
        misused("a terminal shows no sound.", "Name a file, such as `-o speech.mp3`, or pipe it to a player.")
    return None


def _text(args: Namespace) -> str:
    """What to say. Raises Invalid for nothing."""
    words = [word for word in args.text if word != PIPE]
    if not args.text or PIPE in args.text:
        words.append(piped())
    text = " ".join(words)
    if not text.strip():
        raise Invalid("the text is empty.", "Give one on the command line, or pipe it in.")
    return text


def _job(args: Namespace, text: str, request: Mapping[str, Any]) -> Speak:
    """The job: what is asked for, over *request*, which the model's rule says. Raises Invalid for that."""
    from anyform.http.fields import Fields

    rule = Fields(request)
    speed = rule.number("speed") if args.speed is None else args.speed
    return Speak(
        text=text,
        voice=args.voice or str(rule.text("voice") or ""),
        speed=1.0 if speed is None else speed,
        language=args.language or str(rule.text("language") or ""),
    )


def _speed(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if number == float("inf"):
        raise ArgumentTypeError(f"{text} is no speed; 1 is the voice's own, 2 twice as fast")
    if not number > 0:
        raise ArgumentTypeError(f"{text} is not over 0")
    return number
