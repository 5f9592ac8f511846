"""Captions and answers, against transformers' own `generate` on tiny random models."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, Unsupported
from anyform.contract.events import Done, Progress, Text
from anyform.contract.jobs import Answer, Caption, Classify, Picture
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.engine

SIZES = ((40, 30), (33, 64), (32, 32), (100, 20), (7, 9))
QUESTIONS = ("is it red ?", "a", "what is on the table , and why is it not a cat ?")
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
WORDS = ("a", "cat", "is", "on", "the", "table", "##s", "red", "not", "it", "what", "why", "and", "'", "?", ",", ".")
PAD, CLS, SEP, DEC = 0, 2, 3, 4


def drawn(seed: int, size: tuple[int, int]) -> Any:
    """A picture with coarse patches, so that scaling leaves something of it."""
    grain = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize(size, Image.Resampling.NEAREST)


def png(image: Any) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(data=file.getvalue(), media_type="image/png")


IMAGES = tuple(drawn(seed, size) for seed, size in enumerate(SIZES))
PICTURES = tuple(map(png, IMAGES))


def roughened(model: Any) -> Any:
    """With wider weights, so that answers to different pictures are far from each other."""
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.ndim > 1:
                one.copy_(torch.randn_like(one) * (one[0].numel() ** -0.5 * 2))
            elif "bias" in name:
                one.copy_(torch.randn_like(one) * 0.1)
    return model


def words(**given: Any) -> Any:
    """A tokenizer of whole words, as BERT's."""
    vocabulary = {name: place for place, name in enumerate([*MARKS, *WORDS])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece(cleanup=False)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]",
        bos_token="[DEC]", **given,
    )  # fmt: skip


VISION = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "vocab_size": len(MARKS) + len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 40, "bos_token_id": DEC, "pad_token_id": PAD,
}  # fmt: skip


def written(folder: Path, model: Any, **tokenizing: Any) -> Path:
    roughened(model).save_pretrained(folder)
    transformers.BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    words(**tokenizing).save_pretrained(folder)
    return folder


def blip_config() -> Any:
    return transformers.BlipConfig(
        text_config={**TEXT, "encoder_hidden_size": 32, "sep_token_id": SEP, "eos_token_id": SEP}, vision_config=VISION
    )


def blip(folder: Path, **tokenizing: Any) -> Path:
    torch.manual_seed(20)
    return written(folder, transformers.BlipForConditionalGeneration(blip_config()), **tokenizing)


def blip_answers(folder: Path) -> Path:
    torch.manual_seed(2)
    return written(folder, transformers.BlipForQuestionAnswering(blip_config()))


def crossing(folder: Path) -> Path:
    torch.manual_seed(3)
    decoder = transformers.GPT2Config(
        vocab_size=TEXT["vocab_size"], n_embd=24, n_layer=2, n_head=2, n_positions=40, add_cross_attention=True,
        is_decoder=True, bos_token_id=DEC, eos_token_id=SEP,
    )  # fmt: skip
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**VISION), decoder
    )
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = DEC, PAD, SEP
    model = transformers.VisionEncoderDecoderModel(config=config)
    asked = model.generation_config
    asked.decoder_start_token_id, asked.pad_token_id, asked.eos_token_id = DEC, PAD, SEP
    asked.repetition_penalty = 1.3
    return written(folder, model)


def git(folder: Path) -> Path:
    torch.manual_seed(4)
    config = transformers.GitConfig(vision_config=VISION, **{**TEXT, "bos_token_id": CLS}, eos_token_id=SEP)
    return written(folder, transformers.GitForCausalLM(config))


BOS = {"bos_token_id": DEC, "eos_token_id": SEP, "pad_token_id": PAD}


def blip2(folder: Path, text: dict[str, Any]) -> Path:
    torch.manual_seed(7)
    seeing = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    config = transformers.Blip2Config(
        vision_config={**VISION, "num_hidden_layers": 1},
        qformer_config={**seeing, "encoder_hidden_size": 32, "vocab_size": 30},
        text_config={"vocab_size": TEXT["vocab_size"], **BOS, **text},
        num_query_tokens=4,
        image_token_index=TEXT["vocab_size"] - 1,
    )
    model = transformers.Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_()
    return written(folder, model)


OPT = {
    "model_type": "opt", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 48,
    "max_position_embeddings": 64, "word_embed_proj_dim": 32,
}  # fmt: skip
T5 = {
    "model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2,
    "decoder_start_token_id": PAD,
}  # fmt: skip


