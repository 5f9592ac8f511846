"""Whose form a refusal has, and how a listener is written."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse, Response

from anyform.contract.errors import Fault, Invalid
from anyform.http.config import Listener
from anyform.http.dialect import ABOUT, OWN, Dialect, Dialects
from anyform.http.listener import check, read, written


def dialect(name: str, *prefixes: str, port: int | None = None) -> Dialect:
    def told(fault: Fault) -> Response:
        return PlainTextResponse(str(fault))

    def unknown(method: str, path: str) -> Response:
        return PlainTextResponse(f"{name} knows no {method} {path}")

    return Dialect(name=name, prefixes=prefixes, refusal=told, ending=lambda fault: b"", unknown=unknown, port=port)


A = dialect("a", "/", "/api", port=11434)
B = dialect("b", "/api/v0", "/v1/b", port=1234)


def of(*wanted: str, known: tuple[Dialect, ...] = (A, B)) -> Dialects:
    made = Dialects(wanted)
    for one in known:
        if made.serves(one.name):
            made.add(one)
    return made


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "a"),
        ("/api", "a"),
        ("/api/tags", "a"),
        ("/apis", "openai"),
        ("/api/v0", "b"),
        ("/api/v0/models", "b"),
        ("/api/v01", "a"),
        ("/v1/b/x", "b"),
        ("/v1/bb", "openai"),
        ("/v1", "openai"),
        ("/rerank", "openai"),
        ("/runtime/status", "anyform"),
        ("/health", "anyform"),
        ("/nowhere", "openai"),
        ("", "openai"),
    ],
)
def test_on_a_shared_port_the_longest_prefix_counts(path: str, name: str) -> None:
    assert of().of(path).name == name


@pytest.mark.parametrize(
    ("wanted", "path", "name"),
    [
        (("a",), "/v1/chat/completions", "a"),
        (("a",), "/api/v0/models", "a"),
        (("b", "a"), "/nowhere", "b"),
        (("a", "openai"), "/v1/models", "openai"),
        (("a", "openai"), "/runtime/status", "a"),
        (("a", "anyform"), "/runtime/status", "anyform"),
        (("a", "b"), "/v1/models", "a"),
        (("gone",), "/nowhere", "openai"),
        (("gone", "b"), "/nowhere", "b"),
        (("anyform",), "/v1/models", "anyform"),
    ],
)
def test_on_a_listener_of_its_own_the_first_has_what_is_left(wanted: tuple[str, ...], path: str, name: str) -> None:
    assert of(*wanted).of(path).name == name


def test_unknown_routes_are_the_first_dialects_and_on_a_shared_port_nobodys() -> None:
    assert of().unknown("GET", "/x") is None
    assert of("openai", "a").unknown("GET", "/x") is None
    made = of("a", "openai").unknown("GET", "/x")
    assert made is not None
    assert made.body == b"a knows no GET /x"
    assert of("gone").unknown("GET", "/x") is None


def test_a_wrong_method_may_have_an_answer_of_its_own() -> None:
    from dataclasses import replace

    other = replace(A, wrong_method=lambda method, path: PlainTextResponse("not so"))
    first = of("a", known=(other,)).unknown("GET", "/api", served=True)
    second = of("a").unknown("GET", "/api", served=True)
    assert (first and first.body, second and second.body) == (b"not so", b"a knows no GET /api")
    assert of("a", "openai").unknown("GET", "/v1/models", served=True) is None, "it is OpenAI's"


def test_what_is_added_can_be_taken_away_and_what_is_read_does_not_change() -> None:
    made = of("a", "b")
    before = made.known
    made.keep([one for one in made.known if one is not B])
    assert before == (A, B)
    assert made.known == (A,)
    assert of().known == (OWN, ABOUT, A, B)


def test_the_port_is_that_of_the_first_that_has_one() -> None:
    assert of("openai", "b", "a").port == 1234
    assert of("openai").port is None
    assert of().port is None


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("8080", Listener(port=8080)),
        ("0", Listener(port=0)),
        ("11434=ollama_api", Listener(port=11434, dialects=("ollama_api",))),
        ("11434=a, b,a", Listener(port=11434, dialects=("a", "b"))),
        ("0.0.0.0:80=a", Listener(port=80, host="0.0.0.0", dialects=("a",))),
        ("[::1]:80=a", Listener(port=80, host="::1", dialects=("a",))),
        ("localhost:80", Listener(port=80, host="localhost")),
        ("ollama_api", Listener(dialects=("ollama_api",))),
        ("ollama_api,openai", Listener(dialects=("ollama_api", "openai"))),
        ("0.0.0.0:ollama_api", Listener(host="0.0.0.0", dialects=("ollama_api",))),
    ],
)
def test_a_listener_is_read_as_it_is_written(text: str, listener: Listener) -> None:
    assert read(text) == listener
    assert read(written(listener)) == listener


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it names no dialect"),
        ("80=", "it names no dialect"),
        ("80=a,,b", "it names no dialect"),
        ("99999", "'99999' is no port"),
        ("a=b", "'a' is no port"),
        ("-1=a", "'-1' is no port"),
        ("٣=a", "'٣' is no port"),
        ("=a", "'' is no port"),
        (":80=a", "'' is no host"),
        ("::1:80=a", "'::1' is no host"),
    ],
)
def test_what_is_no_listener_is_said(text: str, said: str) -> None:
    with pytest.raises(Invalid) as raised:
        read(text)
    assert said in str(raised.value)
    assert "[HOST:]PORT[=DIALECT" in raised.value.hint


def test_two_listeners_at_one_place_are_refused_and_two_at_any_free_port_are_not() -> None:
    one = Listener(port=80, host="127.0.0.1")
    check([one, Listener(port=80, host="::1"), Listener(port=81, host="127.0.0.1")])
    check([Listener(port=0, host="h"), Listener(port=0, host="h")])
    with pytest.raises(Invalid, match=r"127\.0\.0\.1 port 80"):
        check([one, Listener(port=1, host="h"), Listener(port=80, host="127.0.0.1", dialects=("a",))])
