"""Generating text by onnxruntime-genai: the tokens of genai called directly, who runs where, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Fault, Invalid, LoadFailed, Unsupported
from anyform.contract.events import Text, ToolCall
from anyform.contract.jobs import Chat, Complete, Generation, Message, Sampling, Tool
from anyform.contract.jobs import Text as Said
from anyform.contract.model import LoadedModel
from anyform.testing.jobs import GREEDY, Engine
from anyform.testing.onnxdecoder import write_decoder

og = pytest.importorskip("onnxruntime_genai")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine

QUESTIONS = [f"What is {n} + {m}?" for n in range(3, 11, 2) for m in (2, 5)] + [
    *("How do I list models?", "What is `anyform ps`?", "Who are you?", "How many days has May?"),
]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
        "kind": {"enum": ['é"b', "c d", None]},
    },
    "required": ["name", "sizes", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample decoder as onnxruntime-genai's builder writes it."""
    layout = pytest.importorskip("anyform_samples.layout", exc_type=ImportError)
    return write_decoder(tmp_path_factory.mktemp("genai") / "sample", Path(layout.SAMPLE), layout="onnx_genai")


@pytest.fixture(scope="module")
def model(kit: Any, folder: Path) -> Iterator[LoadedModel]:
    made = loaded(kit, folder)
    yield made
    made.close()


def loaded(kit: Any, folder: Path, *, context: int | None = 512, parallel: int = 8, **options: Any) -> LoadedModel:
    from anyform_onnx.genai import backend

    return backend.load(
        kit.plan(folder, backend="onnxruntime_genai", context=context, parallel=parallel, threads=1, **options)
    )


def where(answered: Any) -> str:
    return str(answered.done.extra["batching"])


def ids(model: Any, prompt: str) -> tuple[int, ...]:
    return tuple(model._vocabulary.tokenize(prompt, affixes=True, special=True))


def directly(folder: Path, prompts: list[tuple[int, ...]], most: int, ends: frozenset[int]) -> list[list[int]]:
    """What genai's own greedy loop makes of each of *prompts*, the end token left out."""
    import numpy

    raw, found = og.Model(str(folder)), []
    for prompt in prompts:
        params = og.GeneratorParams(raw)
        params.set_search_options(max_length=len(prompt) + most, do_sample=False)
        generator = og.Generator(raw, params)
        generator.append_tokens(numpy.asarray(prompt, numpy.int32))
        made: list[int] = []
        while not generator.is_done() and len(made) < most:
            generator.generate_next_token()
            made.append(int(generator.get_next_tokens()[0]))
            if made[-1] in ends:
                made.pop()
                break
        found.append(made)
    return found


def test_the_tokens_are_those_of_genai_called_directly(model: Any, folder: Path, kit: Any) -> None:
    """In the engine, alone and together; and one by one, where log-probabilities name each token."""
    words = model._vocabulary
    prompts = [ids(model, kit.question(question)) for question in QUESTIONS]
    expected = directly(folder, prompts, 24, words.ends)
    texts = [b"".join(map(words.piece, one)).decode() for one in expected]
    assert len(set(texts)) > 8
    alone = [kit.complete(model, prompt, max_tokens=24) for prompt in prompts[:4]]
    together = kit.together([partial(kit.complete, model, prompt, max_tokens=24) for prompt in prompts])
    for found in (alone, together):
        assert [one.text for one in found] == texts[: len(found)]
        assert {where(one) for one in found} == {"engine"}
        assert [one.done.usage.completion_tokens for one in found] == [
            len(tokens) + (one.done.finishes[0].reason == "stop") for one, tokens in zip(found, expected, strict=False)
        ]
    for prompt, tokens in zip(prompts[:5], expected, strict=False):
        one = kit.complete(model, prompt, max_tokens=24, logprobs=True)
        assert where(one) == "own: it asks for log-probabilities"
        named = [said.id for event in one.events if isinstance(event, Text) for said in event.logprobs]
        assert [token for token in named if token not in words.ends] == tokens


