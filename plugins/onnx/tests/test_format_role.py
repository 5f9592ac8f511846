"""What graphs are for, by their inputs and outputs; and which parts of a model of several graphs make what of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from anyform.onnx.graph import Value
from anyform.testing.onnxform import FORMS, LAYERS, End, cache
from anyform_onnx import role


def values(ends: Sequence[End]) -> list[Value]:
    return [Value(name, dtype, tuple(shape)) for name, dtype, shape in ends]


def role_of(form: str, **config: Any) -> str:
    one = FORMS[form]
    return role.of(values(one.inputs), values(one.outputs), {**one.config, **config})


MEANINGS = {
    "masked_embedding": "embedding", "sentence": "embedding", "causal_embedding": "embedding", "clip": "dual",
    "unsized_classifier": "classifier", "clip_text": "embedding", "clip_vision": "image_embedding",
    "zoo": "image_classifier", "unknown": "",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_ends_tell(form: str) -> None:
    assert role_of(form) == MEANINGS.get(form, form)


@pytest.mark.parametrize("meaning", sorted({MEANINGS.get(form, form) for form in FORMS} - {""}))
def test_each_is_usable_or_says_why_not(meaning: str) -> None:
    assert (meaning in role.USABLE) != (meaning in role.REFUSED)


@pytest.mark.parametrize(
    ("form", "config", "meaning"),
    [
        ("classifier", {}, "classifier"),
        ("classifier", {"id2label": {"0": "one"}}, "classifier"),
        ("unsized_classifier", {"id2label": {"0": "score"}}, "reranker"),
        ("unsized_classifier", {"id2label": None, "num_labels": 1}, "reranker"),
        ("unsized_classifier", {"id2label": None, "num_labels": "x"}, "classifier"),
        ("masked_lm", {"architectures": ["GPT2LMHeadModel"]}, "uncached_decoder"),
        ("masked_lm", {"architectures": []}, ""),
        ("masked_lm", {"architectures": [5]}, ""),
        ("decoder", {"architectures": "x", "model_type": []}, "decoder"),
        ("seq2seq", {"model_type": "whisper"}, "speech"),
        ("seq2seq", {"model_type": ["whisper"]}, "seq2seq"),
    ],
)
def test_the_config_tells_the_rest(form: str, config: dict[str, Any], meaning: str) -> None:
    assert role_of(form, **config) == meaning


@pytest.mark.parametrize(
    ("parts", "config", "meaning"),
    [
        (["vision_model", "text_model"], {}, "dual"),
        (["encoder_model", "decoder_model_merged"], {"model_type": "t5"}, "seq2seq"),
        (["encoder_model", "decoder_model"], {"model_type": "whisper"}, "speech"),
        (["encoder_model", "decoder_model"], {"model_type": {}}, "seq2seq"),
        (["encoder_model", "decoder_model"], {"architectures": ["VisionEncoderDecoderModel"]}, "multimodal"),
        (["encoder_model", "decoder_model"], {"architectures": ["SpeechEncoderDecoderModel"]}, "speech"),
        (["decoder_model_merged", "embed_tokens", "vision_encoder"], {}, "multimodal"),
        (["decoder_model", "decoder_with_past_model"], {}, "split_decoder"),
        (["decoder_model_merged"], {}, ""),
        (["model"], {}, ""),
        (["vision_model"], {}, ""),
        ([], {}, ""),
    ],
)
def test_several_graphs(parts: list[str], config: dict[str, Any], meaning: str) -> None:
    assert role.of((), (), config, parts) == meaning


@pytest.mark.parametrize(
    ("model", "meaning"),
    [
        ({"type": "llama"}, "decoder"),
        ({"type": "llama", "vision": {"filename": ""}}, "decoder"),
        ({"type": "llama", "vision": {"filename": "vision.onnx"}}, "multimodal"),
        ({"type": "llama", "encoder": {"filename": "encoder.onnx"}}, "seq2seq"),
        ({"type": "llama", "speech": 5}, "decoder"),
        ({"type": "gemma3"}, "multimodal"),
        ({"type": "whisper"}, "speech"),
        ({"type": "marian-ssru"}, "seq2seq"),
        ({"type": "decoder-pipeline"}, "pipeline"),
        ({"type": "nobody's"}, ""),
        ({"type": ["llama"]}, ""),
        ({}, ""),
    ],
)
def test_types_of_onnxruntime_genai(model: dict[str, Any], meaning: str) -> None:
    assert role.of_genai(model) == meaning


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("past_key_values.0.key", True),
        ("past_key_values.3.decoder.value", True),
        ("input.past_key_values.layers.0.keys", True),
        ("past_key_0", True),
        ("past_value_11", True),
        ("past_0", True),
        ("past_conv.0", True),
        ("past.2.conv", True),
        ("past_sequence_length", False),
        ("past_seq_len", False),
        ("present.0.key", False),
        ("input_ids", False),
        ("use_cache_branch", False),
        ("past", False),
        ("", False),
    ],
)
def test_what_a_cache_is_called(name: str, is_one: bool) -> None:
    assert role.is_cache(name) is is_one


def test_caches_of_all_layers_are_seen() -> None:
    assert sum(role.is_cache(name) for name, _, _ in cache("past_key_values")) == 2 * LAYERS
