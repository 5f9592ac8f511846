"""Pictures to labels and vectors by onnxruntime, against the same small networks in numpy."""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")
pytest.importorskip("llguidance")

from anyform.contract.errors import (  # noqa: E402
    Closed,
    ContextExceeded,
    EngineMissing,
    Fault,
    Invalid,
    LoadFailed,
    Unsupported,
)  # fmt: skip
from anyform.contract.events import Done, Event, Scores, Vector  # noqa: E402
from anyform.contract.facts import Device, Plan, Settings  # noqa: E402
from anyform.contract.jobs import Caption, Classify, Embed, Job, Picture, ZeroShot  # noqa: E402
from anyform.contract.model import LoadedModel, Stop  # noqa: E402
from anyform.kernel.files import FolderFiles  # noqa: E402
from anyform.testing import onnxpicture as small  # noqa: E402
from anyform_onnx import backend, detection, metadata  # noqa: E402

pytestmark = pytest.mark.engine

SIZES = ((40, 30), (33, 64), (32, 32), (100, 20), (7, 9), (64, 48))
NAMES = ("a photo", "red dog", "cat", "blue house")
CPU = Device(kind="cpu", index=0, name="cpu", total_bytes=1 << 34, free_bytes=1 << 34)
Load = Callable[..., LoadedModel]


def drawn(seed: int, size: tuple[int, int]) -> Any:
    """A picture with coarse patches, so that scaling leaves something of it."""
    grain = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return Image.fromarray(grain).resize(size, Image.Resampling.NEAREST)


def encoded(image: Any, form: str = "PNG") -> Picture:
    file = io.BytesIO()
    image.save(file, form)
    return Picture(data=file.getvalue())


IMAGES = tuple(drawn(seed, size) for seed, size in enumerate(SIZES))
PICTURES = tuple(map(encoded, IMAGES))


def plan(folder: Path, **options: Any) -> Plan:
    files = FolderFiles(folder)
    match = detection.detect(files)[0]
    return Plan(
        plugin="onnx",
        backend="onnxruntime",
        model=folder.name,
        path=str(folder),
        match=match,
        metadata=metadata.extract(files, match),
        devices=(CPU,),
        settings=Settings(parallel=4, options=options),
    )


@pytest.fixture
def load() -> Iterator[Load]:
    made: list[LoadedModel] = []

    def loaded(folder: Path, **options: Any) -> LoadedModel:
        made.append(backend.load(plan(folder, threads=1, **options)))
        return made[-1]

    yield loaded
    for one in made:
        one.close()


def asked(model: LoadedModel, job: Job) -> list[Event]:
    events = list(model.generate(job, Stop()))
    assert isinstance(events[-1], Done)
    return events


def scores(model: LoadedModel, job: Job) -> list[dict[str, float]]:
    found = {one.index: dict(zip(one.labels, one.values, strict=True)) for one in asked(model, job)
             if isinstance(one, Scores)}  # fmt: skip
    return [found[place] for place in range(len(found))]


def vectors(model: LoadedModel, job: Job) -> Any:
    found = {one.index: np.frombuffer(one.data, "<f4") for one in asked(model, job) if isinstance(one, Vector)}
    return np.stack([found[place] for place in range(len(found))])


class Network:
    """What small's graphs compute."""

    def __init__(self, weights: small.Weights) -> None:
        self.has = {name: np.reshape(values, shape) for name, (shape, values) in weights.tensors.items()}

    def patches(self, image: Any, *, cropped: bool = False) -> Any:
        scaled = (np.asarray(self.sized(image, cropped)) / 255 - 0.5) / 0.5
        if cropped:
            scaled = (np.asarray(self.sized(image, cropped)) / 255 - CLIP_MEAN) / CLIP_STD
        along = small.SIDE // small.PATCH
        cut = scaled.reshape(along, small.PATCH, along, small.PATCH, 3).transpose(0, 2, 4, 1, 3)
        rows = cut.reshape(along**2, -1) @ self.has["patches"].reshape(small.WIDTH, -1).T
        return rows + np.maximum(np.tanh(rows) @ self.has["forward"], 0)

    @staticmethod
    def sized(image: Any, cropped: bool) -> Any:
        if not cropped:
            return image.resize((small.SIDE, small.SIDE), Image.Resampling.BILINEAR)
        short = min(image.size)
        width, height = (int(small.SIDE * side / short) for side in image.size)
        left, top = (width - small.SIDE) // 2, (height - small.SIDE) // 2
        whole = image.resize((width, height), Image.Resampling.BICUBIC)
        return whole.crop((left, top, left + small.SIDE, top + small.SIDE))

    def logits(self, image: Any) -> Any:
        return self.patches(image).mean(0) @ self.has["head"].T

    def picture(self, image: Any) -> Any:
        return unit(self.patches(image).mean(0) @ self.has["visual_projection"].T)

    def text(self, text: str, length: int = 0) -> Any:
        known = {word: place for place, word in enumerate(small.WORDS)}
        tokens = [*(known.get(word, 1) for word in text.split()), 2]
        tokens += [0] * (length - len(tokens))
        return unit(np.tanh(self.has["tokens"][tokens]).mean(0) @ self.has["text_projection"].T)


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def unit(row: Any) -> Any:
    return row / np.linalg.norm(row)


