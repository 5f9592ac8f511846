"""Generating text by plain onnxruntime: every layout's text, alone and among others; where it ends, what is refused."""

from __future__ import annotations

import json
import queue
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Fault, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Text, ToolCall
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Message, Picture, Sampling, Tool
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel, Stop
from anyform.testing.jobs import Engine

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 15, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Which port does the server use?", "Who are you?"),
    *("Which day comes after Monday?", "How many days has May?", "3 km in m", "My name is Tara."),
]
HOT = Sampling(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0)
COMMAND, FOLDER = "anyform serve --models DIR", "How do I serve a folder of models?"
"""A question, and what its answer names."""


def loaded(kit: Any, folder: Path, **settings: Any) -> LoadedModel:
    """With one thread: many models are loaded here, and small ones gain nothing by more."""
    from anyform_onnx import backend

    return backend.load(kit.plan(folder, threads=1, **settings))


@pytest.fixture(scope="module")
def folders(decoders: dict[str, Path]) -> dict[str, Path]:
    """The sample decoder as each exporter would write it."""
    return {name: folder for name, folder in decoders.items() if name != "genai, F16"}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path], kit: Any) -> Iterator[dict[str, LoadedModel]]:
    """Each of them, loaded."""
    made = Engine(partial(loaded, kit))
    yield {name: made.load(folder, context=2048) for name, folder in folders.items()}
    made.close()


@pytest.fixture
def engine(kit: Any) -> Iterator[Engine]:
    made = Engine(partial(loaded, kit))
    yield made
    made.close()


@pytest.fixture
def decoder(models: dict[str, LoadedModel]) -> LoadedModel:
    return models["optimum"]


@pytest.fixture(scope="module")
def answers(models: dict[str, LoadedModel], kit: Any) -> dict[str, list[str]]:
    """What each answers to QUESTIONS."""
    return {
        name: [kit.complete(model, kit.question(asked), max_tokens=60).text for asked in QUESTIONS]
        for name, model in models.items()
    }


def test_greedy_text_is_transformers_own(answers: dict[str, list[str]], decoder_source: Path, kit: Any) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(decoder_source)
    model = transformers.AutoModelForCausalLM.from_pretrained(decoder_source, dtype=torch.float32)
    expected = []
    for asked in QUESTIONS:
        given = tokenizer(kit.question(asked), add_special_tokens=False, return_tensors="pt")
        out = model.generate(**given, max_new_tokens=60, do_sample=False)[0, given.input_ids.shape[1] :]
        expected.append(tokenizer.decode(out, skip_special_tokens=True))
    assert answers["optimum"] == expected


def test_every_layout_gives_the_same_text(answers: dict[str, list[str]]) -> None:
    first = answers["optimum"]
    assert {"3 + 2 = 5", "5 + 5 = 10"} <= {*first}
    assert len({*first}) > 12
    assert answers["genai"] == answers["exported"] == answers["exported, padded"] == first
    assert sum(map(str.__eq__, answers["optimum, F16"], first)) >= len(first) - 1
    assert sum(map(str.__eq__, answers["optimum, I8"], first)) >= 0.8 * len(first)


def test_a_chat_is_written_with_the_folders_template(models: dict[str, LoadedModel], kit: Any) -> None:
    for model in models.values():
        assert COMMAND in kit.ask(model, kit.chat(FOLDER)).text


@pytest.mark.parametrize(
    ("name", "parallel"), [("optimum", 3), ("optimum", 8), ("genai", 8), ("exported", 3), ("exported, padded", 8)]
)
def test_each_gets_the_text_it_gets_alone(
    name: str, parallel: int, models: dict[str, LoadedModel], folders: dict[str, Path], engine: Any, kit: Any
) -> None:
    """Half of them greedy, half with a seed."""

    def tell(model: LoadedModel, place: int) -> str:
        sampling = Sampling(temperature=place % 2, seed=place)
        return str(kit.complete(model, kit.question(QUESTIONS[place]), max_tokens=60, sampling=sampling).text)

    alone = [tell(models[name], place) for place in range(len(QUESTIONS))]
    model = engine.load(folders[name], parallel=parallel, context=512)
    assert kit.together([partial(tell, model, place) for place in range(len(QUESTIONS))]) == alone


def test_the_genai_graph_is_read_from_its_own_config(folders: dict[str, Path], engine: Any, kit: Any) -> None:
    """As its builder leaves a folder: no config.json, no generation_config.json."""
    import shutil

    bare = folders["genai"].with_name("bare")
    shutil.copytree(folders["genai"], bare)
    for name in ("config.json", "generation_config.json"):
        (bare / name).unlink()
    assert COMMAND in kit.ask(engine.load(bare, context=512), kit.chat(FOLDER)).text


