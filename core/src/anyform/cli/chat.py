"""A conversation in the terminal: prompts with history, streamed answers, a few commands."""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from anyform.cli import asking
from anyform.cli.asking import Reply
from anyform.cli.background import Answer
from anyform.cli.complaint import printed
from anyform.cli.run import load, write
from anyform.cli.terminal import errors, output
from anyform.contract.errors import ContextExceeded, Fault
from anyform.contract.events import Done
from anyform.contract.jobs import Chat, Complete, Generation, Message

if TYPE_CHECKING:
    from anyform.contract.jobs import Job
    from anyform.kernel.runtime import Runtime

FULL = 0.8
"""The share of the context from which on a conversation is warned."""
PROMPT, MORE = ">>> ", "... "
FENCE = '"""'
ROOM = "/clear begins anew, and --context N at the start gives more room"
HELP = f"""\
/bye            leave (so does Ctrl-D)
/clear          forget the conversation
/system TEXT    tell the model TEXT before the conversation, and begin anew
/image FILE     show the picture in FILE with the next prompt
/help           this
{FENCE}             begins and ends a text of several lines
Ctrl-C          stops an answer"""


class Conversation:
    """One person and one model. A model that cannot chat continues each prompt by itself."""

    def __init__(self, runtime: Runtime, name: str, task: str, how: Generation, args: Namespace) -> None:
        self._runtime, self._name, self._task, self._how = runtime, name, task, how
        self._system: str = args.system
        self._thinking: bool | None = args.think
        self._stats: bool = args.stats
        self._images = asking.pictures(args.image)
        self._messages: list[Message] = []
        self._out = output()
        self._told: set[str] = set()
        """Remarks that were shown already."""
        self._interrupted = self._warned = False

    def hold(self) -> int:
        """Talk until the person leaves; the exit code."""
        with suppress(ImportError):
            import readline  # noqa: F401  (gives input() its history and editing; Windows has none)
        load(self._runtime, self._name, self._job("hello"))
        self._say_hello()
        while True:
            try:
                text = _read()
                self._interrupted = False
            except EOFError:
                self._out.line()
                return 0
            except KeyboardInterrupt:
                if self._interrupted:
                    self._out.line()
                    return 130
                self._interrupted = True
                self._out.line("\n(again, or /bye, to leave)")
                continue
            if text.strip() == "/bye":
                return 0
            if text.strip():
                self._take(text)

    def _say_hello(self) -> None:
        how = "chat" if self._task == "chat" else "no chat template: each prompt is continued as it is"
        self._out.line(self._out.paint(f"{self._name} ({how}); /help lists the commands", "dim"))

    def _take(self, text: str) -> None:
        command, _, rest = text.strip().partition(" ")
        if command == "/clear":
            self._begin_anew("forgotten")
        elif command == "/system":
            self._system = rest.strip()
            self._begin_anew("the model is told so" if self._system else "the model is told nothing")
        elif command == "/image":
            self._attach(Path(rest.strip()))
        elif command in ("/help", "/?"):
            self._out.line(HELP)
        elif command.startswith("/") and command[1:].isalpha():
            self._out.line(f"there is no command {command}; /help lists them")
        else:
            self._ask(text)

    def _begin_anew(self, said: str) -> None:
        self._messages, self._warned = [], False
        self._out.line(self._out.paint(f"({said})", "dim"))

    def _attach(self, path: Path) -> None:
        try:
            self._images = (*self._images, *asking.pictures([path]))
        except Fault as fault:
            self._complain(fault)

    def _ask(self, text: str) -> None:
        """Answer *text*. A turn that fails or is stopped before its first word is forgotten."""
        reply, job = Reply(), self._job(text)
        try:
            with Answer(lambda stop: self._runtime.generate(self._name, job, stop)) as events:
                for event in events:
                    reply.take(event)
                    write(self._out, event, reply)
            self._out.line()
        except KeyboardInterrupt:
            self._out.line(self._out.paint("\n(stopped)", "dim"))
        except Fault as fault:
            self._complain(fault)
        self._remember(job, reply)
        self._remark(reply)

    def _remember(self, job: Job, reply: Reply) -> None:
        if isinstance(job, Chat) and reply.text:
            answer = asking.message("assistant", reply.text)
            self._messages = [*(turn for turn in job.messages if turn.role != "system"), answer]
            self._images = ()

    def _remark(self, reply: Reply) -> None:
        used, context = self._fill(reply)
        if reply.finish == "length":
            why = f"the context of {context} tokens is full; {ROOM}" if used >= context else "--max-tokens was reached"
            self._out.line(self._out.paint(f"(cut off: {why})", "dim"))
        elif used >= FULL * context and self._task == "chat" and not self._warned:
            self._warned = True
            warning = f"the conversation fills {used} of the context's {context} tokens; {ROOM}"
            errors().line(errors().paint(warning, "yellow"))
        for remark in (one for one in reply.remarks if one not in self._told):
            errors().line(errors().paint(f"note: {remark}", "dim"))
        self._told |= set(reply.remarks)
        if self._stats and reply.done:
            self._out.line(self._out.paint(f"({reply.speed()})", "dim"))
        self._out.line()

    def _fill(self, reply: Reply) -> tuple[int, float]:
        """(tokens of the conversation so far, of the context); the latter is infinite where there is none."""
        loaded = next((one for one in self._runtime.loaded() if one.model == self._name), None)
        usage = (reply.done or Done()).usage
        return usage.prompt_tokens + usage.completion_tokens, (loaded and loaded.context) or inf

    def _complain(self, fault: Fault) -> None:
        text = f"{fault.message} {ROOM}." if isinstance(fault, ContextExceeded) else str(fault)
        text = " ".join([text, *(f"It printed: {line}" for line in printed(fault.details))])
        errors().line(errors().paint(text, "red"))

    def _job(self, text: str) -> Chat | Complete:
        if self._task == "complete":
            return Complete(prompt=text, generation=self._how)
        system = [asking.message("system", self._system)] if self._system else []
        messages = (*system, *self._messages, asking.message("user", text, self._images))
        return Chat(messages=messages, thinking=self._thinking, generation=self._how)


def _read() -> str:
    """One prompt from the terminal: a line, or the lines between two fences."""
    line = input(PROMPT)
    if not line.lstrip().startswith(FENCE):
        return line
    lines = [line.lstrip().removeprefix(FENCE)]
    while FENCE not in lines[-1]:
        lines.append(input(MORE))
    lines[-1] = lines[-1].partition(FENCE)[0]
    return "\n".join(lines).strip("\n")