def softmax(row: Any) -> Any:
    shares = np.exp(row - np.max(row))
    return shares / shares.sum()


def sigmoid(row: Any) -> Any:
    return 1 / (1 + np.exp(-row))


@pytest.mark.parametrize("batch", ["batch_size", 1, 4])
def test_a_classifier_scores_its_labels(tmp_path: Path, load: Load, batch: int | str) -> None:
    network = Network(small.write_classifier(tmp_path, batch=batch))
    model = load(tmp_path)
    for image, found in zip(IMAGES, scores(model, Classify(inputs=PICTURES, top_k=9)), strict=True):
        expected = dict(zip(small.LABELS, softmax(network.logits(image)), strict=True))
        assert list(found) == sorted(expected, key=lambda one: -expected[one])
        assert max(abs(found[one] - expected[one]) for one in expected) < 1e-5
    assert [len(one) for one in scores(model, Classify(inputs=PICTURES, top_k=2))] == [2] * len(PICTURES)


def test_quantized_numbers_hang_on_nobody_elses_pictures(tmp_path: Path, load: Load) -> None:
    """What has one scale for a whole step is given each picture by itself, and says so."""
    small.write_classifier(tmp_path / "plain")
    assert not load(tmp_path / "plain").notes  # type: ignore[attr-defined]
    small.write_classifier(tmp_path / "rounded", rounded=True)
    model = load(tmp_path / "rounded")
    [note] = model.notes  # type: ignore[attr-defined]
    assert note.endswith("on those computed beside it: each input is computed by itself.")
    alone = [scores(model, Classify(inputs=(picture,)))[0] for picture in PICTURES]
    assert scores(model, Classify(inputs=PICTURES)) == alone


def test_labels_that_stand_each_for_itself_and_numbers(tmp_path: Path, load: Load) -> None:
    network = Network(small.write_classifier(tmp_path, config={"problem_type": "multi_label_classification"}))
    found = scores(load(tmp_path), Classify(inputs=PICTURES[:1], top_k=9))[0]
    expected = sigmoid(network.logits(IMAGES[0]))
    assert all(found[name] == pytest.approx(expected[place], abs=1e-5) for place, name in enumerate(small.LABELS))
    small.write_classifier(tmp_path, config={"problem_type": "regression"})
    found = scores(load(tmp_path), Classify(inputs=PICTURES[:1], top_k=9))[0]
    assert found[small.LABELS[1]] == pytest.approx(network.logits(IMAGES[0])[1], abs=1e-4)


def test_labels_without_names_are_numbered_and_too_few_are_refused(tmp_path: Path, load: Load) -> None:
    small.write_classifier(tmp_path, config={"id2label": {}})
    assert set(scores(load(tmp_path), Classify(inputs=PICTURES[:1], top_k=9))[0]) == {f"LABEL_{n}" for n in range(4)}
    small.write_classifier(tmp_path, config={"id2label": {"0": "cat", "1": "dog"}})
    with pytest.raises(LoadFailed, match=r"gives 4 scores, and its config\.json names 2 labels"):
        load(tmp_path)


@pytest.mark.parametrize("pooling", ["", "cls", "mean"])
def test_an_encoder_makes_vectors(tmp_path: Path, load: Load, pooling: str) -> None:
    network = Network(small.write_image_encoder(tmp_path))
    found = vectors(load(tmp_path, **({"pooling": pooling} if pooling else {})), Embed(inputs=PICTURES))
    for image, row in zip(IMAGES, found, strict=True):
        patches = network.patches(image, cropped=True)
        pooled = {
            "": patches.mean(0) @ network.has.get("pooler", patches.T).T,
            "cls": patches[0],
            "mean": patches.mean(0),
        }
        assert np.abs(row - unit(pooled[pooling])).max() < 1e-5