@pytest.mark.parametrize("text", [OPT, T5], ids=["opt", "t5"])
def test_blip2_writes_and_answers_as_generate_does(text: dict[str, Any], tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = blip2(tmp_path / "m", text)
    plain = transformers.Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    queries = [TEXT["vocab_size"] - 1] * 4
    expected = []
    for image in IMAGES:
        for question in ("", *QUESTIONS):
            asked = tokenizer(f"Question: {question} Answer:").input_ids if question else [DEC]
            tokens = torch.tensor([[*queries, *asked]])
            pixels = processor(images=image, return_tensors="pt").pixel_values
            out = plain.generate(pixel_values=pixels, input_ids=tokens, max_new_tokens=10, do_sample=False)[0]
            new = out if text is T5 else out[tokens.shape[1] :]
            expected.append(tokenizer.decode(new, skip_special_tokens=True))
    assert len(set(expected)) > 3
    model = engine.load(folder, context=None, parallel=32)
    jobs = [
        Answer(picture=picture, question=question, max_tokens=10)
        if question
        else Caption(picture=picture, max_tokens=10)
        for picture in PICTURES
        for question in ("", *QUESTIONS)
    ]
    assert [kit.ask(model, job).text for job in jobs] == expected
    assert kit.together([lambda job=job: kit.ask(model, job).text for job in jobs]) == expected


CAPTIONING = {"blip": blip, "vision-encoder-decoder": crossing, "git": git}
CLASSES = {
    "blip": "BlipForConditionalGeneration", "vision-encoder-decoder": "VisionEncoderDecoderModel",
    "git": "GitForCausalLM",
}  # fmt: skip


def theirs(folder: Path, cls: str, image: Any, tokens: int, question: str = "") -> str:
    """What transformers' class writes."""
    model = getattr(transformers, cls).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    given = dict(processor(images=image, return_tensors="pt"))
    if question:
        given |= dict(tokenizer(question, return_tensors="pt", return_token_type_ids=False))
    out = model.generate(**given, max_new_tokens=tokens, do_sample=False, num_beams=1)
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


@pytest.mark.parametrize("name", CAPTIONING)
def test_captions_are_what_generate_writes(name: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = CAPTIONING[name](tmp_path / "m")
    expected = [theirs(folder, CLASSES[name], image, 24) for image in IMAGES]
    assert len(set(expected)) > 2
    model = engine.load(folder, context=None, parallel=8)
    answers = [kit.ask(model, Caption(picture=picture, max_tokens=24)) for picture in PICTURES]
    assert [one.text for one in answers] == expected
    assert all(isinstance(one.events[0], Progress) for one in answers)
    assert any(sum(isinstance(event, Text) for event in one.events) > 5 for one in answers)
    for one in answers:
        used = one.done.usage.completion_tokens
        assert one.done.finishes[0].reason == ("length" if used == 24 else "stop")
    calls = [lambda p=p: kit.ask(model, Caption(picture=p, max_tokens=24)).text for p in PICTURES * 4]
    assert kit.together(calls) == expected * 4


def test_answers_are_what_generate_writes(tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = blip_answers(tmp_path / "m")
    asked = [(place, question) for place in range(len(IMAGES)) for question in QUESTIONS]
    expected = [theirs(folder, "BlipForQuestionAnswering", IMAGES[place], 16, question) for place, question in asked]
    assert len(set(expected)) > 4
    model = engine.load(folder, context=None, parallel=16)
    jobs = [Answer(picture=PICTURES[place], question=question, max_tokens=16) for place, question in asked]
    alone = [kit.ask(model, job) for job in jobs]
    assert [one.text for one in alone] == expected
    assert alone[1].done.usage.prompt_tokens == 3
    assert kit.together([lambda job=job: kit.ask(model, job).text for job in jobs]) == expected
    with pytest.raises(Invalid, match="question is empty"):
        model.generate(Answer(picture=PICTURES[0], question=" "), Stop())
    with pytest.raises(ContextExceeded, match="the question has 52 tokens; this model reads 40") as caught:
        model.generate(Answer(picture=PICTURES[0], question="a " * 50), Stop())
    assert caught.value.hint == "Shorten it."
    with pytest.raises(Unsupported, match=r"answers questions .* caption"):
        model.generate(Caption(picture=PICTURES[0]), Stop())


def vilt(folder: Path) -> Path:
    torch.manual_seed(5)
    answers = dict(enumerate(("yes", "no", "a table", "three", "red", "nothing")))
    config = transformers.ViltConfig(**{**TEXT, **VISION}, id2label=answers, max_image_length=-1)
    roughened(transformers.ViltForQuestionAnswering(config)).save_pretrained(folder)
    transformers.ViltImageProcessorPil(size={"shortest_edge": 32}, size_divisor=8).save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


def test_a_classifier_of_answers_gives_the_likeliest(tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = vilt(tmp_path / "m")
    plain = transformers.ViltForQuestionAnswering.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked, expected = [], []
    for image, picture in zip(IMAGES, PICTURES, strict=True):
        for question in QUESTIONS:
            given = dict(processor(images=image, return_tensors="pt")) | dict(
                tokenizer(question, return_tensors="pt", return_token_type_ids=False)
            )
            with torch.no_grad():
                expected.append(plain.config.id2label[int(plain(**given).logits[0].argmax())])
            asked.append(Answer(picture=picture, question=question))
    assert len(set(expected)) > 1
    model = engine.load(folder, context=None, parallel=16)
    assert [kit.ask(model, job).text for job in asked] == expected
    assert kit.together([lambda job=job: kit.ask(model, job).text for job in asked]) == expected
    with pytest.raises(Unsupported, match="answers questions"):
        model.generate(Classify(inputs=PICTURES), Stop())


@pytest.mark.parametrize("cleaned", [False, True])
def test_pieces_together_are_the_whole_text(cleaned: bool, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = blip(tmp_path / "m", clean_up_tokenization_spaces=cleaned)
    model = engine.load(folder, context=None)
    expected = [theirs(folder, CLASSES["blip"], image, 36) for image in IMAGES]
    assert [kit.ask(model, Caption(picture=picture, max_tokens=36)).text for picture in PICTURES] == expected


def test_a_text_ends_where_the_models_positions_do(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(blip(tmp_path / "m"), context=None)
    answers = [kit.ask(model, Caption(picture=picture, max_tokens=9999)) for picture in PICTURES]
    ended = {(one.done.finishes[0].reason, one.done.usage.completion_tokens) for one in answers}
    assert any(reason == "length" for reason, _ in ended)
    assert max(tokens for _, tokens in ended) == TEXT["max_position_embeddings"]
    with pytest.raises(Invalid, match="max_tokens is 0"):
        model.generate(Caption(picture=PICTURES[0], max_tokens=0), Stop())


def endless(make: Callable[[Path], Path], folder: Path) -> Path:
    """A model whose end never comes."""
    made = make(folder)
    model = transformers.BlipForConditionalGeneration.from_pretrained(made)
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[SEP] = -1e4
    model.save_pretrained(made)
    return made


def test_a_stopped_text_ends_and_the_others_go_on(tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = endless(blip, tmp_path / "m")
    model = engine.load(folder, context=None, parallel=4)
    expected = kit.ask(model, Caption(picture=PICTURES[1], max_tokens=30))
    assert expected.done.finishes[0].reason == "length"
    stop = Stop()
    stopped = model.generate(Caption(picture=PICTURES[0], max_tokens=40), stop)
    assert isinstance(next(stopped), Progress)
    assert isinstance(next(stopped), Text)
    stop.set()
    other = kit.ask(model, Caption(picture=PICTURES[1], max_tokens=30))
    rest = list(stopped)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason in ("cancelled", "length")
    assert other.text == expected.text
    gone = Stop()
    gone.set()
    assert kit.ask(model, Caption(picture=PICTURES[0]), gone).done.finishes[0].reason == "cancelled"


def test_who_reads_no_further_leaves_the_batch(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(endless(blip, tmp_path / "m"), context=None, parallel=1)
    events = model.generate(Caption(picture=PICTURES[0], max_tokens=40), Stop())
    next(events)
    next(events)
    events.close()
    assert kit.ask(model, Caption(picture=PICTURES[1], max_tokens=3)).done.usage.completion_tokens == 3


def test_a_bad_picture_is_refused_and_the_model_goes_on(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(blip(tmp_path / "m"), context=None)
    before = kit.ask(model, Caption(picture=PICTURES[0])).text
    for data in (b"", b"no picture", PICTURES[0].data[:60]):
        with pytest.raises(Invalid, match="the picture"):
            model.generate(Caption(picture=Picture(data=data)), Stop())
    assert kit.ask(model, Caption(picture=PICTURES[0])).text == before
    with pytest.raises(Unsupported, match=r"describes pictures \(caption\); it does not do the task classify"):
        model.generate(Classify(inputs=PICTURES), Stop())


def test_closing(tmp_path: Path, engine: Any) -> None:
    model = engine.load(endless(blip, tmp_path / "m"), context=None)
    events = model.generate(Caption(picture=PICTURES[0], max_tokens=40), Stop())
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Caption(picture=PICTURES[0]), Stop())


def test_kinds_that_are_not_run_are_named(tmp_path: Path, engine: Any) -> None:
    torch.manual_seed(6)
    folder = written(tmp_path / "m", transformers.BlipForImageTextRetrieval(blip_config()))
    with pytest.raises(Unsupported, match=r"BlipForImageTextRetrieval.*CLIP or SigLIP"):
        engine.load(folder, context=None)
    config = transformers.Pix2StructConfig(architectures=["Pix2StructForConditionalGeneration"])
    config.save_pretrained(tmp_path / "m")
    with pytest.raises(
        Unsupported, match="Of models that write about pictures it runs blip, blip-2, git, vision-encoder-decoder"
    ):
        engine.load(folder, context=None)
