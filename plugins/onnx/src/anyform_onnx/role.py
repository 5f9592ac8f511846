"""What a graph is for: from its inputs and outputs, and from config.json where these leave it open. Reads nothing.

The names are those that optimum, transformers.js, transformers' own exporter and onnxruntime-genai give them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyform.onnx.graph import Value

DECODER, EMBEDDING, RERANKER, CLASSIFIER = "decoder", "embedding", "reranker", "classifier"
IMAGE_CLASSIFIER, IMAGE_EMBEDDING, DUAL = "image_classifier", "image_embedding", "dual"
USABLE = frozenset({DECODER, EMBEDDING, RERANKER, CLASSIFIER, IMAGE_CLASSIFIER, IMAGE_EMBEDDING, DUAL})
"""What the backends run. DUAL: pictures and texts in one space, as CLIP."""
TEXTUAL = frozenset({DECODER, EMBEDDING, RERANKER, CLASSIFIER, DUAL})
"""What needs a tokenizer."""
PICTORIAL = frozenset({IMAGE_CLASSIFIER, IMAGE_EMBEDDING, DUAL})
"""What needs to know how pictures are prepared."""

SPEECH, SEQ2SEQ, MULTIMODAL, PIPELINE = "speech", "seq2seq", "multimodal", "pipeline"
UNCACHED, SPLIT, PART = "uncached_decoder", "split_decoder", "part"
_OTHER_FORM = "Get it as safetensors, which hf_transformers runs"
REFUSED: Mapping[str, tuple[str, str]] = {
    SPEECH: ("writes down speech", f"{_OTHER_FORM}, or a Whisper as CTranslate2 has it, which audio runs."),
    SEQ2SEQ: ("is an encoder and a decoder, for translation or summaries", f"{_OTHER_FORM} if it knows its class."),
    MULTIMODAL: ("reads text with pictures or sound, in several graphs", f"{_OTHER_FORM}, or as GGUF with its mmproj."),
    PIPELINE: ("is cut into a pipeline for one maker's accelerator", "Get the export for cpu or cuda."),
    UNCACHED: ("generates text without a KV cache", "Export it anew with its past: text-generation-with-past."),
    SPLIT: (
        "is a decoder of two graphs, with and without its past",
        "Export it anew as one: optimum 1.14 and later write a model.onnx that does both.",
    ),
    PART: ("is a part of a model: it wants vectors of tokens, not tokens", "Get the export that has all in one."),
    "masked_lm": ("fills in words that are masked", "Export it for feature-extraction to embed with it."),
    "token_classifier": ("labels each word", "anyform has no task for that."),
    "question_answering": ("finds an answer's place in a text", "anyform has no task for that."),
    "detector": ("finds things in pictures", "anyform has no task for that."),
    "segmenter": ("gives each pixel a label", "anyform has no task for that."),
    "sound": ("listens, and writes nothing down", "anyform has no task for that."),
}
"""Roles that no backend here runs: (what such a model does, what to do)."""

TOKENS, PIXELS = "input_ids", "pixel_values"
HEARD = ("input_features", "input_values", "audio_values", "audio_features")
ENCODED = ("encoder_hidden_states", "encoder_outputs", "decoder_input_ids", "encoder_attention_mask")
VECTORS = ("sentence_embedding", "last_hidden_state", "token_embeddings", "text_embeds", "pooler_output", "embeddings")
PICTURE_VECTORS = ("image_embeds", "pooler_output", "last_hidden_state", "embeddings")
LIKENESS = ("logits_per_image", "logits_per_text")
CACHE = r"(?:.*\.)?past(?:_key_values|_key|_value|_conv|_recurrent)?[._]\w.*"
LENGTHS = ("past_sequence_length", "past_seq_len", "past_key_values_length")
"""Begin as a cache does, and are none."""
SPEAKS_OF_SPEECH = ("ForSpeechSeq2Seq", "ForSpeechToText", "ForCTC", "ForRNNT", "ForTDT", "SpeechEncoderDecoderModel")
HEARING_TYPES = frozenset({"whisper", "moonshine", "speech_to_text", "granite_speech", "cohere_asr"})
TWO_TOWERS, ENCODER, DECODERS = (
    ("text_model", "vision_model"),
    "encoder_model",
    ("decoder_model_merged", "decoder_model", "decoder_with_past_model"),
)
SENSES = ("vision_encoder", "audio_encoder", "embed_tokens", "image_encoder", "vision_model", "prepare_inputs_embeds")

GENERATING = frozenset({
    "chatglm", "decoder", "ernie4_5", "gemma", "gemma2", "gemma3_text", "gemma3_vl_text", "gemma4_text", "gpt2",
    "gptoss", "granite", "granitemoehybrid", "hunyuandensev1", "internlm2", "lfm2", "lfm2_audio_text", "lfm2_moe",
    "lfm2_vl_text", "llama", "mistral", "mistral3_text", "nemotron", "olmo", "phi", "phi3", "phi3small", "phimoe",
    "qwen2", "qwen2_5_vl_text", "qwen3", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_vl_text", "smollm3",
})  # fmt: skip
"""Values of genai_config's model.type that onnxruntime-genai 0.18 loads as one decoder (tried with each)."""
OTHERWISE: Mapping[str, str] = dict.fromkeys(
    (
        "fara", "gemma3", "gemma4", "gemma4_unified", "lfm2_audio", "lfm2_vl", "mistral3", "phi3v", "phi4mm",
        "qwen2_5_vl", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "videochat_flash_qwen",
    ), MULTIMODAL,
) | dict.fromkeys(("whisper", "nemotron_speech", "parakeet_tdt"), SPEECH) | {
    "marian-ssru": SEQ2SEQ, "decoder-pipeline": PIPELINE,
}  # fmt: skip
"""Those that it loads as something else."""