def test_without_a_pooled_vector_the_first_patch_stands_for_the_picture(tmp_path: Path, load: Load) -> None:
    network = Network(small.write_image_encoder(tmp_path, pooled=False))
    model = load(tmp_path)
    found = vectors(model, Embed(inputs=PICTURES, dimensions=8))
    assert found.shape == (len(PICTURES), 8)
    assert np.abs(found[1] - unit(network.patches(IMAGES[1], cropped=True)[0, :8])).max() < 1e-5
    with pytest.raises(Unsupported, match=r"input 0 is text; this model embeds pictures"):
        asked(model, Embed(inputs=("a text",)))
    with pytest.raises(Invalid, match="For pictures it is one of mean, cls"):
        load(tmp_path, pooling="last")


@pytest.mark.parametrize(("joint", "pair"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("bias", [None, -3.0])
@pytest.mark.parametrize("batch", ["", "batch_size", 1])
def test_pictures_and_texts_in_one_space(
    tmp_path: Path, load: Load, joint: bool, pair: bool, bias: float | None, batch: int | str
) -> None:
    network = Network(small.write_dual(tmp_path, joint=joint, pair=pair, bias=bias, batch=batch))
    options: dict[str, Any] = {} if joint else {"logit_scale": 14.0, **({} if bias is None else {"logit_bias": bias})}
    model = load(tmp_path, hypothesis_template="a photo of {}", **options)
    length = 0 if bias is None else small.TEXT_LENGTH
    written = np.stack([network.text(f"a photo of {name}", length) for name in NAMES])
    seen = np.stack([network.picture(image) for image in IMAGES])
    logits = 14.0 * seen @ written.T + (bias or 0.0)
    for _ in range(2):  # the second time its labels are known
        for place, found in enumerate(scores(model, ZeroShot(inputs=PICTURES, labels=NAMES))):
            expected = softmax(logits[place]) if bias is None else sigmoid(logits[place])
            assert list(found) == [NAMES[one] for one in np.argsort(-expected)]
            assert max(abs(found[name] - expected[one]) for one, name in enumerate(NAMES)) < 1e-4
    assert np.abs(vectors(model, Embed(inputs=PICTURES)) - seen).max() < 1e-5
    texts = ("cat", "a photo of a red house")
    mixed = vectors(model, Embed(inputs=(texts[0], PICTURES[1], texts[1], (7, 2))))
    others = [network.text(texts[0], length), seen[1], network.text(texts[1], length), network.text("of", length)]
    assert np.abs(mixed - np.stack(others)).max() < 1e-5
    assert model.notes == ()  # type: ignore[attr-defined]


def test_what_was_learnt_is_found_in_the_graph_of_both(tmp_path: Path, load: Load) -> None:
    from anyform_onnx import likeness

    for scale, bias in ((100.0, None), (117.3, -12.9), (1.0, None)):
        folder = tmp_path / f"{scale}"
        folder.mkdir()
        small.write_dual(folder, scale=scale, bias=bias)
        found: list[likeness.Likeness] = []
        kept, likeness_measured = likeness.measured, found.append

        def measured(*given: Any, kept: Any = kept, tell: Any = likeness_measured, **more: Any) -> Any:
            made = kept(*given, **more)
            tell(made)
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(likeness, "measured", measured)
            load(folder)
        assert found[0].scale == pytest.approx(scale, rel=1e-4)
        assert found[0].bias == pytest.approx(bias or 0.0, abs=1e-3)


def test_two_graphs_without_what_was_learnt_say_so(tmp_path: Path, load: Load) -> None:
    clip, siglip = tmp_path / "clip", tmp_path / "siglip"
    for folder, bias in ((clip, None), (siglip, -3.0)):
        folder.mkdir()
        small.write_dual(folder, joint=False, pair=True, bias=bias)
    model = load(clip)
    assert "logit_scale of clip is taken to be 100" in model.notes[0]  # type: ignore[attr-defined]
    assert sum(scores(model, ZeroShot(inputs=PICTURES[:1], labels=NAMES))[0].values()) == pytest.approx(1)
    model = load(siglip)
    assert "does no zero_shot" in model.notes[0]  # type: ignore[attr-defined]
    with pytest.raises(Unsupported, match=r"makes embeddings of pictures .embed.; it does not do the task zero_shot"):
        asked(model, ZeroShot(inputs=PICTURES[:1], labels=NAMES))
    assert len(vectors(model, Embed(inputs=("cat", PICTURES[0])))) == 2


@pytest.mark.parametrize("shape", [None, ("texts",)])
def test_a_graph_of_texts_without_their_tokens_is_refused(tmp_path: Path, load: Load, shape: Any) -> None:
    from anyform.testing.onnx import Graph, write_onnx

    small.write_dual(tmp_path, joint=False, pair=True)
    graph = Graph()
    given = graph.input("words" if shape is None else "input_ids", "F32", shape or ("texts", small.VECTOR))
    graph.node("Identity", given, called="text_embeds")
    graph.output("text_embeds", "F32", shape or ("texts", small.VECTOR))
    write_onnx(tmp_path / "text_model.onnx", graph)
    with pytest.raises(Unsupported, match="and no input_ids of a row for each text"):
        load(tmp_path)


def test_logits_that_are_no_scaled_cosine_are_refused(tmp_path: Path, load: Load) -> None:
    small.write_dual(tmp_path, bias=-3.0)
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**said, "model_type": "clip", "architectures": ["CLIPModel"]}))
    with pytest.raises(LoadFailed, match="is no scaled cosine of its vectors"):
        load(tmp_path)
    load(tmp_path, logit_scale=14)


