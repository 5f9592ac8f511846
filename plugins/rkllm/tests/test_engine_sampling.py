"""How tokens are drawn: per request where the ABI can, else as the model was loaded, and said to be."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.jobs import Generation, Sampling
from anyform_rkllm.layout import Era

pytestmark = pytest.mark.engine

ASKED = Sampling(temperature=0.5, top_k=7, top_p=0.25, repeat_penalty=1.5, presence_penalty=0.5, frequency_penalty=-0.5)
PLAIN: dict[str, Any] = {"tokenizer": False, "template": "", "sidecars": {"generation_config.json": {}}}


def given(kit: Any, model: Any, sampling: Sampling, **more: Any) -> tuple[str, str]:
    """The sampling that the stand-in was given, and what was remarked."""
    answered = kit.ask(model, kit.chat("hi", generation=Generation(sampling=sampling, **more)))
    return answered.text.split("|")[4], " ".join(answered.done.extra.get("remarks", ()))


def test_1_3_draws_as_each_request_asks(kit: Any) -> None:
    model = kit.load(Era.V13, **PLAIN)
    assert given(kit, model, ASKED) == ("k=7 p=0.25 t=0.50 r=1.50 f=-0.50 e=0.50 m=0 5.00 0.10", "")
    assert given(kit, model, Sampling()) == ("k=40 p=0.90 t=0.80 r=1.10 f=0.00 e=0.00 m=0 5.00 0.10", "")
    assert given(kit, model, Sampling(temperature=0))[0].startswith("k=1 p=0.90 t=0.80")
    mirostat = kit.load(Era.V13, **PLAIN, mirostat=2)
    assert given(kit, mirostat, Sampling())[0].endswith(" m=2 5.00 0.10")
    assert given(kit, mirostat, Sampling(temperature=0))[0].endswith(" m=0 5.00 0.10")
    assert given(kit, model, Sampling(top_k=0))[0].startswith("k=1048576 ")


@pytest.mark.parametrize("era", [era for era in Era if era < Era.V13])
def test_before_1_3_it_is_as_loaded_and_said(kit: Any, era: Era) -> None:
    model = kit.load(era, **PLAIN)
    values, remark = given(kit, model, ASKED)
    assert values == "k=40 p=0.90 t=0.80 r=1.10 f=0.00 e=0.00 m=0 5.00 0.10"
    for name in ("temperature 0.8", "top_k 40", "top_p 0.9", "repeat_penalty 1.1", "presence_penalty 0"):
        assert name in remark
    assert given(kit, model, Sampling(temperature=0.8, top_k=40)) == (values, "")
    assert "temperature is ignored" in given(kit, model, Sampling(temperature=0))[1]
    assert any("sampling values" in note for note in model.notes)


@pytest.mark.parametrize("era", Era)
def test_load_options_and_the_models_own_wishes(kit: Any, era: Era) -> None:
    asks = {**PLAIN, "sidecars": {"generation_config.json": {"temperature": 0.7, "top_k": 20, "do_sample": True}}}
    assert given(kit, kit.load(era, **asks), Sampling())[0].startswith("k=20 p=0.90 t=0.70")
    assert given(kit, kit.load(era, **asks, temperature=0.25), Sampling())[0].startswith("k=20 p=0.90 t=0.25")


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("asked", [{"sidecars": {"generation_config.json": {"do_sample": False}}}, {"temperature": 0}])
def test_a_model_that_is_loaded_to_take_the_likeliest_token(kit: Any, era: Era, asked: Any) -> None:
    model = kit.load(era, **{**PLAIN, **asked})
    for sampling in (Sampling(), Sampling(temperature=0)):
        values, remark = given(kit, model, sampling)
        assert (values[:17], remark) == ("k=1 p=0.90 t=0.80", "")
    values, remark = given(kit, model, Sampling(temperature=0.5))
    if era < Era.V13:
        assert values.startswith("k=1 ")
        assert "temperature is ignored" in remark
        assert "(temperature 0)" in remark
    else:
        assert (values[:18], remark) == ("k=40 p=0.90 t=0.50", "")


@pytest.mark.parametrize("era", Era)
def test_what_no_release_has_is_said(kit: Any, era: Era) -> None:
    model = kit.load(era, **PLAIN)
    told = given(kit, model, Sampling(seed=1, min_p=0.1, typical_p=0.5, repeat_last_n=8))[1]
    assert told.startswith("min_p, typical_p, repeat_last_n and seed are ignored")
    assert given(kit, model, Sampling(min_p=0, typical_p=1))[1] == ""
    assert "ignore_eos is ignored" in given(kit, model, Sampling(), ignore_eos=True)[1]
