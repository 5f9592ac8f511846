"""What a model can do, in the contract's terms, from the class that its config names and what lies beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anyform.pretrained.configuration import Configuration
from anyform.pretrained.modules import Module

ENGLISH_WHISPER = 51_864
"""The vocabulary of Whisper models that know English only; the others have more."""

Tasks = tuple[str, ...]

DUAL = frozenset({
    "align", "altclip", "chinese_clip", "clip", "clipseg", "metaclip_2", "siglip", "siglip2", "blip",
})  # fmt: skip
"""Model types whose bare class sets pictures and texts into one space (zero-shot-image-classification)."""
SEEING = frozenset({
    "beit", "bit", "clip_vision_model", "convnext", "convnextv2", "cvt", "data2vec-vision", "deit", "dinat", "dinov2",
    "dinov2_with_registers", "dinov3_convnext", "dinov3_vit", "efficientnet", "focalnet", "hiera", "ijepa", "levit",
    "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet", "resnet",
    "siglip_vision_model", "siglip2_vision_model", "swiftformer", "swin", "swinv2", "vit", "vit_mae", "vit_msn",
})  # fmt: skip
"""Model types whose bare class makes vectors of pictures."""
SPEECH = frozenset({
    "canary", "cohere_asr", "granite_speech", "granite_speech_plus", "kyutai_speech_to_text", "moonshine",
    "moonshine_streaming", "qwen3_asr", "speech_to_text", "voxtral_realtime", "vibevoice_asr", "whisper",
})  # fmt: skip
"""Model types of ...ForConditionalGeneration that write down speech."""
CAPTIONING = frozenset({"git", "kosmos-2", "vision-encoder-decoder"})
"""Those that write about a picture, whatever their class is called."""
PICTURE_CLASSES = (
    "ForImageClassification", "ForImageClassificationWithTeacher", "ForZeroShotImageClassification",
    "ForImageTextRetrieval", "ForVisualQuestionAnswering", "ViltForQuestionAnswering",
)  # fmt: skip
"""Endings of classes that do nothing without a picture."""
NO_VECTORS = frozenset({
    "bart", "clap", "encodec", "hubert", "marian", "mbart", "pegasus", "speecht5", "t5", "unispeech", "wav2vec2",
    "whisper", "wavlm",
})  # fmt: skip
"""Model types whose bare class gives no vector of a text."""
ENTAILMENT = "entail"


def tasks(config: Configuration, parts: Sequence[Module] | None, template: str) -> Tasks:
    """The main task first; empty: nothing fits what it is. *parts*: modules.json's; *template*: the chat template."""
    if parts:
        return _sentence_transformer(config, parts)
    name = config.architectures[0] if config.architectures else ""
    for fits, answer in RULES:
        if fits(name, config):
            return answer(config, template)
    return ()


def needs_pictures(config: Configuration) -> bool:
    """Whether its class does nothing without a processor of pictures, which transformers reads from a file."""
    name, kind = config.architectures[0] if config.architectures else "", config.model_type
    if kind == "timm_wrapper":  # it has it from timm
        return False
    if name.endswith(PICTURE_CLASSES) or kind in CAPTIONING or kind in ("blip", "blip-2"):
        return True
    return kind in DUAL | SEEING and name.endswith("Model") and "Text" not in name


def features(config: Configuration, doing: Tasks, template: str, senses: Sequence[str]) -> tuple[str, ...]:
    """*senses*: vision and audio, as far as the preprocessor's files tell."""
    from anyform.pretrained.template import thinks, uses_tools

    seeing = "vision" in senses or config.has_vision or bool({"caption", "answer"} & {*doing})
    hearing = "audio" in senses or config.has_hearing or "transcribe" in doing
    chats = "chat" in doing
    found = {
        "tools": chats and uses_tools(template),
        "thinking": chats and thinks(template),
        "vision": seeing,
        "audio": hearing,
    }
    return tuple(name for name, there in found.items() if there)


