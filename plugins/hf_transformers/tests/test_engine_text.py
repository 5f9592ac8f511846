"""Generating text: transformers' own greedy text, alone and among others; where it ends, and what is refused."""

from __future__ import annotations

import json
import queue
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Text, ToolCall
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Message, Picture, Sampling, Tool
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine

QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 27, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Which port does the server use?", "Who are you?"),
    *("Which day comes after Monday?", "How many days has May?", "3 km in m", "My name is Tara."),
]


HOT = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0)


@pytest.fixture(scope="module")
def generated(decoder_folder: Path, kit: Any) -> dict[str, str]:
    """What transformers' own generate answers to QUESTIONS."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder_folder, dtype=torch.float32)
    answers = {}
    for asked in QUESTIONS:
        given = tokenizer(kit.question(asked), add_special_tokens=False, return_tensors="pt")
        out = model.generate(**given, max_new_tokens=60, do_sample=False)[0, given.input_ids.shape[1] :]
        answers[asked] = tokenizer.decode(out, skip_special_tokens=True)
    return answers


def test_greedy_text_is_transformers_own(decoder: LoadedModel, generated: dict[str, str], kit: Any) -> None:
    found = {asked: kit.complete(decoder, kit.question(asked), max_tokens=60).text for asked in QUESTIONS}
    assert found == generated
    assert len(set(found.values())) > 25
    assert kit.COMMAND in kit.ask(decoder, kit.chat(kit.FOLDER)).text


@pytest.mark.parametrize("parallel", [1, 3, 8, 32])
def test_each_gets_the_text_it_gets_alone(
    parallel: int, decoder: LoadedModel, decoder_folder: Path, engine: Any, kit: Any
) -> None:
    """Half of them greedy, half with a seed."""

    def tell(model: LoadedModel, place: int) -> str:
        sampling = Sampling(temperature=place % 2, seed=place)
        return str(kit.complete(model, kit.question(QUESTIONS[place]), max_tokens=60, sampling=sampling).text)

    alone = [tell(decoder, place) for place in range(len(QUESTIONS))]
    model = engine.load(decoder_folder, parallel=parallel)
    assert kit.together([partial(tell, model, place) for place in range(len(QUESTIONS))]) == alone


def test_greedy_text_is_the_ggufs(decoder: LoadedModel, sample_half: Path, kit: Any) -> None:
    backend = pytest.importorskip("anyform_gguf_llamacpp.backend")
    from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings

    match = FormatMatch(format="gguf", entry=sample_half.name, files=(), evidence=Evidence.MAGIC, why="")
    plan = Plan(
        plugin="gguf_llamacpp", backend="llama.cpp", model="m", path=str(sample_half.parent), match=match,
        metadata=Metadata(tasks=("chat",)), settings=Settings(context=2048),
    )  # fmt: skip
    other = backend.load(plan)
    texts = [
        [kit.complete(model, kit.question(q), max_tokens=60).text for q in QUESTIONS] for model in (decoder, other)
    ]
    other.close()
    assert sum(ours == theirs for ours, theirs in zip(*texts, strict=True)) >= 0.97 * len(QUESTIONS)


def test_what_was_read_is_not_read_again(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder)
    prompt = kit.question(kit.FOLDER)
    first = kit.complete(model, prompt)
    again = kit.complete(model, prompt)
    assert first.done.usage.cached_tokens == 0
    assert again.done.usage.cached_tokens == again.done.usage.prompt_tokens - 4
    assert again.text == first.text
    longer = kit.complete(model, prompt + first.text + "<|im_end|>\n" + kit.question("What is 2 + 3?"))
    assert longer.done.usage.cached_tokens >= first.done.usage.prompt_tokens
    assert longer.text == "2 + 3 = 5"
    assert kit.complete(model, "zzz", max_tokens=8).done.usage.cached_tokens == 0


def test_long_prompts_are_read_in_pieces_while_others_run(decoder_folder: Path, engine: Any, kit: Any) -> None:
    whole, pieces = engine.load(decoder_folder, context=2048), engine.load(decoder_folder, context=2048, batch=16)
    prompts = ["".join(kit.question(asked) for asked in QUESTIONS[: n * 8 + 1]) for n in range(4)]
    alone = [kit.complete(whole, prompt).text for prompt in prompts]
    assert kit.together([lambda p=p: kit.complete(pieces, p).text for p in prompts]) == alone


def test_seeds_decide(decoder: LoadedModel, kit: Any) -> None:
    def ask(seed: int | None) -> Any:
        return kit.complete(decoder, "once upon a time", sampling=replace(HOT, seed=seed))

    assert ask(1).text == ask(1).text
    assert ask(1).text != ask(2).text
    free = ask(None)
    assert ask(free.done.extra["seed"]).text == free.text


def test_several_answers_share_a_prompt(decoder: LoadedModel, kit: Any) -> None:
    sampling = replace(HOT, seed=5)
    answered = kit.complete(decoder, "once upon a time", n=6, max_tokens=20, sampling=sampling)
    texts = [answered.text_of(index) for index in range(6)]
    assert len(answered.done.finishes) == 6
    assert len(set(texts)) > 3
    assert texts[0] == kit.complete(decoder, "once upon a time", max_tokens=20, sampling=sampling).text


def test_stop_strings_end_the_text_and_are_not_part_of_it(decoder: LoadedModel, kit: Any) -> None:
    prompt = kit.question(kit.FOLDER)
    answer = kit.complete(decoder, prompt).text
    for stop in (kit.COMMAND, "rve --mod", " "):
        answered = kit.complete(decoder, prompt, stop=(stop, "never"))
        assert answered.text == answer[: answer.index(stop)]
        assert (answered.done.finishes[0].reason, answered.done.finishes[0].stop) == ("stop", stop)


def test_max_tokens_and_the_context_end_an_answer(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, context=100)
    capped = kit.complete(model, "once", max_tokens=5, ignore_eos=True)
    assert (capped.done.usage.completion_tokens, capped.done.finishes[0].reason) == (5, "length")
    calls = [lambda n=n: kit.complete(model, f"{n}", max_tokens=None, ignore_eos=True) for n in range(6)]
    for full in kit.together(calls):
        assert full.done.usage.prompt_tokens + full.done.usage.completion_tokens == 100
        assert full.done.finishes[0].reason == "length"
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Complete(prompt=(5,) * 101), Stop())
    assert caught.value.details == {"prompt_tokens": 101, "context": 100}
    assert kit.complete(model, (5,) * 99, max_tokens=9).done.usage.completion_tokens == 1


def test_logprobs_are_the_models_own(decoder: LoadedModel, decoder_folder: Path, kit: Any) -> None:
    prompt = kit.question(kit.FOLDER)
    answered = kit.complete(decoder, prompt, logprobs=True, top_logprobs=5)
    found = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert "".join(one.token for one in found) == answered.text
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder_folder, dtype=torch.float32)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = model(torch.tensor([ids + [one.id for one in found]])).logits[0, len(ids) - 1 : -1]
    expected = torch.log_softmax(logits, -1)
    for row, one in zip(expected, found, strict=True):
        assert one.logprob == pytest.approx(float(row[one.id]), abs=1e-4)
        assert [top.id for top in one.top] == row.topk(5).indices.tolist()


def test_an_echo_brings_the_prompt_and_its_likelihoods(decoder: LoadedModel, decoder_folder: Path, kit: Any) -> None:
    prompt = kit.question("Which day comes after Monday?") * 12
    job = Complete(prompt=prompt, echo=True, generation=Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY))
    answered = kit.ask(decoder, job)
    scores = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
    assert answered.text == prompt
    assert (answered.done.usage.completion_tokens, answered.done.finishes[0].reason) == (0, "length")
    ids = [one.id for one in scores]
    assert len(ids) == answered.prompt_tokens > 64
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder_folder, dtype=torch.float32)
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    assert scores[0].logprob is None
    found = [one.logprob for one in scores[1:]]
    assert found == pytest.approx([float(row[id]) for row, id in zip(expected, ids[1:], strict=False)], abs=1e-3)


def test_penalties_and_bias_change_the_text(decoder: LoadedModel, kit: Any) -> None:
    def text(**values: Any) -> str:
        sampling = Sampling(temperature=0.0, logit_bias={300: 40.0}, **values)
        return str(kit.complete(decoder, "once", sampling=sampling, ignore_eos=True).text)

    same = text()
    assert len(set(same)) <= 8
    for value in ({"repeat_penalty": 9.0}, {"frequency_penalty": 2.0}):
        assert text(**value) != same


def test_schemas_and_tools_bind(decoder: LoadedModel, kit: Any) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "additionalProperties": False}
    generation = Generation(max_tokens=40, schema=schema, sampling=Sampling(temperature=1.0, seed=4))
    answered = kit.ask(decoder, kit.chat("What is 2 + 3?", generation=generation))
    assert isinstance(json.loads(answered.text)["n"], int)
    tool = Tool(
        name="weather", description="d", parameters={"type": "object", "properties": {"town": {"enum": ["Rom"]}}}
    )
    generation = Generation(max_tokens=80, sampling=kit.GREEDY)
    answered = kit.ask(decoder, kit.chat("Hi", tools=(tool,), tool_choice="required", generation=generation))
    calls = [event for event in answered.events if isinstance(event, ToolCall)]
    assert "".join(call.name for call in calls if call.call == 0) == "weather"
    assert json.loads("".join(call.arguments for call in calls if call.call == 0)) in ({}, {"town": "Rom"})
    assert answered.done.finishes[0].reason == "tool_calls"
    with pytest.raises(Invalid):
        decoder.generate(kit.chat("x", generation=Generation(grammar="root ::= (")), Stop())


def test_stopping_frees_the_slot_within_a_step(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, parallel=1, context=2048)
    first, second = Stop(), Stop()
    running = model.generate(kit.unending("once"), first)
    assert isinstance(next(running), Progress)
    next(running)
    waiting = model.generate(kit.unending("upon"), second)
    assert isinstance(next(waiting), Progress)
    second.set()
    done = list(waiting)[-1]
    assert isinstance(done, Done)
    assert (done.finishes[0].reason, done.usage.completion_tokens) == ("cancelled", 0)
    first.set()
    done = list(running)[-1]
    assert isinstance(done, Done)
    assert done.finishes[0].reason == "cancelled"
    assert done.usage.completion_tokens < 1000
    assert kit.complete(model, "upon", max_tokens=3, ignore_eos=True).done.usage.completion_tokens == 3


def test_a_reader_that_goes_away_frees_the_slot(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, parallel=1, context=2048)
    events: Any = model.generate(kit.unending("once"), Stop())
    next(events)
    next(events)
    events.close()
    assert kit.complete(model, "upon", max_tokens=3, ignore_eos=True).done.usage.completion_tokens == 3


def test_closing_ends_running_jobs(decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, parallel=1, context=2048)
    raised: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    begun = threading.Semaphore(0)

    def run() -> None:
        try:
            for _ in model.generate(kit.unending("once"), Stop()):
                begun.release()
        except Closed as fault:
            raised.put(fault)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        begun.acquire()
    model.close()
    model.close()
    for thread in threads:
        thread.join()
    assert raised.qsize() == 3
    with pytest.raises(Closed):
        model.generate(Complete(prompt="once"), Stop())


def test_other_tasks_are_refused(decoder: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="embed"):
        decoder.generate(Embed(inputs=("x",)), Stop())
    with pytest.raises(Unsupported, match="picture"):
        decoder.generate(Chat(messages=(Message(role="user", parts=(Picture(data=b"x"), Said(text="y"))),)), Stop())
    with pytest.raises(Unsupported, match="fill-in"):
        decoder.generate(Complete(prompt="x", suffix="y"), Stop())
    with pytest.raises(Invalid, match="99999"):
        decoder.generate(Complete(prompt=(1, 99999)), Stop())


def test_prompts_that_come_together_are_read_together(
    decoder_folder: Path, engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anyform_hf_transformers.generation import SlotDecoder

    model = engine.load(decoder_folder, parallel=8, exact=False)
    prompts = [kit.question(f"What is {number} + {number + 1}?") for number in range(2, 10)]
    alone = [kit.complete(model, prompt).text for prompt in prompts]
    sizes: list[int] = []
    read_all = SlotDecoder.read_all
    monkeypatch.setattr(SlotDecoder, "read_all", lambda *of: (sizes.append(len(of[1])), read_all(*of))[1])
    busy = kit.unending(kit.question(kit.FOLDER))
    found = kit.together([lambda: kit.ask(model, busy), *(lambda p=p: kit.complete(model, p).text for p in prompts)])
    assert found[1:] == alone
    assert max(sizes) > 1


def test_a_request_brings_its_own_template(decoder: LoadedModel, kit: Any) -> None:
    """It is rendered as the model's own would be: the answer is that to the prompt which it writes."""
    own = "<|im_start|>user\nWhat is {{ messages[0]['content'] }} + 5?<|im_end|>\n<|im_start|>assistant{{ '\\n' }}"
    prompts = {number: kit.question(f"What is {number} + 5?") for number in ("2", "11")}
    answers = {
        number: kit.ask(decoder, kit.chat(number, template_options={"chat_template": own})).text for number in prompts
    }
    assert answers == {number: kit.complete(decoder, prompt, max_tokens=24).text for number, prompt in prompts.items()}
    assert answers["2"] != answers["11"]
    assert kit.ask(decoder, kit.chat("2")).text != answers["2"]
    for wrong, said in (("{% if", "does not compile"), ("{{ raise_exception('no') }}", "refused"), (7, "is int")):
        with pytest.raises(Invalid, match=said) as caught:
            kit.ask(decoder, kit.chat("2", template_options={"chat_template": wrong}))
        assert caught.value.details["param"] == "chat_template"
