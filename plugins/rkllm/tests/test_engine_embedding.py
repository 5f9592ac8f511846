"""Vectors from hidden states, on all four ABIs."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Vector
from anyform.contract.jobs import Embed, Picture
from anyform.contract.model import Stop
from anyform.testing import rkllm
from anyform_rkllm.embedding import vector
from anyform_rkllm.layout import Era
from anyform_rkllm.run import Hidden

pytestmark = pytest.mark.engine


def numbers(found: Vector) -> list[float]:
    return list(struct.unpack(f"<{found.dimensions}f", found.data))


def embed(model: Any, *inputs: Any, **fields: Any) -> list[Vector]:
    first, *vectors, last = model.generate(Embed(inputs=inputs, **fields), Stop())
    assert isinstance(first, Progress)
    assert isinstance(last, Done)
    return vectors


@pytest.mark.parametrize("era", Era)
def test_vectors(kit: Any, era: Era) -> None:
    pytest.importorskip("tokenizers")
    model = kit.load(era)
    found = embed(model, "hello", (104, 101, 108, 108, 111), "other")
    assert [one.index for one in found] == [0, 1, 2]
    assert {one.dimensions for one in found} == {8}
    assert found[0].data == found[1].data != found[2].data
    assert all(math.isclose(math.hypot(*numbers(one)), 1, rel_tol=1e-6) for one in found)
    (short,) = embed(model, "hello", dimensions=3)
    whole = numbers(found[0])[:3]
    assert numbers(short) == pytest.approx([number / math.hypot(*whole) for number in whole])
    assert kit.ask(model, kit.chat("!say well")).text == "well"


def test_the_last_token_counts() -> None:
    rows = struct.pack("<4f", 9, 9, 3, 4)
    assert numbers(vector(Hidden(data=rows, tokens=2, width=2), None, 0)) == pytest.approx([0.6, 0.8])
    assert numbers(vector(Hidden(data=struct.pack("<2f", 0, 0), tokens=1, width=2), None, 0)) == [0, 0]
    with pytest.raises(Invalid):
        vector(Hidden(data=rows, tokens=2, width=2), 3, 0)


def test_refusals(kit: Any) -> None:
    pytest.importorskip("tokenizers")
    model = kit.load(Era.V121, context=8)
    for job, kind in (
        (Embed(inputs=("12345678",)), ContextExceeded),
        (Embed(inputs=("",)), Invalid),
        (Embed(inputs=((),)), Invalid),
        (Embed(inputs=((512,),)), Invalid),
        (Embed(inputs=("a",), dimensions=9), Invalid),
        (Embed(inputs=("a",), dimensions=0), Invalid),
        (Embed(inputs=(Picture(data=b"x"),)), Unsupported),
    ):
        with pytest.raises(kind):
            model.generate(job, Stop())
    assert embed(model, "123456789", truncate=True)[0].data == embed(model, "1234567")[0].data


def test_what_is_cut_keeps_the_mark_at_its_end(kit: Any, tmp_path: Path) -> None:
    """It is the one whose state is the vector."""
    pytest.importorskip("tokenizers")
    written = json.loads((rkllm.write_model(tmp_path / "own") / "tokenizer.json").read_text("utf-8"))
    token = rkllm.BYTES + 2
    end = {"SpecialToken": {"id": "end", "type_id": 0}}
    written["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 1}}, end],
        "special_tokens": {"end": {"id": "end", "ids": [token], "tokens": [rkllm.MARKERS[2]]}},
    }
    model = kit.load(Era.V13, context=8, sidecars={"tokenizer.json": written})
    (cut,) = embed(model, "123456789", truncate=True)
    assert cut.data == embed(model, (*b"123456", token))[0].data
    assert embed(model, tuple(b"123456789"), truncate=True)[0].data == embed(model, tuple(b"1234567"))[0].data


@pytest.mark.parametrize("era", Era)
def test_without_a_tokenizer(kit: Any, era: Era) -> None:
    chats = kit.load(era, tokenizer=False, template="")
    with pytest.raises(Unsupported, match="tokenizer"):
        chats.generate(Embed(inputs=("hello",)), Stop())
    assert embed(chats, (1, 2, 3))
    embeds = kit.load(era, tokenizer=False, template="", tasks=("embed",))
    if era == Era.V11:
        with pytest.raises(Unsupported, match="tokenizer"):
            embeds.generate(Embed(inputs=("hello",)), Stop())
    else:
        assert embed(embeds, "hello")[0].data != embed(embeds, "hallo")[0].data
        with pytest.raises(ContextExceeded):
            embeds.generate(Embed(inputs=("word " * 4097,)), Stop())


def test_a_stop_between_inputs(kit: Any) -> None:
    model = kit.load(Era.V121, tokenizer=False, template="")
    stop = Stop()
    events = model.generate(Embed(inputs=((1,),) * 500), stop)
    next(events)
    stop.set()
    done = list(events)[-1]
    assert done.finishes[0].reason == "cancelled"
