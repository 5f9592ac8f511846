"""Written decoders and encoders run: alike in every layout, and as torch computes their weights."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxlayer import packed, read_weights
from anyform.testing.safetensors import write_bert, write_llama, write_safetensors

pytestmark = pytest.mark.engine
onnxruntime = pytest.importorskip("onnxruntime")

TOKENS = 17
KINDS = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def source(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    """A folder whose numbers are as large as trained ones, so that what tokens see of each other is not all alike."""
    write_llama(folder, model_type=kind, architectures=[KINDS[kind]], **{"head_dim": 16, **changes})
    weights = read_weights(folder)
    grown = [replace(one, data=packed("F32", larger(one.name, weights.floats(one.name)))) for one in weights]
    write_safetensors(folder / "model.safetensors", grown)
    return folder


def larger(name: str, values: array[float]) -> array[float]:
    return array("f", [value + 1 if "norm" in name else value * 8 for value in values])


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def ran(made: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    taken = {one.name: given[one.name] for one in made.get_inputs()}
    return dict(zip([one.name for one in made.get_outputs()], made.run(None, taken), strict=True))


def prompts(rows: int = 2) -> tuple[Any, Any, Any]:
    """Tokens, mask and positions; the first row is padded on the left where there are several."""
    ids = numpy.random.default_rng(0).integers(6, 32, (rows, TOKENS))
    mask = numpy.ones_like(ids)
    if rows > 1:
        mask[0, :5] = 0
    return ids, mask, numpy.maximum(mask.cumsum(1) - 1, 0)


def stepped(folder: Path, name: str, rows: int, ends: tuple[int, ...]) -> Any:
    """Logits of a graph with a cache, that reads the tokens up to each of *ends* in turn."""
    ids, mask, places = prompts(rows)
    made = session(folder / name)
    kinds = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16}
    cache = {
        one.name: numpy.zeros((rows, one.shape[1], 0, one.shape[3]), kinds[one.type])
        for one in made.get_inputs()
        if one.name.startswith("past")
    }
    logits, begin = [], 0
    for end in ends:
        given = {"input_ids": ids[:, begin:end], "attention_mask": mask[:, :end], "position_ids": places[:, begin:end]}
        out = ran(made, given | cache)
        logits.append(out.pop("logits"))
        cache = {name.replace("present", "past_key_values"): value for name, value in out.items()}
        begin = end
    return numpy.concatenate(logits, 1).astype(numpy.float32)


def apart(one: Any, other: Any, rows: int = 2) -> float:
    """The largest difference where no padding is, as a share of the largest number."""
    real = prompts(rows)[1].astype(bool)[:, : one.shape[1]]
    return float(numpy.abs(one - other)[real].max() / numpy.abs(other).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_changes_nothing_and_both_attentions_are_alike(tmp_path: Path, kind: str) -> None:
    folder = source(tmp_path / "source", kind)
    write_decoder(tmp_path / "plain", folder)
    write_decoder(tmp_path / "genai", folder, layout="onnx_genai")
    whole = stepped(tmp_path / "plain", "model.onnx", 1, (TOKENS,))
    assert apart(stepped(tmp_path / "plain", "model.onnx", 1, (9, 16, 17)), whole, 1) < 1e-5
    assert apart(stepped(tmp_path / "genai", "model.onnx", 1, (9, 10, 11)), whole[:, :11], 1) < 1e-5


def test_transformers_layout_computes_the_same(tmp_path: Path) -> None:
    folder = source(tmp_path / "source", "qwen3", tie_word_embeddings=False)
    whole = stepped(write_decoder(tmp_path / "plain", folder), "model.onnx", 2, (TOKENS,))
    write_decoder(tmp_path / "two", folder, layout="onnx_export", padded=True)
    ids, mask, places = prompts()
    given = {"input_ids": ids[:, :16], "attention_mask": mask[:, :16], "position_ids": places[:, :16]}
    first = ran(session(tmp_path / "two/prefill.onnx"), given)
    logits = [first.pop("logits")]
    given = {"input_ids": ids[:, 16:], "attention_mask": mask, "position_ids": places[:, 16:]}
    cache = {f"input.{name}": value for name, value in first.items()}
    logits.append(ran(session(tmp_path / "two/decode.onnx"), given | cache)["logits"])
    assert apart(numpy.concatenate(logits, 1), whole) < 1e-5


def test_widened_heads_compute_the_same(tmp_path: Path) -> None:
    folder = source(tmp_path / "source", head_dim=4)
    whole = stepped(write_decoder(tmp_path / "plain", folder), "model.onnx", 1, (TOKENS,))
    write_decoder(tmp_path / "genai", folder, layout="onnx_genai")
    assert apart(stepped(tmp_path / "genai", "model.onnx", 1, (9, 10)), whole[:, :10], 1) < 1e-5


@pytest.mark.parametrize(("precision", "opset", "most"), [("F16", 17, 0.01), ("F16", 21, 0.01), ("I8", 17, 0.15)])
def test_smaller_numbers_are_nearly_the_same(tmp_path: Path, precision: str, opset: int, most: float) -> None:
    folder = source(tmp_path / "source")
    whole = stepped(write_decoder(tmp_path / "plain", folder), "model.onnx", 2, (TOKENS,))
    write_decoder(tmp_path / "small", folder, precision=precision, opset=opset, external=True)
    assert 0 < apart(stepped(tmp_path / "small", "model.onnx", 2, (9, 17)), whole) < most


@pytest.mark.parametrize("kind", KINDS)
def test_decoders_compute_what_torch_does(tmp_path: Path, kind: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = source(tmp_path / "source", kind)
    ids, mask, places = map(torch.from_numpy, prompts())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, position_ids=places).logits.numpy()
    found = stepped(write_decoder(tmp_path / "made", folder, opset=21), "model.onnx", 2, (9, 17))
    assert apart(found, expected) < 1e-5


def encoded(folder: Path) -> dict[str, Any]:
    ids, mask, _ = prompts()
    mask = mask[:, ::-1].copy()
    types = numpy.ones_like(ids)
    types[:, :4] = 0
    return ran(session(folder / "model.onnx"), {"input_ids": ids, "attention_mask": mask, "token_type_ids": types})


def test_encoders_compute_what_torch_does(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ids, mask, _ = prompts()
    mask, types = mask[:, ::-1].copy(), numpy.ones_like(ids)
    types[:, :4] = 0
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    for labels, kind in (((), "AutoModel"), (("a", "b"), "AutoModelForSequenceClassification")):
        folder = write_bert(tmp_path / kind, labels=labels)
        model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in given.items()})[0].numpy()
        (found,) = encoded(write_encoder(tmp_path / f"{kind}-made", folder)).values()
        real = mask.astype(bool) if found.ndim == 3 else slice(None)
        assert numpy.abs(found - expected)[real].max() < 1e-6


def test_an_encoder_s_smaller_numbers_are_nearly_the_same(tmp_path: Path) -> None:
    (whole,) = encoded(write_encoder(tmp_path / "whole", labels=("a", "b", "c"))).values()
    for precision, most in (("F16", 0.01), ("I8", 0.05)):
        (small,) = encoded(write_encoder(tmp_path / precision, labels=("a", "b", "c"), precision=precision)).values()
        assert 0 < numpy.abs(small - whole).max() / numpy.abs(whole).max() < most


def test_a_sentence_s_vector_is_the_mean_of_its_tokens(tmp_path: Path) -> None:
    out = encoded(write_encoder(tmp_path, output="sentence_embedding"))
    mask = prompts()[1][:, ::-1, None]
    mean = (out["token_embeddings"] * mask).sum(1) / mask.sum(1)
    assert numpy.allclose(out["sentence_embedding"], mean / numpy.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