@pytest.mark.parametrize("name", ["optimum", "genai", "exported"])
def test_what_was_read_is_not_read_again(name: str, folders: dict[str, Path], engine: Any, kit: Any) -> None:
    model = engine.load(folders[name], context=512)
    prompt = kit.question(FOLDER)
    first = kit.complete(model, prompt)
    again = kit.complete(model, prompt)
    assert first.done.usage.cached_tokens == 0
    assert again.done.usage.cached_tokens == again.done.usage.prompt_tokens - 1
    assert again.text == first.text
    longer = kit.complete(model, prompt + first.text + "<|im_end|>\n" + kit.question("What is 2 + 3?"))
    assert longer.done.usage.cached_tokens >= first.done.usage.prompt_tokens
    assert longer.text == "2 + 3 = 5"
    assert kit.complete(model, "zzz", max_tokens=8).done.usage.cached_tokens == 0


@pytest.mark.parametrize("name", ["optimum", "genai", "exported"])
def test_long_prompts_are_read_in_pieces_while_others_run(
    name: str, folders: dict[str, Path], engine: Any, kit: Any
) -> None:
    whole, pieces = (engine.load(folders[name], context=2048, batch=size) for size in (2048, 16))
    prompts = ["".join(kit.question(asked) for asked in QUESTIONS[: n * 6 + 1]) for n in range(4)]
    alone = [kit.complete(whole, prompt).text for prompt in prompts]
    assert kit.together([lambda p=p: kit.complete(pieces, p).text for p in prompts]) == alone


@pytest.mark.parametrize(("name", "kind"), [("optimum", "generation.RowDecoder"), ("genai", "shared.SharedDecoder")])
def test_prompts_that_come_together_are_read_together(
    name: str, kind: str, folders: dict[str, Path], engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, last = kind.partition(".")
    decoder = getattr(import_module(f"anyform_onnx.{module}"), last)
    model = engine.load(folders[name], parallel=8, context=160)
    prompts = [kit.question(f"What is {number} + {number + 1}?") for number in range(2, 10)]
    alone = [kit.complete(model, prompt).text for prompt in prompts]
    sizes: list[int] = []
    read_all = decoder.read_all
    monkeypatch.setattr(decoder, "read_all", lambda *of: (sizes.append(len(of[1])), read_all(*of))[1])
    busy = kit.unending(kit.question(FOLDER))
    found = kit.together([lambda: kit.ask(model, busy), *(lambda p=p: kit.complete(model, p).text for p in prompts)])
    assert found[1:] == alone
    assert max(sizes) > 1


def test_seeds_decide_and_answers_share_a_prompt(models: dict[str, LoadedModel], kit: Any) -> None:
    for name in ("optimum", "genai"):
        model, sampling = models[name], replace(HOT, seed=5)
        answered = kit.complete(model, "once upon a time", n=6, max_tokens=20, sampling=sampling)
        texts = [answered.text_of(index) for index in range(6)]
        assert len(answered.done.finishes) == 6
        assert len(set(texts)) > 3
        one = kit.complete(model, "once upon a time", max_tokens=20, sampling=sampling)
        assert texts[0] == one.text
        assert kit.complete(model, "once upon a time", max_tokens=20, sampling=replace(HOT, seed=6)).text != one.text


def test_stop_strings_end_the_text_and_are_not_part_of_it(decoder: LoadedModel, kit: Any) -> None:
    prompt = kit.question(FOLDER)
    answer = kit.complete(decoder, prompt).text
    for stop in (COMMAND, "rve --mod", " "):
        answered = kit.complete(decoder, prompt, stop=(stop, "never"))
        assert answered.text == answer[: answer.index(stop)]
        assert (answered.done.finishes[0].reason, answered.done.finishes[0].stop) == ("stop", stop)


@pytest.mark.parametrize("name", ["optimum", "genai"])
def test_max_tokens_and_the_context_end_an_answer(name: str, folders: dict[str, Path], engine: Any, kit: Any) -> None:
    model = engine.load(folders[name], context=100)
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


def test_logprobs_are_the_same_whichever_way_they_are_asked_for(models: dict[str, LoadedModel], kit: Any) -> None:
    """Token by token, and of a prompt that is scored as a whole; of each layout."""
    prompt = kit.question(FOLDER)
    first: list[float] = []
    for name in ("optimum", "genai", "exported"):
        answered = kit.complete(models[name], prompt, logprobs=True, top_logprobs=5)
        found = [one for event in answered.events if isinstance(event, Text) for one in event.logprobs]
        assert "".join(one.token for one in found) == answered.text
        assert all(one.top[0].id == one.id for one in found)
        chances = [one.logprob for one in found]
        first = first or chances
        assert chances == pytest.approx(first, abs=1e-4)
        scored = Complete(
            prompt=prompt + answered.text, echo=True,
            generation=Generation(max_tokens=0, logprobs=True, sampling=kit.GREEDY),
        )  # fmt: skip
        echoed = kit.ask(models[name], scored)
        assert echoed.text == prompt + answered.text
        scores = [one for event in echoed.events if isinstance(event, Text) for one in event.logprobs]
        assert scores[0].logprob is None
        assert [one.logprob for one in scores[-len(chances) :]] == pytest.approx(chances, abs=1e-3)


def test_penalties_and_bias_change_the_text(decoder: LoadedModel, kit: Any) -> None:
    def text(**values: Any) -> str:
        sampling = Sampling(temperature=0.0, logit_bias={300: 40.0}, **values)
        return str(kit.complete(decoder, "once", sampling=sampling, ignore_eos=True).text)

    same = text()
    assert len(set(same)) <= 8
    for value in ({"repeat_penalty": 9.0}, {"frequency_penalty": 2.0}):
        assert text(**value) != same


def test_schemas_grammars_and_tools_bind(decoder: LoadedModel, kit: Any) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "additionalProperties": False}
    generation = Generation(max_tokens=40, schema=schema, sampling=Sampling(temperature=1.0, seed=4))
    answered = kit.ask(decoder, kit.chat("What is 2 + 3?", generation=generation))
    assert isinstance(json.loads(answered.text)["n"], int)
    generation = Generation(max_tokens=8, grammar='root ::= "yes" | "no"', sampling=kit.GREEDY)
    assert kit.ask(decoder, kit.chat("Is it?", generation=generation)).text in ("yes", "no")
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


