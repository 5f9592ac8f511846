"""`anyform transcribe FILE…`: write down what is said in sounds, one after the other, by one loaded model."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from anyform.cli import document, is_closed_pipe
from anyform.cli.arguments import add_json, add_library, add_offline, add_settings
from anyform.cli.background import Answer
from anyform.cli.chosen import add_choice, opened_to
from anyform.cli.complaint import complain
from anyform.cli.parser import misused
from anyform.cli.run import load, printable
from anyform.cli.suiting import check_hearing, hears, in_words
from anyform.cli.terminal import Terminal, errors, output
from anyform.cli.transcript import ENDINGS, Transcript
from anyform.cli.writing import add_force, check, whole
from anyform.config import Log
from anyform.contract.errors import Fault, Invalid
from anyform.contract.events import Done, Progress, Segment
from anyform.contract.jobs import Sound, Transcribe, Translate
from anyform.journal import begin

if TYPE_CHECKING:
    from anyform.kernel.runtime import Runtime

PIPE = "-"
"""Standard input or output."""
FILE_BYTES = 1_000_000_000
"""What a worker can be sent."""
NOT_TRANSLATED = {
    "language": "a translation finds out by itself what is spoken",
    "words": "the words of a translation have no times",
    "vad": "a translation hears all of it",
}
"""Options that a translation has not, and why."""
DESCRIPTION = """\
Write down what is said in each FILE, sound or film of any codec; `-` is standard input. Of one FILE the text goes to
standard output, of several into a file beside each, unless -o or --output-dir says where; then standard output has the
paths."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One sound, and where its text goes."""

    file: str
    """`-`: standard input."""
    target: Path | None = None
    """None: standard output."""


def configure(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("files", nargs="+", metavar="FILE", help="a sound; `-` stands for standard input")
    add_choice(parser, Transcribe.task)
    parser.add_argument("--format", choices=tuple(ENDINGS), help="what the text is written as (default: text)")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="write the text of one FILE into OUT; its ending may say how"
    )
    parser.add_argument(
        "--output-dir", type=Path, metavar="DIR", help="write the texts into DIR, under the FILEs' names"
    )
    add_force(parser)
    parser.add_argument("--language", default="", metavar="L", help="a code such as de; without it, it is found out")
    parser.add_argument("--translate", action="store_true", help="write it in English, whatever is spoken")
    parser.add_argument("--words", action="store_true", help="time each word: in verbose_json, or a subtitle for each")
    parser.add_argument("--vad", action="store_true", help="leave out what a detector of voices takes for none")
    parser.add_argument("--prompt", default="", metavar="S", help="what was said before, or names that may come")
    parser.add_argument("--temperature", type=_temperature, metavar="N", help="0 to 1; 0: always the likeliest token")
    parser.add_argument("--here", action="store_true", help="run the model in this process, not in a worker")
    add_json(parser)
    add_offline(parser)
    add_settings(parser)
    add_library(parser)


def execute(args: Namespace) -> int:
    """Transcribe each file; 1 if one of several failed."""
    form, takes = _form(args), _takes(args)
    _check_wishes(args, form)
    if args.output_dir is not None:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    if hopeless := _hopeless(takes, args):
        if args.json:
            print(document.text({"model": None, "backend": None, "files": hopeless}))
        return 1
    begin(Log(level=args.log_level or "warning"), short=True)
    task = Translate.task if args.translate else Transcribe.task
    with opened_to(task, args, "here" if args.here else "worker", lambda known: hears(known, args.language)) as opened:
        runtime, name = opened
        entry = runtime.find(name)
        wish = _wish(args, runtime.rule(entry).request)
        check_hearing(runtime.metadata(entry), str(wish.get("language", "")))
        load(runtime, name, _job(wish, b"", args.translate))
        backend = next((one.backend for one in runtime.loaded() if one.model == name), None)
        told = _all(Typist(runtime, name, form, wish, args), takes, args.json)
    if args.json:
        print(document.text({"model": name, "backend": backend, "files": told}))
    return 1 if any("error" in one for one in told) else 0


def _all(typist: Typist, takes: Sequence[Take], as_json: bool) -> list[Mapping[str, Any]]:
    """What there is to say of each. Of several one that fails is told, and the others go on."""
    if len(takes) == 1:
        return [typist.write(takes[0])]
    told = []
    for number, take in enumerate(takes, 1):
        try:
            told.append(typist.write(take, f" ({number} of {len(takes)})"))
        except (Fault, OSError) as trouble:
            if isinstance(trouble, OSError) and is_closed_pipe(trouble):
                raise
            told.append({"file": take.file, "error": _complaint(take.file, trouble, as_json)})
    return told


