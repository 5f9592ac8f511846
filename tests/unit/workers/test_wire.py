"""Facts cross the wire unchanged, in any pieces."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyform.contract import events, facts, jobs
from anyform.contract.errors import ContextExceeded, Fault, PluginFault
from anyform.workers.wire import Decoder, is_event, pack

CHAT = jobs.Chat(
    messages=(
        jobs.Message(
            role="user", parts=(jobs.Text(text="hä?"), jobs.Picture(data=b"\x00\xff", media_type="image/png"))
        ),
        jobs.Message(role="assistant", calls=(jobs.Call(id="1", name="f", arguments="{}"),)),
    ),
    tools=(jobs.Tool(name="f", parameters={"type": "object", "$": "not a fact", "list": [1, [2]]}),),
    generation=jobs.Generation(
        sampling=jobs.Sampling(temperature=0.0, logit_bias={5: -1.5}),
        stop=("a", "b"),
        schema={"enum": [[1], {"$b": 1}]},
    ),
)
MATCH = facts.FormatMatch(format="f", entry="m", files=("m", "n"), evidence=facts.Evidence.MAGIC, why="w")
VALUES = [
    CHAT,
    jobs.Complete(prompt=(1, 2, 3)),
    jobs.Embed(inputs=("a", (1, 2))),
    MATCH,
    facts.Finding(code="c", severity=facts.Severity.CRITICAL, text="t"),
    facts.Plan(
        plugin="p",
        backend="b",
        model="m",
        path="/m",
        match=MATCH,
        metadata=facts.Metadata(tasks=("chat",), extra={"layers": [1, 2], "x": None}),
        settings=facts.Settings(options={"lora": [{"path": "x"}]}),
        devices=(facts.Device(kind="cpu", extra={"flags": ["avx2"]}),),
    ),
    facts.BackendInfo(name="b", reads=("f",), tasks=("chat",), reductions=(facts.Reduction(options={"a": False}),)),
    events.Text(text="é", logprobs=(events.TokenLogprob(token="é", id=1, bytes=(195, 169), logprob=-0.5),)),
    events.Vector(data=b"\x00" * 16, dimensions=4, index=2),
    events.Done(finishes=(events.Finish(reason="length"),), usage=events.Usage(prompt_tokens=3)),
    {"token": "t", "job": CHAT},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_equal_and_of_the_same_types(value: object) -> None:
    (back,) = Decoder().feed(pack(value))
    assert back == value
    assert repr(back) == repr(value)


def test_every_fact_of_the_contract_can_cross() -> None:
    for module in (facts, jobs, events):
        for cls in vars(module).values():
            if dataclasses.is_dataclass(cls) and cls.__module__ == module.__name__:
                made = _made(cls)
                assert Decoder().feed(pack(made)) == [made]


def _made(cls: typing.Any) -> typing.Any:
    hints = typing.get_type_hints(cls)
    needed = [f for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    return cls(**{f.name: _value(hints[f.name]) for f in needed})


def _value(hint: typing.Any) -> typing.Any:
    if dataclasses.is_dataclass(hint):
        return _made(hint)
    if typing.get_origin(hint) is tuple:
        return (_value(typing.get_args(hint)[0]),)
    if typing.get_args(hint):
        return _value(typing.get_args(hint)[0])
    return hint(b"x") if hint is bytes else hint(1)


@given(st.lists(st.text(), max_size=5), st.integers(1, 9))
def test_pieces_do_not_matter(texts: list[str], step: int) -> None:
    sent = [events.Text(text=text) for text in texts]
    stream = b"".join(pack(event) for event in sent)
    decoder = Decoder()
    back = [value for at in range(0, len(stream), step) for value in decoder.feed(stream[at : at + step])]
    assert back == sent


def test_faults_come_back_as_their_own_class() -> None:
    (fault,) = Decoder().feed(pack(ContextExceeded("too long.", "Shorten it.", prompt_tokens=9, context=8)))
    assert type(fault) is ContextExceeded
    assert (str(fault), fault.details) == ("too long. Shorten it.", {"prompt_tokens": 9, "context": 8})
    (fault,) = Decoder().feed(pack(PluginFault("p", "load", ValueError("v"))))
    assert type(fault) is PluginFault


def test_a_plugins_own_fault_keeps_its_code() -> None:
    class Odd(Fault):
        code = "plugin.odd"

    frame = pack(Odd("m"))
    Odd.code = "gone"
    (fault,) = Decoder().feed(frame)
    assert fault.code == "plugin.odd"


def test_what_is_no_fact_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot cross"):
        pack(object())
    with pytest.raises(ValueError, match="over the limit"):
        Decoder().feed(b"\xff" * 8)


def test_events_are_told_from_other_values() -> None:
    assert is_event(events.Progress(stage="prompt"))
    assert not is_event(CHAT)