@pytest.mark.parametrize(
    ("generation", "said"),
    [
        ({"sampling": Sampling(temperature=0.0, seed=3)}, "seed"),
        ({"sampling": Sampling(temperature=1.0, min_p=0.1)}, "min_p"),
        ({"sampling": Sampling(temperature=1.0, typical_p=0.5)}, "typical_p"),
        ({"sampling": Sampling(temperature=0.0, frequency_penalty=0.1)}, "penalized"),
        ({"sampling": Sampling(temperature=0.0, repeat_penalty=1.01, repeat_last_n=64)}, "penalized"),
        ({"sampling": Sampling(temperature=0.0, logit_bias={7: -1.0})}, "favoured"),
        ({"sampling": GREEDY, "logprobs": True}, "log-probabilities"),
        ({"sampling": GREEDY, "ignore_eos": True}, "banned"),
        ({"sampling": GREEDY, "max_tokens": 0}, "nothing"),
        ({"sampling": GREEDY}, ""),
        ({"sampling": Sampling(temperature=0.0, repeat_penalty=1.01)}, ""),
        ({"sampling": Sampling(temperature=0.7, top_k=1, top_p=0.9)}, ""),
        ({"sampling": GREEDY, "stop": (" = 7",)}, ""),
        ({"sampling": GREEDY, "n": 3}, ""),
    ],
)
def test_what_the_engine_does_not_do_runs_beside_it(
    generation: dict[str, Any], said: str, model: LoadedModel, kit: Any
) -> None:
    generation = {"max_tokens": 12, **generation}
    found = kit.complete(model, kit.question("What is 3 + 4?"), **generation)
    assert where(found).startswith("own: " if said else "engine")
    assert said in where(found)
    if generation["sampling"].temperature == 0.0 and not generation.get("ignore_eos"):
        expected = "" if not generation["max_tokens"] else "3 + 4" if "stop" in generation else "3 + 4 = 7"
        assert {found.text_of(n) for n in range(generation.get("n", 1))} == {expected}


def test_a_seed_is_kept_alone_and_among_others(model: LoadedModel, kit: Any) -> None:
    prompt = kit.question("Who are you?")
    hot = partial(Sampling, temperature=6.0, top_k=0, top_p=1.0)
    alone = [kit.complete(model, prompt, sampling=hot(seed=seed)) for seed in (1, 2)]
    assert alone[0].text != alone[1].text
    others = [partial(kit.complete, model, kit.question(one), sampling=hot()) for one in QUESTIONS[:3]]
    same = partial(kit.complete, model, prompt, sampling=hot(seed=1))
    found = kit.together([same, *others, same])
    assert found[0].text == found[-1].text == alone[0].text
    assert {where(one) for one in found[1:-1]} == {"engine"}
    assert found[1].done.extra["seed"] is None
    assert alone[0].done.extra["seed"] == 1


def test_sampling_is_the_requests_own(model: Any, kit: Any) -> None:
    """Greedy and hot ones in one batch; two hot ones differ."""
    prompt = kit.question("Who are you?")
    greedy = kit.complete(model, prompt).text
    hot = partial(kit.complete, model, prompt, sampling=Sampling(temperature=4.0, top_k=0, top_p=1.0))
    found = kit.together([partial(kit.complete, model, prompt), hot, partial(kit.complete, model, prompt), hot])
    assert [found[0].text, found[2].text] == [greedy, greedy]
    assert len({greedy, found[1].text, found[3].text}) == 3
    assert {where(one) for one in found} == {"engine"}