def _sentence_transformer(config: Configuration, parts: Sequence[Module]) -> Tasks:
    kinds = {part.kind for part in parts}
    if any("splade" in kind.lower() or "sparse" in kind.lower() for kind in kinds):
        return ()
    if "CLIPModel" in kinds:
        return ("embed", "zero_shot")
    if kinds & {"LogitScore", "CrossEncoder"}:
        return ("rerank",)
    if kinds <= {"Transformer", "Dropout"} and config.architectures[:1] and _classifier(config.architectures[0]):
        return labelling(config)  # a CrossEncoder
    return ("embed",)


def _classifier(name: str) -> bool:
    return name.endswith("ForSequenceClassification")


def _causal(config: Configuration, template: str) -> Tasks:
    text: Tasks = ("chat", "complete") if template else ("complete",)
    return (*text, "caption", "answer") if config.has_vision and template else text


def _conditional(config: Configuration, template: str) -> Tasks:
    """...ForConditionalGeneration: one class name for vision, speech and translation."""
    kind = config.model_type
    if kind in SPEECH:
        several = kind == "whisper" and config.number("vocab_size") != ENGLISH_WHISPER
        return ("transcribe", "translate") if several else ("transcribe",)
    if kind == "florence2":
        return ("caption", "answer", "chat")
    if kind in ("blip", "pix2struct", "kosmos-2"):
        return ("caption",) if kind != "pix2struct" else ("caption", "answer")
    if config.has_vision or isinstance(config.content.get("text_config"), dict):
        text: Tasks = ("chat", "complete") if template else ("complete",)
        return (*text, "caption", "answer") if config.has_vision else text
    return ()


def labelling(config: Configuration) -> Tasks:
    """What a classifier does, by the names of its labels."""
    labels = [label.lower() for label in config.labels]
    if len(labels) == 1:
        return ("rerank",)
    if any(label.startswith(ENTAILMENT) for label in labels):
        return ("zero_shot", "classify")
    return ("classify",)


def _classifies(config: Configuration, template: str) -> Tasks:
    return labelling(config)


def _bare(config: Configuration, template: str) -> Tasks:
    """...Model and its kin: what comes out are vectors."""
    kind = config.model_type
    if kind in DUAL:
        return ("zero_shot", "embed")
    if kind in SEEING:
        return ("embed",)
    return ("embed",) if config.number("vocab_size") and kind not in NO_VECTORS else ()


def _always(*answer: str) -> Callable[[Configuration, str], Tasks]:
    return lambda config, template: answer


def _ends(*suffixes: str) -> Callable[[str, Configuration], bool]:
    return lambda name, config: name.endswith(suffixes)


RULES: Sequence[tuple[Callable[[str, Configuration], bool], Callable[[Configuration, str], Tasks]]] = (
    (lambda name, config: config.model_type in CAPTIONING, _always("caption")),
    (_ends("ForCausalLM", "LMHeadModel", "ModelWithLMHead"), _causal),
    (_ends("ForSequenceClassification"), _classifies),
    (_ends("ForImageClassification", "ForImageClassificationWithTeacher"), _always("classify")),
    (_ends("ForZeroShotImageClassification", "ForImageTextRetrieval"), _always("zero_shot")),
    (lambda name, config: name in ("BlipForQuestionAnswering", "ViltForQuestionAnswering"), _always("answer")),
    (_ends("ForVisualQuestionAnswering"), _always("answer")),
    (_ends("ForCTC", "ForSpeechSeq2Seq", "ForSpeechToText", "ForRNNT", "ForTDT"), _always("transcribe")),
    (lambda name, config: name == "SpeechEncoderDecoderModel", _always("transcribe")),
    (lambda name, config: name.startswith("Blip2ForConditional"), _always("caption", "answer")),
    (_ends("ForConditionalGeneration", "ForImageTextToText", "ForVision2Seq"), _conditional),
    (_ends("ForTextEncoding", "EncoderModel", "WithProjection", "Model"), _bare),
)
"""The first that fits the class's name answers."""