@pytest.mark.parametrize("name", ["optimum", "genai"])
def test_stopping_frees_the_slot_within_a_step(name: str, folders: dict[str, Path], engine: Any, kit: Any) -> None:
    model = engine.load(folders[name], parallel=1, context=2048)
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


def test_a_reader_that_goes_away_frees_the_slot(folders: dict[str, Path], engine: Any, kit: Any) -> None:
    model = engine.load(folders["optimum"], parallel=1, context=2048)
    events: Any = model.generate(kit.unending("once"), Stop())
    next(events)
    next(events)
    events.close()
    assert kit.complete(model, "upon", max_tokens=3, ignore_eos=True).done.usage.completion_tokens == 3


def test_closing_ends_running_jobs(folders: dict[str, Path], engine: Any, kit: Any) -> None:
    model = engine.load(folders["optimum"], parallel=1, context=2048)
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


def test_a_step_that_fails_takes_its_requests_only(
    folders: dict[str, Path], engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt's tokens that the graph has no place for: onnxruntime refuses the step, and the model goes on."""
    from anyform_onnx.cachegraph import CacheGraph

    model = engine.load(folders["optimum"])
    words = CacheGraph._words

    def beyond(*given: Any) -> None:
        ids = given[3]
        ids[ids == 77] = 1 << 40
        words(*given)

    monkeypatch.setattr(CacheGraph, "_words", beyond)
    with pytest.raises(Fault, match="onnxruntime could not compute") as caught:
        kit.complete(model, (5, 77, 9))
    assert caught.value.code == "onnx.decode_failed"
    assert kit.complete(model, (5, 78, 9), max_tokens=3, ignore_eos=True).done.usage.completion_tokens == 3


@pytest.mark.parametrize("name", ["optimum", "genai"])
def test_no_error_of_onnxruntimes_ends_the_model(
    name: str, folders: dict[str, Path], engine: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Its own classes derive from Exception alone, and an input may be refused before anything is run."""
    from anyform_onnx.cachegraph import CacheGraph

    model = engine.load(folders[name])
    words = CacheGraph._words

    def strange(self: Any, session: Any, binding: Any, ids: Any, *more: Any) -> None:
        if (ids == 77).any():
            binding.bind_cpu_input("nobody_knows_it", ids)
        words(self, session, binding, ids, *more)

    monkeypatch.setattr(CacheGraph, "_words", strange)
    with pytest.raises(Fault, match="nobody_knows_it") as caught:
        kit.complete(model, (5, 77, 9))
    assert caught.value.code == "onnx.decode_failed"
    assert "a step failed" in caplog.text
    assert kit.complete(model, (5, 78, 9), max_tokens=3, ignore_eos=True).done.usage.completion_tokens == 3


def test_other_tasks_are_refused(decoder: LoadedModel) -> None:
    with pytest.raises(Unsupported, match="embed"):
        decoder.generate(Embed(inputs=("x",)), Stop())
    with pytest.raises(Unsupported, match="picture"):
        decoder.generate(Chat(messages=(Message(role="user", parts=(Picture(data=b"x"), Said(text="y"))),)), Stop())
    with pytest.raises(Unsupported, match="fill-in"):
        decoder.generate(Complete(prompt="x", suffix="y"), Stop())
    with pytest.raises(Invalid, match="99999"):
        decoder.generate(Complete(prompt=(1, 99999)), Stop())


def test_requests_that_a_graph_cannot_take_together_are_said_to_run_one_by_one(
    folders: dict[str, Path], engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    said = "takes no attention_mask, so that requests are run one after another"
    [note] = engine.load(folders["exported"], context=64).notes
    assert said in caplog.text
    assert said in note
    caplog.clear()
    assert not engine.load(folders["exported, padded"], context=64).notes
    assert not caplog.text


def test_quantized_decoders_say_that_requests_change_each_others_numbers(folders: dict[str, Path], engine: Any) -> None:
    [note] = engine.load(folders["optimum, I8"], context=64).notes
    assert "its numbers for one request hang on those computed beside it" in note
    assert not engine.load(folders["optimum, I8"], context=64, parallel=1).notes
    assert not engine.load(folders["optimum, F16"], context=64).notes


def test_a_context_beyond_the_graphs_table_of_places_is_refused(folders: dict[str, Path], engine: Any) -> None:
    with pytest.raises(Invalid, match="context is 4096; the model's positions end at 2048"):
        engine.load(folders["genai"], context=4096)


PLACES = 64


def with_a_table(folder: Path) -> Path:
    """A decoder that looks PLACES places up, as GPT-2 does; its answers hang on the last token and its place."""
    from anyform.testing.onnx import Graph, numbers, write_onnx
    from anyform.testing.onnxdecoder import write_decoder

    write_decoder(folder, max_position_embeddings=PLACES)
    count, width = json.loads((folder / "config.json").read_text())["vocab_size"], 4
    chance, graph = random.Random(7), Graph()

    def table(name: str, *shape: int) -> str:
        drawn = [chance.gauss(0, 1) for _ in range(shape[0] * shape[1])]
        return graph.weights(name, "F32", shape, numbers("F32", drawn))

    sides = ("batch", "sequence")
    ids, _, places = (graph.input(name, "I64", sides) for name in ("input_ids", "attention_mask", "position_ids"))
    words = graph.node("Gather", table("words", count, width), ids)
    states = graph.node("Add", words, graph.node("Gather", table("places", PLACES, width), places))
    graph.node("MatMul", states, table("head", width, count), called="logits")
    graph.output("logits", "F32", (*sides, count))
    new = graph.node("Unsqueeze", states, graph.constant([1], "I64"))
    for part in ("key", "value"):
        past = graph.input(f"past_key_values.0.{part}", "F32", ("batch", 1, "past", width))
        graph.node("Concat", past, new, called=f"present.0.{part}", axis=2)
        graph.output(f"present.0.{part}", "F32", ("batch", 1, "total", width))
    write_onnx(folder / "model.onnx", graph)
    return folder


def test_a_context_beyond_a_learnt_table_of_places_is_refused(tmp_path: Path, engine: Any, kit: Any) -> None:
    """By what the graph does, and where it is not told places by what config.json says; rotary ones go on."""
    folder = with_a_table(tmp_path / "table")
    whole = engine.load(folder, context=PLACES)
    assert kit.complete(whole, "x" * (PLACES - 4), max_tokens=3, ignore_eos=True).done
    with pytest.raises(Invalid, match=f"context is {PLACES + 1}; the model's graph ends before it") as caught:
        engine.load(folder, context=PLACES + 1)
    assert caught.value.hint == f"Give {PLACES} or less."
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"llama"', '"opt"'))
    with pytest.raises(Invalid, match=f"context is {PLACES + 1}; the model's positions end at {PLACES}"):
        engine.load(folder, context=PLACES + 1)


def test_rotary_places_go_on(folders: dict[str, Path], engine: Any) -> None:
    engine.load(folders["optimum"], context=4096)


def test_a_request_brings_its_own_template(models: dict[str, LoadedModel], kit: Any) -> None:
    """It is rendered as the model's own would be: the answer is that to the prompt which it writes."""
    model = models["optimum"]
    own = "<|im_start|>user\nWhat is {{ messages[0]['content'] }} + 5?<|im_end|>\n<|im_start|>assistant{{ '\\n' }}"
    prompts = {number: kit.question(f"What is {number} + 5?") for number in ("2", "11")}
    answers = {
        number: kit.ask(model, kit.chat(number, template_options={"chat_template": own})).text for number in prompts
    }
    assert answers == {number: kit.complete(model, prompt, max_tokens=24).text for number, prompt in prompts.items()}
    assert answers["2"] != answers["11"]
    assert kit.ask(model, kit.chat("2")).text != answers["2"]
    for wrong, said in (("{% if", "does not compile"), ("{{ raise_exception('no') }}", "refused"), (7, "is int")):
        with pytest.raises(Invalid, match=said) as caught:
            kit.ask(model, kit.chat("2", template_options={"chat_template": wrong}))
        assert caught.value.details["param"] == "chat_template"
