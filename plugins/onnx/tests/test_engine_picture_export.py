"""Exports of transformers' own networks: what onnxruntime scores is what transformers does. Needs torch."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
Image = pytest.importorskip("PIL.Image")

from anyform.contract.events import Scores, Vector  # noqa: E402
from anyform.contract.facts import Device, Plan, Settings  # noqa: E402
from anyform.contract.jobs import Classify, Embed, Job, Picture, ZeroShot  # noqa: E402
from anyform.contract.model import LoadedModel, Stop  # noqa: E402
from anyform.kernel.files import FolderFiles  # noqa: E402
from anyform_onnx import backend, detection, metadata  # noqa: E402

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

SIZES = ((40, 30), (33, 64), (32, 32), (100, 20), (64, 48))
NAMES = ("cat", "a very red house", "nothing at all")
VIT = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
TEXT = {
    "vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
    "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258,
}  # fmt: skip
CPU = Device(kind="cpu", index=0, name="cpu", total_bytes=1 << 34, free_bytes=1 << 34)


def drawn(seed: int, size: tuple[int, int]) -> Any:
    grain = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize(size, Image.Resampling.NEAREST)


def encoded(image: Any) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(data=file.getvalue())


IMAGES = [drawn(seed, size) for seed, size in enumerate(SIZES)]
PICTURES = tuple(map(encoded, IMAGES))


def roughened(model: Any) -> Any:
    """With wider weights, so that answers to different pictures are far from each other."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, one in model.named_parameters():
            if one.ndim > 1:
                one.copy_(torch.randn_like(one) * (one[0].numel() ** -0.5 * 1.5))
            elif "bias" in name:
                one.copy_(torch.randn_like(one) * 0.1)
    return model.eval()


class Chosen(torch.nn.Module):
    """A model that gives some of its outputs alone, in their order."""

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *given: Any) -> Any:
        made = self.model(**dict(zip(self.inputs, given, strict=True)))
        return tuple(made[name] for name in self.outputs)


def export(folder: Path, model: Any, given: Mapping[str, Any], outputs: Sequence[str], processor: Any) -> None:
    """As optimum does it: sides of the first axis, and of texts the second, may be any."""
    sides = {name: {0: torch.export.Dim.DYNAMIC} for name in given}
    for name in sides.keys() - {"pixel_values"}:
        sides[name][1] = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Chosen(model, list(given), outputs), tuple(given.values()), str(folder / "model.onnx"), dynamo=True,
            verbose=False, optimize=False, input_names=list(given), output_names=list(outputs),
            dynamic_shapes={"given": tuple(sides.values())},
        )  # fmt: skip
    model.config.save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "architectures": [type(model).__name__]}))
    processor.save_pretrained(folder)


Load = Callable[[Path], LoadedModel]


@pytest.fixture
def load() -> Iterator[Load]:
    made: list[LoadedModel] = []

    def loaded(folder: Path) -> LoadedModel:
        files = FolderFiles(folder)
        match = detection.detect(files)[0]
        plan = Plan(
            plugin="onnx", backend="onnxruntime", model="m", path=str(folder), match=match,
            metadata=metadata.extract(files, match), devices=(CPU,), settings=Settings(options={"threads": 1}),
        )  # fmt: skip
        made.append(backend.load(plan))
        return made[-1]

    yield loaded
    for one in made:
        one.close()


def of_kind(model: LoadedModel, job: Job, kind: Any) -> list[Any]:
    found = [one for one in model.generate(job, Stop()) if isinstance(one, kind)]
    return sorted(found, key=lambda one: one.index)


def vectors(model: LoadedModel, job: Job) -> Any:
    return np.stack([np.frombuffer(one.data, "<f4") for one in of_kind(model, job, Vector)])


def same(found: Sequence[Scores], names: Sequence[str], expected: Any) -> None:
    """The order, and every number."""
    for one, row in zip(found, expected.tolist(), strict=True):
        by_name = dict(zip(names, row, strict=True))
        assert list(one.labels) == sorted(by_name, key=lambda name: -by_name[name])
        assert max(abs(value - by_name[name]) for name, value in zip(one.labels, one.values, strict=True)) < 1e-4


def vit() -> tuple[Any, Any]:
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, num_labels=7))
    return model, transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})


def resnet() -> tuple[Any, Any]:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )
    processor = transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32})
    return transformers.ResNetForImageClassification(config), processor