def test_a_schema_is_kept_in_the_midst_of_a_batch(model: LoadedModel, kit: Any) -> None:
    """Eight at once: five plain ones, whose text is as ever, and three that must give JSON, two of them sampled."""
    plain = [kit.question(question) for question in QUESTIONS[:5]]
    expected = [kit.complete(model, prompt).text for prompt in plain]
    asks = [partial(kit.complete, model, prompt) for prompt in plain]
    for temperature in (0.0, 1.5, 1.5):
        sampling = Sampling(temperature=temperature)
        asks.append(
            partial(kit.complete, model, kit.question("A thing?"), schema=SCHEMA, max_tokens=200, sampling=sampling)
        )
    found = kit.together(asks)
    assert [one.text for one in found[:5]] == expected
    for one in found[5:]:
        thing = json.loads(one.text)
        assert set(thing) == {"name", "sizes", "kind"}
        assert len(thing["name"]) <= 9
        assert thing["kind"] in SCHEMA["properties"]["kind"]["enum"]  # type: ignore[index]
        assert all(0 <= size <= 99 for size in thing["sizes"])
        assert one.done.finishes[0].reason == "stop"
    assert {where(one) for one in found} == {"engine"}


def test_a_grammar_is_kept(model: LoadedModel, kit: Any) -> None:
    for temperature in (0.0, 3.0):
        one = kit.complete(
            model, "x", grammar='root ::= "yes" | "no" [0-9] [0-9]', sampling=Sampling(temperature=temperature)
        )
        assert where(one) == "engine"
        assert one.text == "yes" or (one.text[:2] == "no" and one.text[2:].isdigit() and len(one.text) == 4)


