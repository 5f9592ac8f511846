"""The decoder in its forms: random weights say the same in ours and in transformers, and GGUF cuts text as we do."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from anyform_samples.corpus import held_out, render, segments, training
from anyform_samples.layout import SAMPLE_GGUF

torch = pytest.importorskip("torch")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

AWKWARD = [
    "Crème brûlée — 1,5 µs ≥ 3 °C…",
    "日本 éÉ x~y$z [a](b)",
    "  two  spaces\t\r\n\n end ",
    "<tool_call> <|im_end|>x",
    "I'LL 12345",
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from anyform_samples.tokenizer import make

    return make("".join(text for text, _ in segments(e)) for e in itertools.islice(training(7), 1500))


@pytest.fixture(scope="module")
def decoder() -> Any:
    from anyform_samples.decoder import Decoder, Shape

    torch.manual_seed(3)
    model = Decoder(Shape(layers=2, feed_forward=256))
    with torch.no_grad():
        for weights in model.parameters():
            spread = 0.1 if weights.ndim == 1 else weights.shape[1] ** -0.5
            weights.copy_((torch.randn_like(weights) * spread + (weights.ndim == 1)).half())
    return model


@pytest.fixture(scope="module")
def folder(decoder: Any, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from anyform_samples import export

    place = tmp_path_factory.mktemp("forms") / "random"
    export.write(decoder.state_dict(), decoder.shape, tokenizer, place)
    return place


def test_transformers_computes_the_same_scores(folder: Path, decoder: Any) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = torch.randint(0, 2048, (2, 300), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        difference = theirs(tokens).logits - decoder.logits(decoder(tokens))
    assert difference.abs().max() < 1e-3


def test_transformers_renders_and_cuts_as_training_does(folder: Path, tokenizer: Any) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for example in held_out(3):
        prompt, _ = render(example)
        messages, tools = list(example.messages[:-1]), list(example.tools) or None
        assert theirs.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False) == prompt
        assert theirs(prompt, add_special_tokens=False).input_ids == tokenizer.encode(prompt).ids


def test_answers_with_a_cache_are_those_without(decoder: Any) -> None:
    from anyform_samples.greedy import answers

    prompts = [[5, 700, 33], [9, 8, 7, 6, 5, 4, 3], [100]]
    found = answers(decoder, prompts, end=-1, most=5)
    for prompt, answer in zip(prompts, found, strict=True):
        for at in range(5):
            hidden = decoder(torch.tensor([prompt + answer[:at]]))[0, -1]
            assert int(decoder.logits(hidden).argmax()) == answer[at]


def test_a_batch_learns_answers_and_their_ends_only(tokenizer: Any, tmp_path: Path) -> None:
    from anyform_samples.batches import Corpus, chunk_of

    tokenizer.save(str(tmp_path / "tokenizer.json"))
    corpus = Corpus(1, tmp_path / "tokenizer.json", 2048, 1024, {})
    batch = chunk_of(corpus, 0)[0]
    for row, learnt in zip(batch.tokens, batch.learnt, strict=True):
        answer = tokenizer.decode([token for token, wanted in zip(row[1:], learnt, strict=False) if wanted], False)
        assert answer.endswith("<|im_end|>")
        assert "<|im_start|>" not in answer


def test_numbers_are_single_digits_and_words_fall_apart_alike_after_a_space(tokenizer: Any) -> None:
    assert tokenizer.encode("12345").tokens == list("12345")
    for word in ("Zanzibar", "quorxil", "Anna"):
        assert "".join(tokenizer.encode(f" {word}").tokens) == f"Ġ{word}"
        assert [t.strip("Ġ") for t in tokenizer.encode(f" {word}").tokens if t != "Ġ"] == tokenizer.encode(word).tokens


@pytest.mark.engine
def test_llama_cpp_cuts_text_as_hugging_face_does(folder: Path, tokenizer: Any) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model = llama_cpp.Llama(str(folder / SAMPLE_GGUF), vocab_only=True, verbose=False)
    for text in [*AWKWARD, *(render(example)[0] for example in held_out(4))]:
        assert model.tokenize(text.encode(), add_bos=False, special=True) == tokenizer.encode(text).ids