class Typist:
    """Writes down sounds with one model."""

    def __init__(self, runtime: Runtime, name: str, form: str, wish: Mapping[str, Any], args: Namespace) -> None:
        self._runtime, self._name, self._form, self._wish, self._args = runtime, name, form, wish, args

    def write(self, take: Take, which: str = "") -> Mapping[str, Any]:
        """Write down one; what there is to say of it, for programs. Raises what is wrong with it, OSError.

        *which* of several it is, in words.
        """
        args, began = self._args, monotonic()
        if take.target is not None:
            check(take.target, args.force)
        job = _job(self._wish, _read(take.file), args.translate)
        lines = take.target is None and output().interactive
        transcript = Transcript(self._form, job.task, args.words, lines)
        with ExitStack() as ending:
            page = Page(transcript, args.json)
            if take.target is not None:
                page.file = ending.enter_context(whole(take.target, args.force))
            try:
                self._hear(job, page, f"{Path(take.file).name}{which}")
            except Fault as fault:
                fault.message = in_words(fault, take.file)
                raise
        if take.target is not None and not args.json:
            output().line(str(take.target))
            output().stream.flush()
        seconds = monotonic() - began
        return {"file": take.file, "output": take.target, "took_s": round(seconds, 3), **transcript.verbose()}

    def _hear(self, job: Transcribe | Translate, page: Page, label: str) -> None:
        terminal, shown = errors(), ""
        try:
            with Answer(lambda stop: self._runtime.generate(self._name, job, stop)) as events:
                for event in events:
                    if isinstance(event, Progress):
                        shown = f"{label}: {_minutes(event.done)} of {_minutes(event.total)}" if event.total else label
                    elif isinstance(event, Segment | Done):
                        terminal.status("")
                        page.take(event)
                    terminal.status(shown if not isinstance(event, Done) else "")
        finally:
            terminal.status("")


class Page:
    """Where a text is written as it comes: a file, standard output, or nowhere."""

    def __init__(self, transcript: Transcript, silent: bool) -> None:
        """*silent*: nothing goes to standard output."""
        self.file: Any = None
        self._transcript, self._silent = transcript, silent
        self._out: Terminal = output()

    def take(self, event: Segment | Done) -> None:
        """Write what *event* adds."""
        text = self._transcript.end(event) if isinstance(event, Done) else self._transcript.piece(event)
        if self.file is not None:
            self.file.write(text.encode("utf-8"))
        elif not self._silent and text:
            self._out.write(printable(text) if self._out.interactive else text)


def _form(args: Namespace) -> str:
    """The format that is asked for, in words or by the ending of the file."""
    if args.format or not args.output or args.output == PIPE:
        return args.format or "text"
    ending = Path(args.output).suffix.lower()
    found = next((form for form, own in ENDINGS.items() if own == ending), "")
    if ending and not found:
        known = ", ".join(dict.fromkeys(ENDINGS.values()))
        misused(f"{args.output} ends as no text does.", f"Let it end in {known}, or say --format.", args.json)
    return found or "text"


def _takes(args: Namespace) -> list[Take]:
    """Each file with its target. Complains where one would be written over another."""
    form, files = _form(args), args.files
    if args.output and args.output_dir:
        misused("-o and --output-dir cannot both be followed.", "Give one of them.", args.json)
    if args.output and len(files) > 1:
        misused(f"-o takes the text of one file; {len(files)} were named.", "Give --output-dir DIR.", args.json)
    if files.count(PIPE) > 1:
        misused("standard input can be read once only.", "Name `-` once.", args.json)
    if args.output:
        return [Take(file=files[0], target=None if args.output == PIPE else Path(args.output))]
    if args.output_dir is None and (len(files) == 1 or args.json):
        return [Take(file=file) for file in files]
    takes = [Take(file=file, target=_target(file, args.output_dir, form)) for file in files]
    for target, named in _by_target(takes).items():
        if len(named) > 1:
            misused(f"{' and '.join(named)} would both be written to {target}.", "Transcribe them apart.", args.json)
        if os.path.realpath(target) == os.path.realpath(named[0]):
            misused(f"{target} would be written over itself.", "Write elsewhere with --output-dir.", args.json)
    return takes