def test_a_forced_tool_runs_beside_the_engine(model: LoadedModel, kit: Any) -> None:
    tool = Tool(name="add", parameters={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    job = Chat(
        messages=(Message(role="user", parts=(Said(text="Add 3."),)),),
        generation=Generation(max_tokens=120, sampling=GREEDY),
        tools=(tool,),
        tool_choice="add",
    )
    found = kit.ask(model, job)
    arguments = "".join(event.arguments for event in found.events if isinstance(event, ToolCall))
    assert isinstance(json.loads(arguments)["a"], int)
    assert where(found).startswith("own: it must follow a tool")


def test_a_prompt_is_scored_as_the_graph_says(model: Any, folder: Path, kit: Any) -> None:
    import numpy

    prompt = ids(model, kit.question("Who are you?"))
    found = kit.ask(
        model, Complete(prompt=prompt, echo=True, generation=Generation(max_tokens=0, logprobs=True, sampling=GREEDY))
    )
    told = [said for event in found.events if isinstance(event, Text) for said in event.logprobs]
    raw = og.Model(str(folder))
    params = og.GeneratorParams(raw)
    params.set_search_options(max_length=64)
    generator = og.Generator(raw, params)
    generator.append_tokens(numpy.asarray(prompt, numpy.int32))
    rows = generator.get_output("logits")[0].astype(numpy.float64)
    logs = rows - numpy.log(numpy.exp(rows - rows.max(1, keepdims=True)).sum(1, keepdims=True)) - rows.max(1)[:, None]
    assert [one.id for one in told] == list(prompt)
    assert told[0].logprob is None
    assert [one.logprob for one in told[1:]] == pytest.approx(
        [logs[place, token] for place, token in enumerate(prompt[1:])], abs=1e-4
    )


def test_a_long_prompt_is_read_in_parts_and_kept(kit: Any, engine: Engine, folder: Path) -> None:
    """Beside the engine, where what a conversation said before need not be read again."""
    made = loaded(kit, folder, batch=32, parallel=2)
    engine.loaded.append(made)
    long = "".join(kit.question(question) + "Yes.<|im_end|>\n" for question in QUESTIONS[:4])
    first = kit.complete(made, long, max_tokens=8)
    again = kit.complete(made, long + first.text + kit.question("Who are you?"), max_tokens=8)
    assert where(first) == where(again) == "own: its prompt is longer than 32 tokens"
    assert first.done.usage.cached_tokens == 0
    assert again.done.usage.cached_tokens >= first.done.usage.prompt_tokens - 1
    fresh = loaded(kit, folder, batch=512, parallel=2)
    engine.loaded.append(fresh)
    assert kit.complete(fresh, long, max_tokens=8).text == first.text


@pytest.mark.parametrize("told", [True, False])
def test_a_prompt_may_end_in_padding(told: bool, kit: Any, folder: Path, tmp_path: Path, engine: Engine) -> None:
    """Of several tokens genai tells the row of the last that is none. Where no padding is named, that is an end."""
    from anyform_onnx import backend

    said = json.loads((folder / "genai_config.json").read_text())
    padding = 9 if told else said["model"]["eos_token_id"]
    padding = padding[0] if isinstance(padding, list) else padding
    shutil.copytree(folder, tmp_path / "padded")
    said["model"]["pad_token_id"] = padding
    if not told:
        del said["model"]["pad_token_id"]
    (tmp_path / "padded" / "genai_config.json").write_text(json.dumps(said))
    model: Any = loaded(kit, tmp_path / "padded")
    plain: Any = backend.load(kit.plan(tmp_path / "padded", context=512, parallel=2, threads=1))
    engine.loaded += [model, plain]
    graph = plain._loop._decoder._graph
    decoder = model._loop._generators
    for parts in (
        [[5, 6, 300, 301, padding]],
        [[5, 6, 7], [300, padding]],
        [[padding, padding]],
        [[5], [padding], [6]],
    ):
        text = [token for part in parts for token in part]
        decoder.forget(0)
        decoder.keep(0, 0, 64)
        for place, part in enumerate(parts):
            row = decoder.read(0, sum(map(len, parts[:place])), part, every=False)[-1]
        expected = graph.whole(text)[-1]
        assert float(abs(row - expected).max()) <= 2e-4 * float(expected.max() - expected.min()), parts
        decoder.forget(0)
        rows = decoder.read(0, 0, text, every=True)
        whole = graph.whole(text)
        assert float(abs(rows - whole).max()) <= 2e-4 * float(whole.max() - whole.min()), parts


def test_a_conversation_is_not_read_again(kit: Any, model: LoadedModel, folder: Path, engine: Engine) -> None:
    """Where it runs alone, and its text is long enough for that to be worth it."""
    made = loaded(kit, folder, parallel=2, context=1024)
    engine.loaded.append(made)
    said = "".join(kit.question(question) + "Yes.<|im_end|>\n" for question in QUESTIONS)
    first = kit.complete(made, said, max_tokens=8)
    second = kit.complete(made, f"{said}{first.text}<|im_end|>\n{kit.question('Who are you?')}", max_tokens=8)
    assert where(first) == "own: nothing else runs, and its text is kept for what follows"
    assert where(second) == "own: half of its prompt is there from before"
    assert second.done.usage.cached_tokens >= first.done.usage.prompt_tokens >= 128
    cut = kit.complete(made, said[: len(said) * 3 // 4], max_tokens=8)
    assert cut.done.usage.cached_tokens > 100
    assert cut.text == kit.complete(model, said[: len(said) * 3 // 4], max_tokens=8).text


def test_the_context_is_a_requests_limit(kit: Any, engine: Engine, folder: Path, model: LoadedModel) -> None:
    small = loaded(kit, folder, context=24, parallel=2)
    engine.loaded.append(small)
    prompt = (300,) * 20
    for generation in ({}, {"logprobs": True}):
        found = kit.complete(small, prompt, max_tokens=None, **generation)
        assert found.done.usage.completion_tokens <= 4
        assert found.done.finishes[0].reason in ("length", "stop")
    with pytest.raises(ContextExceeded, match="24"):
        kit.complete(small, (300,) * 24)
    with pytest.raises(Invalid, match="context is 4096"):
        loaded(kit, folder, context=4096)
    unnamed = loaded(kit, folder, context=None, parallel=1)
    engine.loaded.append(unnamed)
    assert kit.complete(unnamed, (300,) * 600, max_tokens=2).done.usage.prompt_tokens == 600


def test_what_runs_is_told(model: Any) -> None:
    assert model.runs_on == "CPU"
    assert model.notes == ()
    assert model.parallel == 8


def changed(folder: Path, to: Path, **changes: Any) -> Path:
    """A copy of *folder* whose genai_config.json says something else of its model; None: says nothing of it."""
    shutil.copytree(folder, to)
    path = to / "genai_config.json"
    said = json.loads(path.read_text())
    said["model"].update(changes)
    said["model"] = {name: value for name, value in said["model"].items() if value is not None}
    path.write_text(json.dumps(said))
    return to


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("tiny") / "tiny", layout="onnx_genai", max_position_embeddings=256)


@pytest.mark.parametrize(
    ("changes", "fault", "said"),
    [
        ({"type": "whisper"}, Unsupported, "type whisper"),
        ({"type": "phi3v", "vision": {"filename": "v.onnx"}}, Unsupported, "type phi3v, with vision beside"),
        ({"type": None}, LoadFailed, "names no type"),
        ({"decoder": None}, LoadFailed, "names no type"),
        ({"vocab_size": "many"}, LoadFailed, "vocab_size in genai_config.json of broken is 'many'"),
        ({"vocab_size": 400}, LoadFailed, "Expected: 316"),
        ({"vocab_size": 310}, LoadFailed, "must be in range"),
        ({"context_length": 0}, LoadFailed, "context_length"),
        ({"nonsense": 3}, LoadFailed, "nonsense"),
        ({"type": "nonsense"}, LoadFailed, "nonsense"),
    ],
)
def test_a_folder_that_says_wrong_things_is_refused(
    changes: dict[str, Any], fault: type[Fault], said: str, kit: Any, tiny: Path, tmp_path: Path
) -> None:
    from anyform_onnx.genai import backend

    broken = changed(tiny, tmp_path / "broken", **changes)
    plan = kit.plan(tiny, backend="onnxruntime_genai", context=64)
    with pytest.raises(fault, match=said):
        backend.load(_moved(plan, broken))


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "genai_config.json"])
@pytest.mark.parametrize("left", [0, 50, None], ids=["empty", "cut", "missing"])
def test_a_damaged_folder_is_refused(name: str, left: int | None, kit: Any, tiny: Path, tmp_path: Path) -> None:
    from anyform_onnx.genai import backend

    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    content = (broken / name).read_bytes()
    (broken / name).unlink()
    if left is not None:
        (broken / name).write_bytes(content[:left])
    with pytest.raises(LoadFailed):
        backend.load(_moved(kit.plan(tiny, backend="onnxruntime_genai", context=64), broken))


def _moved(plan: Any, folder: Path) -> Any:
    from dataclasses import replace

    return replace(plan, model=folder.name, path=str(folder))


def test_a_provider_that_is_not_there_is_refused(kit: Any, tiny: Path) -> None:
    with pytest.raises(Invalid, match="nonsense"):
        loaded(kit, tiny, context=64, providers="nonsense")
    with pytest.raises(Invalid, match=r"provider_options .*'cudda'"):
        loaded(kit, tiny, context=64, provider_options={"cudda": {"a": "b"}})
    made = loaded(kit, tiny, context=64, providers="cpu", inter_threads=2, optimization="basic")
    assert made.runs_on == "CPU"  # type: ignore[attr-defined]
    assert any(note.startswith("inter_threads does nothing") for note in made.notes)  # type: ignore[attr-defined]
    made.close()


def test_a_folder_that_samples_says_how(kit: Any, tiny: Path, tmp_path: Path, engine: Engine) -> None:
    """Where it says nothing a request is sampled as on other engines, but for min_p, which genai has not."""
    assert _defaults(loaded(kit, tiny, context=64), engine) == {"min_p": 0.0, "repeat_last_n": -1}
    said = tmp_path / "said"
    shutil.copytree(tiny, said)
    (said / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.3, "min_p": 0.2}')
    assert _defaults(loaded(kit, said, context=64), engine) == {"min_p": 0.2, "repeat_last_n": -1, "temperature": 0.3}


def _defaults(model: Any, engine: Engine) -> dict[str, Any]:
    engine.loaded.append(model)
    return dict(model._defaults)