@pytest.mark.parametrize("make", [vit, resnet])
def test_classifiers(tmp_path: Path, load: Load, make: Callable[[], tuple[Any, Any]]) -> None:
    model, processor = make()
    pixels = processor(images=IMAGES, return_tensors="pt")
    export(tmp_path, roughened(model), {"pixel_values": pixels["pixel_values"][:2]}, ["logits"], processor)
    with torch.no_grad():
        expected = model(**pixels).logits.softmax(-1)
    labels = [f"LABEL_{place}" for place in range(expected.shape[1])]
    same(of_kind(load(tmp_path), Classify(inputs=PICTURES, top_k=9), Scores), labels, expected)


def test_an_encoder(tmp_path: Path, load: Load) -> None:
    config = transformers.Dinov2Config(**{**VIT, "image_size": 28, "patch_size": 14})
    processor = transformers.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28})
    model = roughened(transformers.Dinov2Model(config))
    pixels = processor(images=IMAGES, return_tensors="pt")
    outputs = ["last_hidden_state", "pooler_output"]
    export(tmp_path, model, {"pixel_values": pixels["pixel_values"][:2]}, outputs, processor)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(**pixels).pooler_output).numpy()
    assert np.abs(vectors(load(tmp_path), Embed(inputs=PICTURES)) - expected).max() < 1e-5


def byte_words(folder: Path, *, both: bool, **given: Any) -> Any:
    """A tokenizer of single bytes with a mark at one or both ends."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: place for place, name in enumerate([*alphabet, "<s>", "</s>", "<pad>"])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>" if both else "$A </s>", special_tokens=[("<s>", 256), ("</s>", 257)]
    )
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="</s>", **given
    )
    words.save_pretrained(folder)
    return words


def clip(folder: Path) -> tuple[Any, Any, Any]:
    config = transformers.CLIPConfig(
        text_config={**TEXT, "max_position_embeddings": 64}, vision_config=VIT, projection_dim=24
    )
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    words = byte_words(folder, both=True)
    texts = words([f"This is a photo of {name}." for name in NAMES], padding=True, return_tensors="pt")
    return roughened(transformers.CLIPModel(config)), processor, texts


def siglip(folder: Path) -> tuple[Any, Any, Any]:
    config = transformers.SiglipConfig(text_config={**TEXT, "max_position_embeddings": 64}, vision_config=VIT)
    processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    words = byte_words(folder, both=False, model_input_names=["input_ids"])
    sentences = [f"This is a photo of {name}." for name in NAMES]
    texts = words(sentences, padding="max_length", max_length=64, return_tensors="pt")
    model = roughened(transformers.SiglipModel(config))
    with torch.no_grad():
        model.logit_scale.fill_(1.5)
        model.logit_bias.fill_(-0.5)
    return model, processor, texts


@pytest.mark.parametrize("make", [clip, siglip])
def test_pairs(tmp_path: Path, load: Load, make: Callable[[Path], tuple[Any, Any, Any]]) -> None:
    model, processor, texts = make(tmp_path)
    pixels = processor(images=IMAGES, return_tensors="pt")["pixel_values"]
    given = {name: texts[name] for name in ("input_ids", "attention_mask") if name in texts}
    outputs = ["logits_per_image", "text_embeds", "image_embeds"]
    export(tmp_path, model, {**given, "pixel_values": pixels[:2]}, outputs, processor)
    with torch.no_grad():
        made = model(**given, pixel_values=pixels)
    logits = made.logits_per_image
    ours = load(tmp_path)
    expected = logits.softmax(-1) if make is clip else logits.sigmoid()
    same(of_kind(ours, ZeroShot(inputs=PICTURES, labels=NAMES), Scores), NAMES, expected)
    found = vectors(ours, Embed(inputs=(*PICTURES, *(f"This is a photo of {name}." for name in NAMES))))
    both = torch.cat([made.image_embeds, made.text_embeds])
    assert np.abs(found - torch.nn.functional.normalize(both).numpy()).max() < 1e-5


def test_eight_bits_by_our_own_export(tmp_path: Path, load: Load) -> None:
    from anyform_onnx.exporting import backend as exporting

    model, processor = vit()
    source = tmp_path / "source"
    roughened(model).save_pretrained(source)
    processor.save_pretrained(source)
    exporting.main("image_classifier", str(source), str(tmp_path / "made"), "int8", "cpu")
    ours = load(tmp_path / "made")
    with torch.no_grad():
        expected = model(**processor(images=IMAGES, return_tensors="pt")).logits.softmax(-1)
    for one, row in zip(of_kind(ours, Classify(inputs=PICTURES, top_k=9), Scores), expected.tolist(), strict=True):
        found = dict(zip(one.labels, one.values, strict=True))
        assert max(abs(found[f"LABEL_{place}"] - share) for place, share in enumerate(row)) < 0.1