def of(
    inputs: Sequence[Value], outputs: Sequence[Value], config: Mapping[str, Any], parts: Collection[str] = ()
) -> str:
    """One of USABLE, of REFUSED, or empty: nothing that is known. *parts*: of a model of several graphs their names."""
    whole = _of_parts(config, parts)
    return whole or _of_graph(_Sides(inputs, outputs, config))


def of_genai(model: Mapping[str, Any]) -> str:
    """The same, from what genai_config.json calls `model`; empty: onnxruntime-genai 0.18 does not know its type."""
    kind = model.get("type")
    said = OTHERWISE.get(kind, "") if isinstance(kind, str) else ""
    if said or not isinstance(kind, str):
        return said
    for part, meaning in (("encoder", SEQ2SEQ), ("vision", MULTIMODAL), ("speech", MULTIMODAL)):
        if isinstance(model.get(part), dict) and model[part].get("filename"):
            return meaning
    return DECODER if kind in GENERATING else ""


def is_cache(name: str) -> bool:
    """Whether an input or output called *name* holds what attention keeps of earlier tokens."""
    return name not in LENGTHS and re.fullmatch(CACHE, name) is not None


class _Sides:
    """Both ends of a graph, and what its config says."""

    def __init__(self, inputs: Sequence[Value], outputs: Sequence[Value], config: Mapping[str, Any]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.given = {one.name for one in inputs}
        self.made = {one.name: one for one in outputs}
        self.kind, self.config = architecture(config), config

    def gives(self, *names: str) -> bool:
        return not self.made.keys().isdisjoint(names)

    def rank(self, name: str) -> int:
        """How many sides an output has; 0: it has none, or does not say."""
        return len(self.made[name].shape) if name in self.made else 0


def architecture(config: Mapping[str, Any]) -> str:
    """The class that config.json names first; empty where it names none."""
    said = config.get("architectures")
    return said[0] if isinstance(said, list) and said and isinstance(said[0], str) else ""


def _of_parts(config: Mapping[str, Any], parts: Collection[str]) -> str:
    if set(TWO_TOWERS) <= set(parts):
        return DUAL
    decoders = [name for name in DECODERS if name in parts]
    if ENCODER in parts and decoders:
        kind = config.get("model_type")
        if kind in HEARING_TYPES if isinstance(kind, str) else False:
            return SPEECH
        if architecture(config).endswith(SPEAKS_OF_SPEECH):
            return SPEECH
        return MULTIMODAL if architecture(config).startswith("VisionEncoderDecoder") else SEQ2SEQ
    if len(parts) > 1 and any(name in parts for name in SENSES):
        return MULTIMODAL
    return SPLIT if DECODERS[0] not in parts and len(decoders) > 1 else ""


def _of_graph(sides: _Sides) -> str:
    hears, sees, reads = (not sides.given.isdisjoint(names) for names in (HEARD, (PIXELS,), (TOKENS,)))
    if hears:
        speaks = reads or sides.kind.endswith((*SPEAKS_OF_SPEECH, "ForConditionalGeneration"))
        return SPEECH if speaks else "sound"
    if not sides.given.isdisjoint(ENCODED):
        return SPEECH if sides.config.get("model_type") == "whisper" else SEQ2SEQ
    if sees and reads:
        return DUAL if sides.gives(*LIKENESS) or {"image_embeds", "text_embeds"} <= sides.made.keys() else MULTIMODAL
    if sees:
        return _seeing(sides)
    if reads:
        return _reading(sides)
    return PART if "inputs_embeds" in sides.given else _unnamed(sides)


def _reading(sides: _Sides) -> str:
    if sides.gives("logits"):
        return _scoring(sides)
    if sides.gives("start_logits") and sides.gives("end_logits"):
        return "question_answering"
    return EMBEDDING if sides.gives(*VECTORS) else ""


def _scoring(sides: _Sides) -> str:
    """Of a graph from tokens to `logits`: their number of sides tells what they are of."""
    if any(is_cache(name) for name in sides.given):
        return DECODER
    if sides.rank("logits") == 2 or sides.kind.endswith("ForSequenceClassification"):
        return RERANKER if label_count(sides.outputs, sides.config) == 1 else CLASSIFIER
    for ending, meaning in (
        ("ForMaskedLM", "masked_lm"),
        ("ForTokenClassification", "token_classifier"),
        (("ForCausalLM", "LMHeadModel"), UNCACHED),
    ):
        if sides.kind.endswith(ending):
            return meaning
    return ""


def label_count(outputs: Sequence[Value], config: Mapping[str, Any]) -> int | None:
    """How many labels there are: by the shape of `logits`, else by the config; None: neither says."""
    for one in outputs:
        if one.name == "logits" and one.shape and isinstance(one.shape[-1], int) and one.shape[-1] > 0:
            return one.shape[-1]
    names, count = config.get("id2label"), config.get("num_labels")
    if isinstance(names, dict):
        return len(names)
    return count if type(count) is int and count > 0 else None


def _seeing(sides: _Sides) -> str:
    if sides.gives("pred_boxes"):
        return "detector"
    if sides.gives("logits"):
        return "segmenter" if sides.rank("logits") == 4 else IMAGE_CLASSIFIER
    return IMAGE_EMBEDDING if sides.gives(*PICTURE_VECTORS) else ""


def _unnamed(sides: _Sides) -> str:
    """A graph whose names say nothing: one picture in, one list of scores out, as the ONNX model zoo has them."""
    if len(sides.inputs) != 1 or len(sides.outputs) != 1:
        return ""
    (given,), (made,) = sides.inputs, sides.outputs
    picture = given.dtype in ("F32", "F16") and len(given.shape) == 4 and given.shape[1] in (1, 3)
    scores = made.dtype in ("F32", "F16") and len(made.shape) == 2 and made.shape[1] not in (0, 1)
    return IMAGE_CLASSIFIER if picture and scores else ""