def _by_target(takes: Sequence[Take]) -> Mapping[Path, list[str]]:
    """The files whose text would go into each target."""
    found: dict[Path, list[str]] = {}
    for take in takes:
        if take.target is not None:
            found.setdefault(take.target, []).append(take.file)
    return found


def _target(file: str, folder: Path | None, form: str) -> Path:
    if file == PIPE:
        return (folder or Path()) / f"stdin{ENDINGS[form]}"
    path = Path(file)
    return (folder or path.parent) / f"{path.stem}{ENDINGS[form]}"


def _check_wishes(args: Namespace, form: str) -> None:
    """Complains of options that do not go together."""
    if args.words and form in ("text", "json") and not args.json:
        misused(f"{form} has no place for the times of words.", "Add --format verbose_json, srt or vtt.", args.json)
    for name, why in NOT_TRANSLATED.items():
        if args.translate and getattr(args, name):
            misused(f"--{name} and --translate do not go together: {why}.", f"Leave out --{name}.", args.json)
    if PIPE in args.files and sys.stdin.isatty():
        misused("standard input is a terminal, which gives no sound.", "Name a file, or pipe one in.", args.json)


def _hopeless(takes: Sequence[Take], args: Namespace) -> list[Mapping[str, Any]]:
    """What is wrong with each file or its target, told, where all have something wrong: no model is loaded for that.

    Of a single one it is raised.
    """
    troubles: list[tuple[Take, Fault]] = []
    for take in takes:
        try:
            if take.target is not None:
                check(take.target, args.force)
            _check_file(take.file)
        except Fault as trouble:
            if len(takes) == 1:
                raise
            troubles.append((take, trouble))
    if len(troubles) < len(takes):
        return []
    return [{"file": take.file, "error": _complaint(take.file, trouble, args.json)} for take, trouble in troubles]


def _check_file(file: str) -> None:
    """Raises Invalid for none, a folder, an empty one, and one that is too large."""
    if file == PIPE:
        return
    path = Path(file)
    try:
        if path.is_dir():
            raise Invalid(f"{file} is a folder.", "Name the sounds in it.")
        size_bytes = path.stat().st_size
        if path.is_file():
            path.open("rb").close()
            _check_size(file, size_bytes)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror or error}.", "Check the spelling of the path.") from None


def _check_size(file: str, size_bytes: int) -> None:
    if not size_bytes:
        raise Invalid(f"{'standard input' if file == PIPE else file} is empty.", "Give a sound.")
    if size_bytes > FILE_BYTES:
        raise Invalid(
            f"{file} has more than {FILE_BYTES} bytes.", "Take its sound alone, such as with ffmpeg, or cut it."
        )


def _wish(args: Namespace, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """The job's fields: what is asked for, over *request*, which the model's rule says. Raises Invalid for that."""
    from anyform.http.fields import Fields

    rule = Fields(request)
    temperature = rule.number("temperature", low=0, high=1) if args.temperature is None else args.temperature
    wish = {"prompt": args.prompt or str(rule.text("prompt") or ""), "temperature": temperature}
    if args.translate:
        return wish
    language, vad = args.language or str(rule.text("language") or ""), args.vad or bool(rule.flag("vad_filter"))
    return {**wish, "language": language, "vad": vad, "words": args.words}


def _job(wish: Mapping[str, Any], data: bytes, translate: bool) -> Transcribe | Translate:
    kind = Translate if translate else Transcribe
    return kind(audio=Sound(data=data), **wish)


def _read(file: str) -> bytes:
    """The whole of *file*. Raises as `_check_file` does."""
    _check_file(file)
    try:
        stream = sys.stdin.buffer if file == PIPE else Path(file).open("rb")  # noqa: SIM115
        with ExitStack() as closing:
            if file != PIPE:
                closing.enter_context(stream)
            data = stream.read(FILE_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror or error}.", "Check the spelling of the path.") from None
    _check_size(file, len(data))
    return data


def _complaint(file: str, trouble: Fault | OSError, as_json: bool) -> Mapping[str, Any]:
    """Tell of one file's trouble; what programs are told."""
    if isinstance(trouble, OSError):
        trouble = Invalid(f"{file}: {trouble.strerror or trouble}.", "Check the disk and where the output goes.")
    complain(trouble.message, trouble.hint, code=trouble.code, as_json=as_json, known=trouble.as_dict())
    return {"message": trouble.message, "code": trouble.code, "hint": trouble.hint}


def _minutes(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02}"


def _temperature(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 <= number <= 1:
        raise ArgumentTypeError(f"{text} is not from 0 to 1")
    return number
