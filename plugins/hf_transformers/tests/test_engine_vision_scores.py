"""Pictures to labels and vectors, against transformers' own pipelines on tiny random models."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Closed, ContextExceeded, Invalid, LoadFailed, Unsupported
from anyform.contract.events import Done, Event, Progress, Scores
from anyform.contract.jobs import Answer, Caption, Classify, Complete, Embed, Picture, ZeroShot
from anyform.contract.model import Stop

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.engine

LABELS = ("cat", "a red house", "nothing at all", "dog")
SIZES = ((40, 30), (33, 64), (32, 32), (100, 20), (7, 9), (64, 48))


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
                one.copy_(torch.randn_like(one) * (one[0].numel() ** -0.5 * 1.5))
            elif "bias" in name:
                one.copy_(torch.randn_like(one) * 0.1)
    return model


def written(folder: Path, model: Any, processor: Any, tokenizer: Any = None) -> Path:
    roughened(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def square(cls: str, side: int = 32) -> Any:
    return getattr(transformers, cls)(size={"height": side, "width": side})


VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip


def vit(folder: Path, **config: Any) -> Path:
    torch.manual_seed(1)
    made = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, **{"num_labels": 7, **config}))
    return written(folder, made, square("ViTImageProcessorPil"))


def dinov2(folder: Path) -> Path:
    torch.manual_seed(2)
    config = transformers.Dinov2Config(**{**VIT, "image_size": 28, "patch_size": 14}, num_labels=6)
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28})
    return written(folder, transformers.Dinov2ForImageClassification(config), processor)


def resnet(folder: Path) -> Path:
    torch.manual_seed(3)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32})
    return written(folder, transformers.ResNetForImageClassification(config), processor)


def convnext(folder: Path) -> Path:
    torch.manual_seed(4)
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=4)
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32})
    return written(folder, transformers.ConvNextForImageClassification(config), processor)


def swin(folder: Path) -> Path:
    torch.manual_seed(5)
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, num_labels=3
    )
    return written(folder, transformers.SwinForImageClassification(config), square("ViTImageProcessorPil"))


def byte_words(begin: str, end: str, pad: str, **given: Any) -> Any:
    """A tokenizer of single bytes with a mark at one or both ends."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: place for place, name in enumerate([*alphabet, begin, end, pad])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    marks = [(name, vocabulary[name]) for name in (begin, end)]
    single = f"{begin} $A {end}" if given.pop("both", True) else f"$A {end}"
    made.post_processor = tokenizers.processors.TemplateProcessing(single=single, special_tokens=marks)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=begin, eos_token=end, pad_token=pad, unk_token=end, **given
    )


TEXT = {
    "vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
}  # fmt: skip


def clip(folder: Path) -> Path:
    torch.manual_seed(6)
    config = transformers.CLIPConfig(
        text_config={**TEXT, "max_position_embeddings": 48}, vision_config=VIT, projection_dim=24
    )
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return written(folder, transformers.CLIPModel(config), processor, byte_words("<s>", "</s>", "<pad>"))


def siglip(folder: Path) -> Path:
    torch.manual_seed(7)
    config = transformers.SiglipConfig(text_config={**TEXT, "max_position_embeddings": 64}, vision_config=VIT)
    words = byte_words("<s>", "</s>", "<pad>", both=False, model_input_names=["input_ids"])
    model = transformers.SiglipModel(config)
    folder = written(folder, model, square("SiglipImageProcessorPil"), words)
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
        model.logit_bias.fill_(-0.5)
    model.save_pretrained(folder)
    return folder


CLASSIFIERS = {"vit": vit, "dinov2": dinov2, "resnet": resnet, "convnext": convnext, "swin": swin}
PAIRS = {"clip": clip, "siglip": siglip}


