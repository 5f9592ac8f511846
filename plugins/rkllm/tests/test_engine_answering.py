"""Answers over the stand-in library, on all four ABIs: streamed, stopped, limited, failed; by tokens and by text."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Reasoning, Text, ToolCall
from anyform.contract.jobs import Chat, Complete, Generation, Message, Rerank, Sampling, Sound, Tool
from anyform.contract.jobs import Text as Words
from anyform.contract.model import Stop
from anyform.testing import rkllm
from anyform_rkllm.layout import Era
from anyform_rkllm.run import EngineFailed

pytestmark = pytest.mark.engine

LOOK = Tool(name="look", description="looks", parameters={"type": "object", "properties": {"at": {"type": "string"}}})
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "é"}}\n</tool_call>'


@pytest.fixture(params=Era, ids=lambda era: era.name)
def era(request: pytest.FixtureRequest) -> Era:
    return request.param


@pytest.fixture(params=[True, False], ids=["tokens", "library"])
def model(kit: Any, era: Era, request: pytest.FixtureRequest) -> Any:
    """One that is asked by tokens, and one that has no files beside it."""
    if request.param:
        return kit.load(era, markers=False, text_interval=0)
    return kit.load(era, tokenizer=False, template="", text_interval=0)


def test_an_answer_comes_in_pieces_that_are_whole_characters(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!say Grüße, 日本語 😀!", generation=Generation()))
    pieces = [event.text for event in answered.events if isinstance(event, Text)]
    assert "".join(pieces) == "Grüße, 日本語 😀!"
    assert len(pieces) > 5
    assert isinstance(answered.events[0], Progress)
    assert answered.done.finishes[0].reason == "stop"


def test_what_the_library_is_given(kit: Any, era: Era) -> None:
    by_tokens = kit.ask(kit.load(era), kit.chat("hi", generation=Generation())).text
    asked = [257, *b"user\nhi", 258, *b"\n", 257, *b"assistant\n"]
    assert by_tokens.split("|")[2:4] == ["token", " ".join(map(str, asked))]
    by_library = kit.ask(kit.load(era, tokenizer=False, template=""), kit.chat("hi", generation=Generation())).text
    assert by_library.split("|")[2:4] == ["prompt", "hi"]
    assert "tmpl=model" in by_library


def test_without_a_tokenizer_the_template_is_rendered_to_text(kit: Any, era: Era) -> None:
    model = kit.load(
        era, tokenizer=False, template="{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    )
    told = kit.ask(model, kit.chat("hi", generation=Generation())).text
    if era == Era.V11:
        assert told.split("|")[2:4] == ["prompt", "hi"]  # its own template cannot be emptied
    else:
        assert "|prompt|[user]hi|" in told
        assert "tmpl=~~" in told


def test_a_bos_that_the_library_adds_is_not_written_twice(kit: Any) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    said = {"chat_template": template, "bos_token": "<s>"}
    for adds, expected in ((True, "hi"), (False, "<s>hi")):
        sidecars = {"tokenizer_config.json": {**said, "add_bos_token": adds}}
        model = kit.load(Era.V121, tokenizer=False, sidecars=sidecars)
        assert kit.ask(model, kit.chat("hi", generation=Generation())).text.split("|")[3] == expected


def test_the_template_of_the_library_on_demand(kit: Any, era: Era) -> None:
    model = kit.load(era, by="library")
    assert kit.ask(model, kit.chat("hi", generation=Generation())).text.split("|")[2:4] == ["prompt", "hi"]


def test_null_texts_and_parts_of_characters_are_held_together(kit: Any, model: Any) -> None:
    assert kit.ask(model, kit.chat("!null !say äöü日本", generation=Generation())).text == "äöü日本"


def test_the_most_tokens_end_an_answer(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!count 50", generation=Generation(max_tokens=3)))
    assert answered.text.split() == ["1", "2", "3"]
    assert answered.done.finishes[0].reason == "length"
    assert answered.done.usage.completion_tokens == 3
    after = kit.ask(model, kit.chat("!count 5", generation=Generation(max_tokens=50)))
    assert (after.text.split(), after.done.finishes[0].reason) == (["1", "2", "3", "4", "5"], "stop")


def test_no_tokens_run_nothing(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!crash", generation=Generation(max_tokens=0)))
    assert (answered.text, answered.done.finishes[0].reason) == ("", "length")


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!count 100000", generation=Generation(stop=("5 6", "zz"))))
    assert answered.text == "1 2 3 4 "
    assert (answered.done.finishes[0].reason, answered.done.finishes[0].stop) == ("stop", "5 6")
    assert answered.done.usage.completion_tokens < 20


@pytest.mark.parametrize("prompt", ["!slow 20 !count 100000", "!hang"])
def test_a_stop_cancels_within_a_moment_and_the_model_goes_on(kit: Any, model: Any, prompt: str) -> None:
    stop = Stop()
    events = []
    for event in model.generate(kit.chat(prompt, generation=Generation()), stop):
        events.append(event)
        if isinstance(event, Text):
            stop.set()
    assert isinstance(events[-1], Done)
    assert events[-1].finishes[0].reason == "cancelled"
    assert kit.ask(model, kit.chat("!say well", generation=Generation())).text == "well"


def test_a_stop_before_the_start(kit: Any, model: Any) -> None:
    stop = Stop()
    stop.set()
    answered = kit.ask(model, kit.chat("!crash", generation=Generation(n=2)), stop)
    assert [finish.reason for finish in answered.done.finishes] == ["cancelled", "cancelled"]


def test_who_leaves_early_frees_the_model(kit: Any, model: Any) -> None:
    for _ in range(2):
        events = model.generate(kit.chat("!hang", generation=Generation()), Stop())
        next(events)
        next(events)
        events.close()
    assert kit.ask(model, kit.chat("!say well", generation=Generation())).text == "well"


def test_several_answers_come_one_after_another(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!count 4", generation=Generation(n=3, max_tokens=2)))
    assert [answered.text_of(index).split() for index in range(3)] == [["1", "2"]] * 3
    assert [finish.reason for finish in answered.done.finishes] == ["length"] * 3
    assert answered.done.usage.completion_tokens == 6


def test_an_error_of_the_library_is_one_jobs_fault(kit: Any, model: Any) -> None:
    for prompt in ("!error", "!fail"):
        with pytest.raises(EngineFailed):
            kit.ask(model, kit.chat(prompt, generation=Generation()))
    assert kit.ask(model, kit.chat("!say well", generation=Generation())).text == "well"


def test_jobs_at_once_stand_in_line(kit: Any, model: Any) -> None:
    asks = [lambda n=n: kit.ask(model, kit.chat(f"!count {n}", generation=Generation())).text for n in range(1, 9)]
    answers = kit.together(asks)
    assert [len(answer.split()) for answer in answers] == list(range(1, 9))


def test_a_stop_in_the_line_leaves_it_at_once(kit: Any, model: Any) -> None:
    first, second = Stop(), Stop()
    running = model.generate(kit.chat("!hang", generation=Generation()), first)
    next(running)
    next(running)
    waiting = model.generate(kit.chat("!say never", generation=Generation()), second)
    next(waiting)
    ended: list[Any] = []
    reader = threading.Thread(target=lambda: ended.extend(waiting))
    reader.start()
    second.set()
    reader.join(10)
    assert [event.finishes[0].reason for event in ended] == ["cancelled"]
    first.set()
    assert list(running)[-1].finishes[0].reason == "cancelled"


def test_closing_ends_what_runs_and_what_waits(kit: Any, model: Any) -> None:
    running = model.generate(kit.chat("!hang", generation=Generation()), Stop())
    next(running)
    next(running)
    waiting = model.generate(kit.chat("!say never", generation=Generation()), Stop())
    next(waiting)
    ends = kit.together([lambda: list(running), lambda: list(waiting), model.close])
    assert [type(end) for end in ends] == [Closed, Closed, type(None)]
    with pytest.raises(Closed):
        model.generate(kit.chat("hi"), Stop())
    model.close()


def test_a_prompt_over_the_context_is_refused_before_anything_runs(kit: Any, era: Era) -> None:
    for tokenizer, template in ((True, rkllm.CHATML), (False, "")):
        model = kit.load(era, tokenizer=tokenizer, template=template, context=64)
        with pytest.raises(ContextExceeded) as refused:
            model.generate(kit.chat("!crash " + "word " * 64, generation=Generation()), Stop())
        assert refused.value.details["context"] == 64
        assert refused.value.details["prompt_tokens"] >= 65
        assert kit.ask(model, kit.chat("!count 3", generation=Generation(max_tokens=9))).text.split() == ["1", "2", "3"]


def test_an_answer_may_fill_what_is_left_of_the_context(kit: Any, era: Era) -> None:
    model = kit.load(era, context=64)
    answered = kit.ask(model, kit.chat("!count 1000", generation=Generation()))
    assert answered.done.finishes[0].reason == "length"
    assert answered.prompt_tokens + answered.done.usage.completion_tokens == 64


def test_more_than_is_left_is_cut_to_it(kit: Any, era: Era) -> None:
    """Clients that always send max_tokens=4096 must do well."""
    for tokenizer, template in ((True, rkllm.CHATML), (False, "")):
        model = kit.load(era, tokenizer=tokenizer, template=template, context=64)
        short = kit.ask(model, kit.chat("!count 3", generation=Generation(max_tokens=4096)))
        assert (short.text.split(), short.done.finishes[0].reason) == (["1", "2", "3"], "stop")
        long = kit.ask(model, kit.chat("!count 1000", generation=Generation(max_tokens=4096)))
        if tokenizer or era >= Era.V121:  # else nothing tells how long the library's prompt is
            assert long.done.finishes[0].reason == "length"
            assert long.done.usage.prompt_tokens + long.done.usage.completion_tokens == 64
    model = kit.load(era, context=16)
    for length in (16, 17):
        with pytest.raises(ContextExceeded, match=f"has {length} tokens"):
            model.generate(Complete(prompt=(104,) * length, generation=Generation(max_tokens=1)), Stop())
    full = kit.ask(model, Complete(prompt=(104,) * 16, generation=Generation(max_tokens=0)))
    assert (full.text, full.done.finishes[0].reason) == ("", "length")


def test_a_request_may_ask_for_more_than_the_load_option_gives(kit: Any, era: Era) -> None:
    model = kit.load(era, max_new_tokens=3)
    for most, expected in ((None, "3 length"), (5, "5 length"), (50, "9 stop")):
        told = kit.ask(model, kit.chat("!count 9", generation=Generation(max_tokens=most)))
        assert f"{len(told.text.split())} {told.done.finishes[0].reason}" == expected


def test_figures(kit: Any, era: Era) -> None:
    done = kit.ask(kit.load(era), kit.chat("!count 10", generation=Generation())).done
    assert done.usage.prompt_tokens == len("!count 10") + len("user\n") + len("\nassistant\n") + 3
    assert done.usage.completion_tokens == 10
    if era < Era.V121:
        assert "perf" not in done.extra
        assert done.generate_s > 0
    else:
        perf = done.extra["perf"]
        assert (perf["generated_tokens"], done.generate_s) == (10, pytest.approx(0.1))
        assert perf["generated_tokens_per_s"] == pytest.approx(100)
        assert perf["memory_bytes"] > 0


def test_thinking_is_told_apart(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat("!say <think>\nhm\n</think>\n\nyes", generation=Generation()))
    assert "".join(event.text for event in answered.events if isinstance(event, Reasoning)) == "hm"
    assert answered.text == "yes"
    assert answered.done.usage.reasoning_tokens > 0


def test_a_call_of_a_tool_is_parsed(kit: Any, model: Any) -> None:
    answered = kit.ask(model, kit.chat(f"!say {CALL}", tools=(LOOK,), generation=Generation()))
    calls = [event for event in answered.events if isinstance(event, ToolCall)]
    assert calls[0].name == "look"
    assert "".join(call.arguments for call in calls) == '{"at": "é"}'
    assert answered.done.finishes[0].reason == "tool_calls"


def test_what_nobody_enforces_is_said(kit: Any, model: Any) -> None:
    job = kit.chat("hi", tools=(Tool(name="f", strict=True),), tool_choice="required", generation=Generation())
    said = " ".join(kit.ask(model, job).done.extra["remarks"])
    assert "tool_choice required is not enforced" in said
    assert "strict" in said


@pytest.mark.parametrize(
    ("generation", "param"),
    [
        (Generation(logprobs=True), "logprobs"),
        (Generation(grammar='root ::= "a"'), "grammar"),
        (Generation(schema={}), "response_format"),
        (Generation(sampling=Sampling(logit_bias={1: 2.0})), "logit_bias"),
    ],
)
def test_what_the_library_cannot_is_refused(kit: Any, generation: Generation, param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        kit.load(Era.V13).generate(kit.chat("hi", generation=generation), Stop())
    assert refused.value.details["param"] == param


def test_other_refusals(kit: Any) -> None:
    model = kit.load(Era.V121)
    jobs: list[tuple[Any, type[Exception]]] = [
        (Rerank(query="a", documents=("b",)), Unsupported),
        (Complete(prompt="a", suffix="b"), Unsupported),
        (Complete(prompt=""), Invalid),
        (Complete(prompt=(512,)), Invalid),
        (Chat(messages=()), Invalid),
        (kit.chat("hi", generation=Generation(n=0)), Invalid),
        (kit.chat("hi", generation=Generation(max_tokens=-1)), Invalid),
        (kit.chat("hi", generation=Generation(context=5000)), Invalid),
        (kit.chat("hi", generation=Generation(sampling=Sampling(top_p=1.5))), Invalid),
        (Chat(messages=(Message(role="user", parts=(Sound(data=b""),)),)), Invalid),
    ]
    for job, kind in jobs:
        with pytest.raises(kind):
            model.generate(job, Stop())


@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_template_that_says_nothing_is_told_before_anything_runs(kit: Any, tokenizer: bool) -> None:
    model = kit.load(Era.V121, tokenizer=tokenizer, template="{% if messages[0]['content'] == 'x' %}x{% endif %}")
    with pytest.raises(Invalid, match="the prompt is empty"):
        model.generate(kit.chat("hi"), Stop())


def test_a_completion_has_nothing_around_it(kit: Any, era: Era) -> None:
    model = kit.load(era)
    raw = kit.ask(model, Complete(prompt="hi", echo=True)).text
    assert raw.startswith("hi")
    assert raw.removeprefix("hi").split("|")[2:4] == ["token", "104 105"]
    assert kit.ask(model, Complete(prompt=(104, 105), echo=True)).text == raw
    assert kit.ask(model, Complete(prompt="x", echo=True, generation=Generation(max_tokens=0))).text == "x"


def test_a_completion_without_a_tokenizer(kit: Any, era: Era) -> None:
    model = kit.load(era, tokenizer=False)
    if era == Era.V11:
        with pytest.raises(Unsupported, match="no tokenizer"):
            model.generate(Complete(prompt="hi"), Stop())
    else:
        assert "|prompt|hi|" in kit.ask(model, Complete(prompt="hi")).text
    assert "|token|104 105|" in kit.ask(model, Complete(prompt=(104, 105))).text
    with pytest.raises(Unsupported, match="echo"):
        model.generate(Complete(prompt=(1,), echo=True), Stop())


def test_text_is_held_back_for_a_moment_where_it_comes_quickly(kit: Any) -> None:
    model = kit.load(Era.V121, text_interval=5)
    answered = kit.ask(model, kit.chat("!count 50", generation=Generation()))
    pieces = [event for event in answered.events if isinstance(event, Text)]
    assert len(answered.text.split()) == 50
    assert len(pieces) == 2


def test_system_is_part_of_the_models_own_template(kit: Any) -> None:
    job = kit.turns("hi", "ho", "well", system="Be kind")
    told = kit.ask(kit.load(Era.V121), job)
    ids = [int(word) for word in told.text.split("|")[3].split()]
    said = bytes(id for id in ids if id < 256).decode()
    assert said == "system\nBe kind\nuser\nhi\nassistant\nho\nuser\nwell\nassistant\n"
    assert "remarks" not in told.done.extra


def test_a_picture_is_refused_by_a_model_without_an_encoder(kit: Any) -> None:
    from anyform.contract.jobs import Picture

    job = Chat(messages=(Message(role="user", parts=(Picture(data=b"x"), Words(text="what"))),))
    with pytest.raises(Unsupported, match="vision"):
        kit.load(Era.V121).generate(job, Stop())
