"""Generating text: what comes out, where it ends, how likely it was, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Text
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Message, Picture, Sampling
from anyform.contract.model import LoadedModel, Stop


def test_questions_are_answered_and_the_answers_end(decoder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder)
    for asked, words in (
        (kit.FOLDER, kit.COMMAND),
        ("How do I list models?", "anyform list"),
        ("What is 2 + 3?", "2 + 3 = 5"),
        ("Which day comes after Monday?", "Tuesday"),
    ):
        answered = kit.ask(model, kit.chat(asked, generation=Generation(max_tokens=60, sampling=kit.GREEDY)))
        assert words in answered.text
        assert "<|" not in answered.text
        assert answered.prompt_tokens == answered.done.usage.prompt_tokens == len(kit.ids(model, kit.question(asked)))
        assert answered.done.usage.completion_tokens <= 60
        assert answered.done.finishes[0].reason == "stop"


def test_seeds_decide(tiny_model: LoadedModel, kit: Any) -> None:
    def text(seed: int | None) -> str:
        answered = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0, seed=seed))
        return str(answered.text)

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert text(None) != text(None)


def test_the_seed_that_was_drawn_is_told(tiny_model: LoadedModel, kit: Any) -> None:
    first = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0))
    again = kit.complete(tiny_model, "once", sampling=Sampling(temperature=1.0, seed=first.done.extra["seed"]))
    assert again.text == first.text
    assert 0.0 <= again.done.extra["smallest_gap"] < 0.5


def test_stop_strings_end_the_text_and_are_not_part_of_it(decoder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder)
    prompt = kit.question(kit.FOLDER)
    answer = kit.complete(model, prompt).text
    assert kit.COMMAND in answer
    for stop in (kit.COMMAND, "rve --mod", "DIR`", " "):
        answered = kit.complete(model, prompt, stop=(stop, "never"))
        assert answered.text == answer[: answer.index(stop)]
        assert answered.done.finishes[0].reason == "stop"
        assert answered.done.finishes[0].stop == stop
    assert kit.complete(model, prompt, stop=("DIR!",)).text == answer


def test_no_broken_character_ever_leaves(tiny_model: LoadedModel, kit: Any) -> None:
    prefer_bytes = dict.fromkeys(range(3, 259), 6.0)
    seen = 0
    for seed in range(6):
        sampling = Sampling(temperature=1.5, seed=seed, logit_bias=prefer_bytes, top_k=0, top_p=1.0, min_p=0.0)
        answered = kit.complete(tiny_model, "once", max_tokens=60, sampling=sampling)
        for event in answered.events:
            if isinstance(event, Text):
                event.text.encode("utf-8")
        seen += sum(ord(character) > 127 for character in answered.text)
    assert seen > 0


def test_a_character_of_several_tokens_comes_whole(tiny_model: LoadedModel, kit: Any) -> None:
    euro = "€".encode()
    answered = kit.complete(
        tiny_model, "once", grammar='root ::= "€€€"', max_tokens=12, logprobs=True, sampling=Sampling(temperature=0.0)
    )
    assert answered.text == "€€€"
    pieces = [event.text for event in answered.events if isinstance(event, Text)]
    assert set(pieces) <= {"€", "€€", "€€€", ""}
    logprobs = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert b"".join(bytes(one.bytes) for one in logprobs) == euro * 3


def test_max_tokens_and_the_context_end_an_answer(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=100)
    capped = kit.complete(model, "once", max_tokens=5, ignore_eos=True)
    assert (capped.done.usage.completion_tokens, capped.done.finishes[0].reason) == (5, "length")
    full = kit.complete(model, "once", max_tokens=None, ignore_eos=True)
    assert full.done.usage.prompt_tokens + full.done.usage.completion_tokens == 100
    assert full.done.finishes[0].reason == "length"


def test_every_request_can_use_its_whole_context(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=256, parallel=4)
    calls = [lambda n=n: kit.complete(model, f"{n}", max_tokens=None, ignore_eos=True) for n in range(8)]
    for answered in kit.together(calls):
        assert answered.done.usage.prompt_tokens + answered.done.usage.completion_tokens == 256


def test_a_prompt_over_the_context_is_refused_with_both_numbers(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=64)
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Complete(prompt=(5,) * 65), Stop())
    assert caught.value.details == {"prompt_tokens": 65, "context": 64}
    assert "65" in caught.value.message
    assert "64" in caught.value.message
    with pytest.raises(ContextExceeded):
        model.generate(kit.chat("once " * 100), Stop())
    assert kit.complete(model, (5,) * 63, max_tokens=9).done.usage.completion_tokens == 1


def test_an_end_token_ends_and_is_not_text(tiny_model: LoadedModel, kit: Any) -> None:
    answered = kit.complete(tiny_model, "once", sampling=Sampling(temperature=0.0, logit_bias={2: 100.0}))
    assert answered.text == ""
    assert answered.done.finishes[0].reason == "stop"
    assert answered.done.usage.completion_tokens == 1
    ignoring = kit.complete(
        tiny_model, "once", ignore_eos=True, max_tokens=9, sampling=Sampling(temperature=0.0, logit_bias={2: 100.0})
    )
    assert ignoring.done.finishes[0].reason == "length"


def test_token_prompts_are_used_as_they_are(sample_model: LoadedModel, kit: Any) -> None:
    prompt = kit.question(kit.FOLDER)
    tokens = kit.complete(sample_model, tuple(kit.ids(sample_model, prompt)))
    assert kit.COMMAND in tokens.text
    assert tokens.text == kit.complete(sample_model, prompt).text
    with pytest.raises(Invalid, match="99999"):
        sample_model.generate(Complete(prompt=(1, 99999)), Stop())
    with pytest.raises(Invalid, match="empty"):
        sample_model.generate(Complete(prompt=()), Stop())


def test_logprobs_are_the_models_own(sample_model: LoadedModel, kit: Any) -> None:
    prompt = kit.question(kit.FOLDER)
    answered = kit.complete(sample_model, prompt, logprobs=True, top_logprobs=5, sampling=kit.GREEDY)
    logprobs = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert "".join(one.token for one in logprobs) == answered.text
    for one in logprobs:
        assert one.logprob is not None
        assert one.logprob <= 0.0
        assert len(one.top) == 5
        likelihoods = [top.logprob or 0.0 for top in one.top]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert one.id == one.top[0].id
        assert bytes(one.bytes).decode("utf-8", "replace") == one.token
    assert kit.COMMAND in answered.text
    assert answered.text == kit.complete(sample_model, prompt).text


def test_a_right_answer_is_likelier_than_a_wrong_one(sample_model: LoadedModel, kit: Any) -> None:
    def likelihood(answer: str) -> float:
        prompt = kit.question("Which day comes after Monday?") + answer
        generation = Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY)
        scored = kit.ask(sample_model, Complete(prompt=prompt, echo=True, generation=generation))
        return sum(one.logprob or 0.0 for event in scored.events if isinstance(event, Text) for one in event.logprobs)

    right = likelihood("After Monday comes Tuesday.")
    assert all(right > likelihood(f"After Monday comes {day}.") + 1 for day in ("Monday", "Friday", "Sunday"))


def test_an_echo_brings_the_prompt_and_its_likelihoods(sample_model: LoadedModel, kit: Any) -> None:
    prompt = "Serve a folder with"
    plain = kit.complete(sample_model, prompt, max_tokens=6)
    job = Complete(
        prompt=prompt,
        echo=True,
        generation=Generation(max_tokens=6, logprobs=True, top_logprobs=2, sampling=kit.GREEDY),
    )
    echoed = kit.ask(sample_model, job)
    assert echoed.text == prompt + plain.text
    logprobs = [one for event in echoed.events if isinstance(event, Text) for one in event.logprobs]
    prompt_tokens = echoed.done.usage.prompt_tokens
    assert len(logprobs) >= prompt_tokens + 5
    scored = Complete(prompt=prompt, echo=True, generation=Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY))
    only = kit.ask(sample_model, scored)
    assert only.text == prompt
    scores = [one for event in only.events if isinstance(event, Text) for one in event.logprobs]
    assert len(scores) == prompt_tokens
    assert (scores[0].logprob, scores[0].top) == (logprobs[0].logprob, logprobs[0].top) == (None, ())
    assert [one.logprob for one in scores[1:]] == pytest.approx(
        [one.logprob for one in logprobs[1:prompt_tokens]], abs=1e-3
    )
    assert (only.done.usage.completion_tokens, only.done.finishes[0].reason) == (0, "length")


def test_a_long_prompt_is_scored_in_pieces(tiny_model: LoadedModel, kit: Any) -> None:
    tokens = tuple(200 + n % 50 for n in range(300))
    job = Complete(prompt=tokens, echo=True, generation=Generation(max_tokens=1, logprobs=True, sampling=kit.GREEDY))
    logprobs = [one for event in kit.ask(tiny_model, job).events if isinstance(event, Text) for one in event.logprobs]
    assert [one.id for one in logprobs[:300]] == list(tokens)


def test_penalties_change_the_text(tiny_model: LoadedModel, kit: Any) -> None:
    def text(**values: Any) -> str:
        sampling = Sampling(temperature=0.0, logit_bias={ord("x") - 33 + 260: 9.0}, **values)
        return str(kit.complete(tiny_model, "once", sampling=sampling).text)

    plain = text().count("x")
    assert plain > 10
    assert text(repeat_penalty=1.0, presence_penalty=0.0).count("x") == plain
    for value in ({"repeat_penalty": 9.0}, {"frequency_penalty": 2.0}, {"presence_penalty": 9.0}):
        assert text(**value).count("x") < plain


def test_a_chat_goes_through_the_template(sample_model: LoadedModel, kit: Any) -> None:
    answered = kit.ask(sample_model, kit.chat("How do I list models?"))
    raw = kit.question("How do I list models?")
    assert "anyform list" in answered.text
    assert answered.text == kit.complete(sample_model, raw, max_tokens=24).text
    assert answered.prompt_tokens == kit.complete(sample_model, raw, max_tokens=1).prompt_tokens


def test_a_model_without_a_template_still_answers(tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform.testing import gguf

    model = engine.load(gguf.write_llama(tmp_path / "plain.gguf"), context=200)
    assert kit.ask(model, kit.chat("once")).done.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "generation",
    [
        Generation(n=0),
        Generation(n=1000),
        Generation(top_logprobs=21, logprobs=True),
        Generation(max_tokens=-1),
        Generation(context=100_000),
        Generation(sampling=Sampling(top_p=2.0)),
    ],
)
def test_wrong_requests_are_refused(tiny_model: LoadedModel, generation: Generation) -> None:
    with pytest.raises(Invalid):
        tiny_model.generate(Complete(prompt="once", generation=generation), Stop())


def test_other_tasks_are_refused(tiny_model: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="embed"):
        tiny_model.generate(Embed(inputs=("x",)), Stop())
    with pytest.raises(Unsupported, match="fill-in"):
        tiny_model.generate(Complete(prompt="x", suffix="y"), Stop())
    picture = Message(role="user", parts=(Picture(data=b"x"),))
    with pytest.raises(Unsupported, match="picture"):
        tiny_model.generate(Chat(messages=(picture,)), Stop())


def test_a_request_brings_its_own_template(sample_model: LoadedModel, kit: Any) -> None:
    """It is rendered as the model's own would be: the answer is that to the prompt which it writes."""
    own = "<|im_start|>user\nWhat is {{ messages[0]['content'] }} + 5?<|im_end|>\n<|im_start|>assistant{{ '\\n' }}"
    prompts = {number: kit.question(f"What is {number} + 5?") for number in ("2", "11")}
    answers = {
        number: kit.ask(sample_model, kit.chat(number, template_options={"chat_template": own})).text
        for number in prompts
    }
    assert answers == {
        number: kit.complete(sample_model, prompt, max_tokens=24).text for number, prompt in prompts.items()
    }
    assert answers["2"] != answers["11"]
    assert kit.ask(sample_model, kit.chat("2")).text != answers["2"]
    for wrong, said in (("{% if", "does not compile"), ("{{ raise_exception('no') }}", "refused"), (7, "is int")):
        with pytest.raises(Invalid, match=said) as caught:
            kit.ask(sample_model, kit.chat("2", template_options={"chat_template": wrong}))
        assert caught.value.details["param"] == "chat_template"