def pipeline(task: str, folder: Path) -> Any:
    """Transformers' own, with the processor that needs no torchvision, as the engine has it."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    return transformers.pipeline(task, model=str(folder), image_processor=processor)


def scores(events: tuple[Event, ...]) -> list[Scores]:
    """One for each input, in their order."""
    found = sorted((one for one in events if isinstance(one, Scores)), key=lambda one: one.index)
    assert [one.index for one in found] == list(range(len(found)))
    return found


def same(found: Scores, expected: list[dict[str, Any]]) -> None:
    assert found.labels == tuple(one["label"] for one in expected)
    assert found.values == pytest.approx([one["score"] for one in expected], abs=1e-5)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_pictures_are_classified_as_the_pipeline_does(name: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = CLASSIFIERS[name](tmp_path / "m")
    theirs = pipeline("image-classification", folder)
    expected = [theirs(image, top_k=3) for image in IMAGES]
    assert len({tuple(round(one["score"], 3) for one in best) for best in expected}) == len(IMAGES)
    model = engine.load(folder, context=None)
    answered = kit.ask(model, Classify(inputs=PICTURES, top_k=3))
    assert isinstance(answered.events[0], Progress)
    assert answered.done.finishes[0].reason == "stop"
    for found, wanted in zip(scores(answered.events), expected, strict=True):
        same(found, wanted)


def test_all_labels_come_where_more_are_asked_for_than_there_are(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(vit(tmp_path / "m"), context=None)
    (found,) = scores(kit.ask(model, Classify(inputs=PICTURES[:1], top_k=99)).events)
    assert len(found.labels) == 7
    assert sum(found.values) == pytest.approx(1, abs=1e-5)
    assert list(found.values) == sorted(found.values, reverse=True)
    with pytest.raises(Invalid, match="top_k is 0"):
        model.generate(Classify(inputs=PICTURES, top_k=0), Stop())


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_scores_are_what_the_problem_wants(problem: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = vit(tmp_path / "m", problem_type=problem)
    theirs = pipeline("image-classification", folder)
    found = scores(kit.ask(engine.load(folder, context=None), Classify(inputs=PICTURES)).events)
    for one, image in zip(found, IMAGES, strict=True):
        same(one, theirs(image, top_k=5))


@pytest.mark.parametrize("name", PAIRS)
def test_labels_of_the_request_are_scored_as_the_pipeline_does(
    name: str, tmp_path: Path, engine: Any, kit: Any
) -> None:
    folder = PAIRS[name](tmp_path / "m")
    theirs = pipeline("zero-shot-image-classification", folder)
    expected = [theirs(image, candidate_labels=list(LABELS)) for image in IMAGES]
    assert len({tuple(round(one["score"], 3) for one in best) for best in expected}) == len(IMAGES)
    model = engine.load(folder, context=None)
    for _ in range(2):  # the second time their vectors are known
        answered = kit.ask(model, ZeroShot(inputs=PICTURES, labels=LABELS))
        for found, wanted in zip(scores(answered.events), expected, strict=True):
            same(found, wanted)
    twice = kit.ask(model, ZeroShot(inputs=PICTURES[:1], labels=("new", "new")))
    (found,) = scores(twice.events)
    assert found.values[0] == found.values[1]
    assert twice.done.usage.prompt_tokens == twice.prompt_tokens > 0
    with pytest.raises(Invalid, match="labels is empty"):
        model.generate(ZeroShot(inputs=PICTURES, labels=()), Stop())
    with pytest.raises(ContextExceeded, match="label 1 has") as caught:
        model.generate(ZeroShot(inputs=PICTURES, labels=("x", "x" * 80)), Stop())
    assert caught.value.hint == "Shorten it.", "no request can ask for labels to be cut"


def test_a_template_of_ones_own(tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = clip(tmp_path / "m")
    theirs = pipeline("zero-shot-image-classification", folder)
    model = engine.load(folder, context=None, hypothesis_template="{}")
    found = scores(kit.ask(model, ZeroShot(inputs=PICTURES, labels=LABELS)).events)
    for one, image in zip(found, IMAGES, strict=True):
        same(one, theirs(image, candidate_labels=list(LABELS), hypothesis_template="{}"))


def units(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pooled(folder: Path) -> Any:
    theirs = pipeline("image-feature-extraction", folder)
    return units(np.stack([np.asarray(theirs(image, pool=True)).reshape(-1) for image in IMAGES]))


def vit_bare(folder: Path) -> Path:
    torch.manual_seed(8)
    return written(folder, transformers.ViTModel(transformers.ViTConfig(**VIT)), square("ViTImageProcessorPil"))


def dinov2_bare(folder: Path) -> Path:
    torch.manual_seed(9)
    config = transformers.Dinov2Config(**{**VIT, "image_size": 28, "patch_size": 14})
    return written(folder, transformers.Dinov2Model(config), square("ViTImageProcessorPil", 28))


def resnet_bare(folder: Path) -> Path:
    torch.manual_seed(10)
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return written(folder, transformers.ResNetModel(config), square("ViTImageProcessorPil"))


@pytest.mark.parametrize("make", [vit_bare, dinov2_bare, resnet_bare])
def test_pictures_are_embedded_as_the_pipeline_pools(
    make: Callable[[Path], Path], tmp_path: Path, engine: Any, kit: Any
) -> None:
    folder = make(tmp_path / "m")
    expected = pooled(folder)
    assert np.abs(expected @ expected.T - np.eye(len(IMAGES))).max() < 0.9999
    model = engine.load(folder, context=None)
    found = kit.ask(model, Embed(inputs=PICTURES)).vectors
    assert np.abs(found - expected).max() < 1e-5
    short = kit.ask(model, Embed(inputs=PICTURES, dimensions=8)).vectors
    assert np.abs(short - units(expected[:, :8])).max() < 1e-5
    with pytest.raises(Unsupported, match="input 1 is text"):
        model.generate(Embed(inputs=(PICTURES[0], "x")), Stop())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_another_pooling(pooling: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = vit_bare(tmp_path / "m")
    found = kit.ask(engine.load(folder, context=None, pooling=pooling), Embed(inputs=PICTURES)).vectors
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    plain = transformers.AutoModel.from_pretrained(folder)
    with torch.no_grad():
        hidden = plain(**processor(images=list(IMAGES), return_tensors="pt")).last_hidden_state
    expected = units((hidden[:, 0] if pooling == "cls" else hidden.mean(1)).numpy())
    assert np.abs(found - expected).max() < 1e-5


def test_a_model_whose_files_lack_the_pooler_gives_the_first_patch(tmp_path: Path, engine: Any, kit: Any) -> None:
    torch.manual_seed(11)
    plain = transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).eval()
    folder = written(tmp_path / "m", plain, square("ViTImageProcessorPil"))
    found = kit.ask(engine.load(folder, context=None), Embed(inputs=PICTURES)).vectors
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.no_grad():
        hidden = plain(**processor(images=list(IMAGES), return_tensors="pt")).last_hidden_state[:, 0]
    assert np.abs(found - units(hidden.numpy())).max() < 1e-5


@pytest.mark.parametrize("name", PAIRS)
def test_pictures_and_texts_are_embedded_in_one_space(name: str, tmp_path: Path, engine: Any, kit: Any) -> None:
    folder = PAIRS[name](tmp_path / "m")
    plain = transformers.AutoModel.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padding = {"padding": "max_length", "max_length": 64} if name == "siglip" else {}
    with torch.no_grad():
        seen = plain.get_image_features(**processor(images=list(IMAGES), return_tensors="pt")).pooler_output
        said = [
            plain.get_text_features(**tokenizer([text], return_tensors="pt", **padding)).pooler_output[0]
            for text in LABELS
        ]
    model = engine.load(folder, context=None)
    answered = kit.ask(model, Embed(inputs=(*LABELS, *PICTURES)))
    expected = units(np.concatenate([torch.stack(said).numpy(), seen.numpy()]))
    assert np.abs(answered.vectors - expected).max() < 1e-5
    assert answered.done.usage.prompt_tokens == sum(len(tokenizer(text).input_ids) for text in LABELS)
    limit = 64 if name == "siglip" else 48
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Embed(inputs=("x" * 100,)), Stop())
    assert caught.value.details["context"] == limit
    assert "truncated" in caught.value.hint
    marks = len(tokenizer("").input_ids)
    cut, exact = kit.ask(model, Embed(inputs=("x" * 100, "x" * (limit - marks)), truncate=True)).vectors
    assert np.abs(cut - exact).max() < 1e-6
    tokens = tuple(tokenizer(LABELS[0]).input_ids)
    assert np.abs(kit.ask(model, Embed(inputs=(tokens,))).vectors[0] - answered.vectors[0]).max() < 1e-6
    with pytest.raises(Invalid, match="token 999"):
        model.generate(Embed(inputs=((999,),)), Stop())


def test_one_among_many_gets_the_answer_that_it_gets_alone(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(clip(tmp_path / "m"), context=None, parallel=24)
    jobs = [
        *(Embed(inputs=(picture, LABELS[place % 4])) for place, picture in enumerate(PICTURES)),
        *(ZeroShot(inputs=(picture,), labels=LABELS[place % 3 :]) for place, picture in enumerate(PICTURES)),
    ]
    alone = [kit.ask(model, job) for job in jobs]
    answers = kit.together([lambda job=job: kit.ask(model, job) for job in jobs * 3])
    for answered, expected in zip(answers, alone * 3, strict=True):
        if answered.events[1:2] and isinstance(answered.events[1], Scores):
            (found,), (wanted,) = scores(answered.events), scores(expected.events)
            assert found.labels == wanted.labels
            assert found.values == pytest.approx(wanted.values, abs=1e-5)
        else:
            assert np.abs(answered.vectors - expected.vectors).max() < 1e-5


def test_a_bad_picture_among_good_ones_ends_its_own_request_only(tmp_path: Path, engine: Any, kit: Any) -> None:
    model = engine.load(vit(tmp_path / "m"), context=None, parallel=16)
    bad = Picture(data=PICTURES[0].data[:60])
    calls = [lambda p=p: kit.ask(model, Classify(inputs=(PICTURES[1], p))) for p in (PICTURES[0], bad) * 6]
    answers = kit.together(calls)
    for answered in answers[::2]:
        assert len(scores(answered.events)) == 2
    assert all(isinstance(one, Invalid) and "input 1" in str(one) for one in answers[1::2])
    with pytest.raises(Invalid, match="input 0 is text"):
        model.generate(Classify(inputs=("x",)), Stop())
    assert len(scores(kit.ask(model, Classify(inputs=PICTURES)).events)) == len(PICTURES)
    assert scores(kit.ask(model, Classify(inputs=())).events) == []


def test_other_tasks_are_refused_with_what_the_model_does(tmp_path: Path, engine: Any) -> None:
    classifier = engine.load(vit(tmp_path / "m"), context=None)
    pair = engine.load(clip(tmp_path / "p"), context=None)
    for job in (
        Embed(inputs=PICTURES), ZeroShot(inputs=PICTURES, labels=LABELS), Caption(picture=PICTURES[0]),
        Answer(picture=PICTURES[0], question="?"), Complete(prompt="x"),
    ):  # fmt: skip
        with pytest.raises(Unsupported, match=f"classifies pictures .*{job.task}"):
            classifier.generate(job, Stop())
    with pytest.raises(Unsupported, match=r"zero_shot\) and makes embeddings"):
        pair.generate(Classify(inputs=PICTURES), Stop())


def test_a_stopped_request_ends(tmp_path: Path, engine: Any) -> None:
    model = engine.load(vit(tmp_path / "m"), context=None)
    stop = Stop()
    events = model.generate(Classify(inputs=PICTURES * 50), stop)
    next(events)
    assert isinstance(next(events), Scores)
    stop.set()
    rest = list(events)
    assert isinstance(rest[-1], Done)
    assert rest[-1].finishes[0].reason == "cancelled"
    assert len(rest) < 6 * 50


def test_closing(tmp_path: Path, engine: Any) -> None:
    model = engine.load(vit(tmp_path / "m"), context=None)
    events = model.generate(Classify(inputs=PICTURES * 50), Stop())
    next(events)
    next(events)
    model.close()
    model.close()
    with pytest.raises(Closed):
        list(events)
    with pytest.raises(Closed):
        model.generate(Classify(inputs=PICTURES), Stop())


def test_a_folder_without_an_image_processor_is_refused(tmp_path: Path, engine: Any) -> None:
    folder = vit(tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(LoadFailed, match="image processor"):
        engine.load(folder, context=None)


def test_what_sees_nothing_does_without_pillow() -> None:
    code = "import sys; sys.modules['PIL'] = None; from anyform_hf_transformers import backend, loading, vectorloading"
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}; print(backend.pillow)"], capture_output=True, text=True, timeout=120
    )
    assert ended.stdout == "None\n", ended.stderr[-2000:]