def test_texts_that_are_too_long(tmp_path: Path, load: Load) -> None:
    network = Network(small.write_dual(tmp_path))
    model = load(tmp_path)
    long = "cat dog " * 8
    with pytest.raises(ContextExceeded, match="input 0 has 17 tokens; this model reads 12"):
        asked(model, Embed(inputs=(long,)))
    cut = vectors(model, Embed(inputs=(long,), truncate=True))[0]
    assert np.abs(cut - network.text(" ".join(long.split()[: small.TEXT_LENGTH - 1]))).max() < 1e-5
    with pytest.raises(Invalid, match="input 0 has token 99"):
        asked(model, Embed(inputs=((99,),)))


def test_many_at_once_get_what_they_asked_for(tmp_path: Path, load: Load) -> None:
    network = Network(small.write_dual(tmp_path, pair=True))
    model = load(tmp_path)
    expected = [network.picture(image) for image in IMAGES]
    wrong: list[str] = []

    def client(number: int) -> None:
        for turn in range(6):
            place = (number + turn) % len(PICTURES)
            found = vectors(model, Embed(inputs=(PICTURES[place], "red cat")))
            ranked = scores(model, ZeroShot(inputs=(PICTURES[place],), labels=NAMES[: 2 + number % 3]))[0]
            if np.abs(found[0] - expected[place]).max() > 1e-5 or len(ranked) != 2 + number % 3:
                wrong.append(f"{number} {turn}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert wrong == []


def test_requests_share_batches(tmp_path: Path, load: Load) -> None:
    from anyform.picture.pictureloop import PictureLoop
    from anyform_onnx.tower import Tower

    small.write_classifier(tmp_path)
    sizes: list[int] = []
    running, gate, submitted = threading.Event(), threading.Event(), threading.Semaphore(0)
    run, submit = Tower.run, PictureLoop.submit

    def counted(self: Tower, inputs: Any, outputs: Any) -> Any:
        sizes.append(len(inputs))
        running.set()
        assert gate.wait(30)
        return run(self, inputs, outputs)

    def told(self: PictureLoop, work: Any) -> None:
        submit(self, work)
        submitted.release()

    model = load(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tower, "run", counted)
        patch.setattr(PictureLoop, "submit", told)
        threads = [threading.Thread(target=asked, args=(model, Classify(inputs=PICTURES[:1]))) for _ in range(5)]
        threads[0].start()
        assert running.wait(30)
        for one in threads[1:]:
            one.start()
        for _ in threads:
            assert submitted.acquire(timeout=30)
        gate.set()
        for one in threads:
            one.join()
    assert sizes == [1, 4]


BAD = {
    "empty": b"",
    "a text": b"hello there",
    "cut short": PICTURES[0].data[: len(PICTURES[0].data) // 2],
    "a strip": encoded(Image.new("L", (100_000, 1))).data,
    "a bomb": encoded(Image.new("1", (20_000, 20_000))).data,
}


def test_what_is_no_picture_is_refused_and_the_model_lives(tmp_path: Path, load: Load) -> None:
    small.write_dual(tmp_path)
    model = load(tmp_path)
    jobs: list[Job] = [
        job
        for data in BAD.values()
        for job in (
            Embed(inputs=(Picture(data=data),)),
            ZeroShot(inputs=(PICTURES[0], Picture(data=data)), labels=NAMES),
        )
    ]
    jobs += [ZeroShot(inputs=("text",), labels=NAMES), ZeroShot(inputs=PICTURES[:1], labels=())]
    for job in jobs:
        with pytest.raises(Invalid) as caught:
            asked(model, job)
        assert caught.value.category.value == "invalid"
    with pytest.raises(Unsupported, match=r"scores pictures against labels .zero_shot. and makes embeddings"):
        asked(model, Caption(picture=PICTURES[0]))
    with pytest.raises(Unsupported):
        asked(model, Classify(inputs=PICTURES[:1]))
    assert len(vectors(model, Embed(inputs=PICTURES))) == len(PICTURES)
    model.close()
    model.close()
    with pytest.raises(Closed):
        asked(model, Embed(inputs=PICTURES))


def test_one_that_cannot_be_computed_costs_no_other(tmp_path: Path, load: Load) -> None:
    small.write_image_encoder(tmp_path)
    said = {"image_processor_type": "BitImageProcessor", "do_resize": False, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(LoadFailed, match="takes pictures of 3 x 32 x 32, and its processor makes some of 3 x 64 x 64"):
        load(tmp_path)
    small.write_image_encoder(tmp_path)
    said = {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 32}, "do_center_crop": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = load(tmp_path)
    with pytest.raises(Fault, match="input 1 could not be computed") as caught:
        asked(model, Embed(inputs=(PICTURES[2], PICTURES[3])))
    assert caught.value.code == "onnx.compute_failed"
    assert len(vectors(model, Embed(inputs=PICTURES[2:3]))) == 1


def test_not_all_numbers_finite(tmp_path: Path, load: Load) -> None:
    class Broken(small.Weights):
        def __call__(self, graph: Any, name: str, *shape: int) -> str:
            self.tensors[name] = (shape, [math.nan] * math.prod(shape))
            return super().__call__(graph, name, *shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small, "Weights", Broken)
        small.write_classifier(tmp_path)
    with pytest.raises(LoadFailed, match="not finite"):
        load(tmp_path)


def test_a_folder_without_a_processor_or_with_another_is_refused(tmp_path: Path, load: Load) -> None:
    small.write_classifier(tmp_path, processor={"image_processor_type": "Siglip2ImageProcessor"})
    with pytest.raises(Unsupported, match="names the image processor Siglip2ImageProcessor; "):
        load(tmp_path)
    small.write_classifier(tmp_path, processor={}, config={"model_type": "other"})
    with pytest.raises(Unsupported, match="does not say which image processor it is"):
        load(tmp_path)


def test_a_nested_processor_goes_first(tmp_path: Path, load: Load) -> None:
    network = Network(small.write_classifier(tmp_path, processor={"image_processor_type": "X"}))
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": dict(small.PROCESSOR)}))
    found = scores(load(tmp_path), Classify(inputs=PICTURES[:1], top_k=1))[0]
    assert list(found) == [small.LABELS[int(np.argmax(network.logits(IMAGES[0])))]]


def test_without_pillow_it_says_what_to_install(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    small.write_classifier(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EngineMissing, match=r"Pillow is missing.*pip install pillow"):
        load(tmp_path)


def test_a_graph_of_the_model_zoo_with_names_of_its_own(tmp_path: Path, load: Load) -> None:
    from anyform.testing.onnx import Graph, write_onnx

    weights, graph = small.Weights(), Graph()
    mean = small._averaged(graph, weights, graph.input("data", "F32", (1, 3, 32, 32)))
    graph.output(graph.node("Gemm", mean, weights(graph, "head", 4, 24), called="scores", transB=1), "F32", (1, 4))
    write_onnx(tmp_path / "model.onnx", graph)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(dict(small.PROCESSOR)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": {}}))
    found = scores(load(tmp_path), Classify(inputs=PICTURES[:3], top_k=1))
    expected = [int(np.argmax(Network(weights).logits(image))) for image in IMAGES[:3]]
    assert [next(iter(one)) for one in found] == [f"LABEL_{place}" for place in expected]


def test_a_graph_of_both_that_gives_no_vectors_is_refused(tmp_path: Path) -> None:
    from anyform.testing.onnx import Graph, write_onnx

    small.write_dual(tmp_path)
    graph = Graph()
    graph.input("input_ids", "I64", ("t", "s"))
    pixels = graph.input("pixel_values", "F32", ("i", 3, 32, 32))
    graph.output(
        graph.node("ReduceMean", pixels, called="logits_per_image", axes=[2, 3], keepdims=0), "F32", ("i", "t")
    )
    write_onnx(tmp_path / "model.onnx", graph)
    with pytest.raises(Unsupported, match=r"gives logits_per_image, and no vectors"):
        backend.load(replace(plan(tmp_path)))
