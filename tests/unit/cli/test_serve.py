"""What `serve` is told of listeners, and says of them."""

from __future__ import annotations

import io
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from types import SimpleNamespace
from typing import Any

import pytest

from anyform.cli import serve
from anyform.cli.greeting import announce
from anyform.cli.terminal import Terminal
from anyform.http.config import HttpConfig, Listener
from anyform.http.listener import Place

MAIN = Place(url="http://127.0.0.1:11540", host="127.0.0.1", port=11540, speaks=("openai", "anyform", "ollama_api"))
OLLAMA = Place(url="http://127.0.0.1:11434", host="127.0.0.1", port=11434, speaks=("ollama_api",))


def parsed(*words: str) -> Namespace:
    parser = ArgumentParser(exit_on_error=False)
    serve.configure(parser)
    return parser.parse_args(list(words))


def test_listeners_may_be_named_again_and_again() -> None:
    args = parsed("--listen", "11434=ollama_api,openai", "--listen", "lmstudio_api")
    assert args.listen == [
        Listener(port=11434, dialects=("ollama_api", "openai")),
        Listener(dialects=("lmstudio_api",)),
    ]


def test_listeners_of_the_command_line_come_to_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", "1234=lmstudio_api")
    found = serve._configured(parsed("--listen", "ollama_api")).server.listeners
    assert found == (Listener(port=1234, dialects=("lmstudio_api",)), Listener(dialects=("ollama_api",)))


def test_what_is_no_listener_is_a_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    from argparse import ArgumentError

    with pytest.raises(ArgumentError, match="'x' is no port from 0 to 65535"):
        parsed("--listen", "x=openai")


def greeting(*places: Place, host: str = "127.0.0.1") -> str:
    runtime: Any = SimpleNamespace(names=list)
    stream = io.StringIO()
    announce(Terminal(stream), runtime, HttpConfig(host=host), places)
    return stream.getvalue()


def test_further_listeners_are_listed_with_what_they_speak() -> None:
    said = greeting(MAIN, OLLAMA).splitlines()
    assert said[0] == "anyform serves http://127.0.0.1:11540/v1 (Ctrl-C stops it)"
    assert said[2:5] == [
        "LISTENS AT              SPEAKS",
        "http://127.0.0.1:11540  openai anyform ollama_api",
        "http://127.0.0.1:11434  ollama_api",
    ]
    assert "LISTENS" not in greeting(MAIN)


def test_a_main_port_without_openai_is_told_without_its_path() -> None:
    assert greeting(OLLAMA).startswith("anyform serves http://127.0.0.1:11434 (Ctrl-C")


@pytest.mark.parametrize(
    ("main", "others", "said"),
    [
        ("127.0.0.1", ("", "localhost"), []),
        ("127.0.0.1", ("0.0.0.0", "0.0.0.0"), ["all interfaces"]),
        ("10.0.0.7", ("", "::"), ["10.0.0.7", "all interfaces"]),
    ],
)
def test_whoever_may_reach_a_listener_is_warned_of_once(
    main: str, others: tuple[str, ...], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = HttpConfig(host=main, listeners=tuple(Listener(port=0, host=host) for host in others))
    serve._warn_of_others(config)
    told = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("listening on ").partition(":")[0] for line in told] == said


def test_no_request_need_wait() -> None:
    assert parsed("--queue", "0").queue == 0


def test_a_misuse_ends_with_one_dot() -> None:
    with pytest.raises(ArgumentTypeError) as raised:
        serve.listener("x=openai")
    assert not str(raised.value).endswith(".")  # the complaint adds one


def test_whoever_reads_only_the_beginning_of_the_greeting_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    runtime: Any = SimpleNamespace(names=list)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        serve._greet(runtime, HttpConfig(), [MAIN])
        print("more")  # and nothing is left that would fail at the end
