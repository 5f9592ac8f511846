"""A vision encoder: a .onnx is really run; a .rknn through a stand-in for rknnlite, since there is no NPU here."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
Image = pytest.importorskip("PIL.Image")

from anyform.builtin import echo_picture  # noqa: E402
from anyform.contract.errors import (  # noqa: E402
    ContextExceeded,
    EngineMissing,
    Fault,
    Invalid,
    LoadFailed,
    Unsupported,
)
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings  # noqa: E402
from anyform.testing.onnx import Graph, Shape, write_onnx  # noqa: E402
from anyform_rkllm import vision  # noqa: E402
from anyform_rkllm.options import Options  # noqa: E402
from anyform_rkllm.vision import preprocess  # noqa: E402
from anyform_rkllm.vision.encoding import KEPT, Encoder  # noqa: E402
from anyform_rkllm.vision.preprocess import Recipe  # noqa: E402

pytestmark = pytest.mark.engine

SIDE, PATCH, WIDTH = 28, 14, 8
TOKENS = (SIDE // PATCH) ** 2
KERNEL = np.random.default_rng(0).normal(size=(WIDTH, 3, PATCH, PATCH)).astype(np.float32)
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
GREEN = (10, 200, 30)


def write(
    path: Path,
    *,
    shape: Shape = (1, 3, SIDE, SIDE),
    dtype: str = "F32",
    given: Shape = (1, TOKENS, WIDTH),
    flat: bool = False,
    outputs: int = 1,
    tail: str = "",
) -> Path:
    """An encoder of patches. *given*: the shape of its output, as the file says. *tail*: an operator behind all."""
    graph = Graph()
    pixels = graph.input("pixel_values", dtype, shape)
    if dtype != "F32":
        pixels = graph.node("Cast", pixels, to=1)
    if shape[-1] == 3:
        pixels = graph.node("Transpose", pixels, perm=[0, 3, 1, 2])
    kernel = graph.weights("kernel", "F32", KERNEL.shape, KERNEL.tobytes())
    found = graph.node("Conv", pixels, kernel, kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
    rows = graph.node("Reshape", found, graph.constant([WIDTH, -1] if flat else [0, WIDTH, -1], "I64"))
    rows = graph.node("Transpose", rows, perm=[1, 0] if flat else [0, 2, 1])
    rows = graph.node(tail, rows) if tail else rows
    for number in range(outputs):
        graph.node("Identity", rows, called=f"layer_{number}")
        graph.output(f"layer_{number}", "F32", given)
    return write_onnx(path, graph)


def png(colour: tuple[int, int, int] = GREEN, width: int = 56, height: int = 28) -> bytes:
    """A picture of one colour, twice as wide as high."""
    return saved(Image.new("RGB", (width, height), colour))


def saved(image: Any) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def framed(colour: Sequence[int] = GREEN) -> Any:
    """What `png` becomes in SIDE x SIDE: 7 rows of grey above and below. Height x width x colours."""
    made = np.full((SIDE, SIDE, 3), 128.0)
    made[7:21] = colour
    return made


def by_hand(pixels: Any, mean: Sequence[float] = (0, 0, 0), deviation: Sequence[float] = (1, 1, 1)) -> Any:
    """Tokens x WIDTH of numbers, height x width x colours: each patch times the kernel."""
    scaled = (pixels - np.array(mean)) / np.array(deviation)
    count = SIDE // PATCH
    rows = [
        [float((scaled[y : y + PATCH, x : x + PATCH].transpose(2, 0, 1) * one).sum()) for one in KERNEL]
        for y in range(0, count * PATCH, PATCH)
        for x in range(0, count * PATCH, PATCH)
    ]
    return np.array(rows)


def opened(path: Path, *, size: str = "", platform: str = "RK3588") -> Encoder:
    return Encoder(path, folders=[path.parent], platform=platform, size=size)


def plan(folder: Path) -> Plan:
    match = FormatMatch(format="rkllm", entry="model.rkllm", files=("model.rkllm",), evidence=Evidence.NAME, why="")
    return Plan(
        plugin="rkllm",
        backend="rkllm",
        model="m",
        path=str(folder),
        match=match,
        metadata=Metadata(),
        settings=Settings(),
    )


def say(folder: Path, name: str, **content: object) -> None:
    (folder / name).write_text(json.dumps(content), "utf-8")


def test_pictures_become_embeddings_as_by_hand(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    colours = (GREEN, (250, 0, 99))
    found = encoder.encode([png(colour) for colour in colours])
    assert (found.count, found.tokens, found.width, found.height) == (2, TOKENS, SIDE, SIDE)
    assert (found.embeddings.dtype, found.embeddings.shape) == (np.float32, (2, TOKENS, WIDTH))
    assert found.embeddings.flags.c_contiguous
    for colour, rows in zip(colours, found.embeddings, strict=True):
        np.testing.assert_allclose(rows, by_hand(framed(colour) / 255, *CLIP), atol=2e-4)


def test_the_image_processors_file_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx", shape=(1, SIDE, SIDE, 3))
    say(tmp_path, "preprocessor_config.json", image_mean=[0.5] * 3, image_std=[0.25] * 3, rescale_factor=0.01)
    rows = opened(path).encode([png()]).embeddings[0]
    np.testing.assert_allclose(rows, by_hand(framed() * 0.01, [0.5] * 3, [0.25] * 3), atol=2e-4)


def test_its_steps_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx")
    processor = {"do_rescale": False, "do_normalize": False}
    say(tmp_path, "processor_config.json", image_processor=processor)
    np.testing.assert_allclose(opened(path).encode([png()]).embeddings[0], by_hand(framed()), rtol=1e-4, atol=0.05)


def test_whole_numbers_are_not_normalized(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx", shape=(1, SIDE, SIDE, 3), dtype="U8")
    np.testing.assert_allclose(opened(path).encode([png()]).embeddings[0], by_hand(framed()), rtol=1e-4, atol=0.05)


def test_half_precision(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx", dtype="F16")
    found = opened(path).encode([png()]).embeddings
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], by_hand(framed() / 255, *CLIP), atol=0.2)


def test_upright_pictures_are_not_turned_and_not_mirrored(tmp_path: Path) -> None:
    image = Image.new("RGB", (SIDE, SIDE), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, PATCH, PATCH))
    image.paste((0, 0, 255), (PATCH, 0, SIDE, PATCH))
    rows = opened(write(tmp_path / "vision_encoder.onnx")).encode([saved(image)]).embeddings[0]
    np.testing.assert_allclose(rows, by_hand(np.asarray(image) / 255, *CLIP), atol=2e-4)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_the_output_may_have_a_batch_and_may_not_tell_its_size(tmp_path: Path, flat: bool, told: bool) -> None:
    shape: Shape = (TOKENS, WIDTH) if flat else (1, TOKENS, WIDTH)
    given = shape if told else tuple(f"side_{n}" for n in range(len(shape)))
    encoder = opened(write(tmp_path / "vision_encoder.onnx", flat=flat, given=given))
    assert encoder.tokens_per_picture == TOKENS
    np.testing.assert_allclose(encoder.encode([png()]).embeddings[0], by_hand(framed() / 255, *CLIP), atol=2e-4)


ANY: Shape = ("batch", 3, "height", "width")


def test_a_size_that_the_graph_leaves_open(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx", shape=ANY, given=("batch", "tokens", WIDTH))
    assert opened(path, size="56x28").size == (56, 28)
    assert opened(path, size="56x28").tokens_per_picture == 8
    with pytest.raises(Unsupported, match="does not say which size") as caught:
        opened(path).open()
    assert "vision_size" in caught.value.hint
    say(tmp_path, "config.json", vision_config={"image_size": 42})
    assert opened(path).size == (42, 42)
    say(tmp_path, "preprocessor_config.json", size={"shortest_edge": 3136, "longest_edge": 9000})
    assert opened(path).size == (42, 42)
    say(tmp_path, "preprocessor_config.json", size={"height": SIDE, "width": 2 * SIDE})
    assert opened(path).size == (2 * SIDE, SIDE)
    assert opened(path, size="14").size == (14, 14)


def test_a_size_that_is_not_the_graphs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx")
    assert opened(path, size="28").size == (SIDE, SIDE)
    with pytest.raises(Invalid, match=r"vision_size is 56x28; .* takes 28 x 28"):
        opened(path, size="56x28").open()


@pytest.mark.parametrize("size", ["x", "0", "28x", "28x28x28", "5000", "-3", "28.5", "²"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    with pytest.raises(Invalid, match="vision_size"):
        opened(write(tmp_path / "vision_encoder.onnx"), size=size)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"outputs": 3}, r"3 outputs.*DeepStack"),
        ({"shape": (2, 3, SIDE, SIDE)}, "takes 2 x 3 x 28 x 28 of float32"),
        ({"tail": "Shape", "given": (3,)}, "int64|outputs|tokens x width"),
    ],
)
def test_what_is_no_encoder_of_one_picture_is_refused(tmp_path: Path, said: dict[str, Any], match: str) -> None:
    with pytest.raises((Unsupported, LoadFailed), match=match):
        opened(write(tmp_path / "vision_encoder.onnx", **said)).open()


def test_patches_that_were_cut_before_are_refused(tmp_path: Path) -> None:
    graph = Graph()
    rows = graph.input("pixel_values", "F32", ("patches", 1176))
    graph.input("image_grid_thw", "I64", ("images", 3))
    graph.node("Identity", rows, called="out")
    graph.output("out", "F32", ("patches", 1176))
    with pytest.raises(Unsupported, match=r"2 inputs \(pixel_values, image_grid_thw\)"):
        opened(write_onnx(tmp_path / "vision_encoder.onnx", graph)).open()
    alone = Graph()
    alone.node("Identity", alone.input("pixel_values", "F32", ("patches", 1176)), called="out")
    alone.output("out", "F32", ("patches", 1176))
    with pytest.raises(Unsupported, match="takes any x 1176 of float32"):
        opened(write_onnx(tmp_path / "vision_encoder.onnx", alone)).open()


def test_embeddings_of_another_models_width_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "vision_encoder.onnx")
    say(tmp_path, "config.json", text_config={"hidden_size": WIDTH})
    assert opened(path).tokens_per_picture == TOKENS
    say(tmp_path, "config.json", hidden_size=1536)
    with pytest.raises(LoadFailed, match=r"embeddings of 8 numbers; the model's have 1536"):
        opened(path).open()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx", tail="Log"))
    with pytest.raises(LoadFailed, match="picture 1 that are not finite"):
        encoder.encode([png()])


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"image_mean": [1, 2]}, "image_mean"),
        ({"image_std": [0, 1, 1]}, "none of them 0"),
        ({"rescale_factor": -1}, "rescale_factor"),
        ({"resample": 9}, "resample"),
    ],
)
def test_a_processors_file_with_other_values_is_refused(tmp_path: Path, said: dict[str, Any], match: str) -> None:
    path = write(tmp_path / "vision_encoder.onnx")
    say(tmp_path, "preprocessor_config.json", **said)
    with pytest.raises(LoadFailed, match=match):
        opened(path).open()


def test_what_is_no_picture_is_named_by_its_place(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    with pytest.raises(Invalid, match="picture 2 is no picture"):
        encoder.encode([png(), b"no picture at all"])
    with pytest.raises(Invalid, match="there is no picture"):
        encoder.encode([])


def test_a_bomb_is_refused_and_a_strip_never_becomes_a_square(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    bomb = bytearray(png())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2  # the header's width and height
    with pytest.raises(Invalid, match="picture 1"):
        encoder.encode([bytes(bomb)])
    strip = encoder.encode([png(width=20_000, height=100)]).embeddings[0]  # its square would take 1.2 GB
    pixels = np.full((SIDE, SIDE, 3), 128.0)
    pixels[13] = GREEN
    np.testing.assert_allclose(strip, by_hand(pixels / 255, *CLIP), atol=2e-4)


def test_an_encoder_that_was_found_is_opened_with_the_first_picture(tmp_path: Path) -> None:
    (tmp_path / "vision_encoder.onnx").write_bytes(b"no graph")
    found = vision.encoder(plan(tmp_path), Options(), "RK3588")
    assert found is not None
    with pytest.raises(LoadFailed, match=r"onnxruntime cannot load the vision encoder vision_encoder\.onnx"):
        found.encode([png()])
    with pytest.raises(LoadFailed, match="onnxruntime cannot load"):
        vision.encoder(plan(tmp_path), Options(vision=str(tmp_path / "vision_encoder.onnx")), "RK3588")
    write(tmp_path / "vision_encoder.onnx")
    assert found.encode([png()]).count == 1


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("absent.onnx", "is no file"),
        ("vision.gguf", "neither a .rknn nor a .onnx"),
        ("vision_rk3576.rknn", "made for another platform, as its name says; this board is RK3588"),
    ],
)
def test_a_path_that_cannot_be_an_encoder_is_refused(tmp_path: Path, name: str, match: str) -> None:
    if name != "absent.onnx":
        (tmp_path / name).write_bytes(b"RKNN")
    with pytest.raises(Invalid, match=match):
        vision.encoder(plan(tmp_path), Options(vision=str(tmp_path / name)), "RK3588")


def test_pictures_that_do_not_fit_are_refused_before(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    encoder.check(2, 7, context=16)
    with pytest.raises(ContextExceeded, match="2 pictures of 4 tokens each and 8 tokens of text") as caught:
        encoder.check(2, 8, context=16)
    assert caught.value.details == {"prompt_tokens": 16, "context": 16}


def test_many_threads_get_their_own_answers(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    colours = [(n * 20, 255 - n * 20, n) for n in range(8)]
    found: dict[int, Any] = {}

    def ask(place: int) -> None:
        found[place] = encoder.encode([png(colours[place])]).embeddings[0]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, colour in enumerate(colours):
        np.testing.assert_allclose(found[place], by_hand(framed(colour) / 255, *CLIP), atol=2e-4)


def test_a_picture_that_was_seen_is_not_encoded_again(tmp_path: Path, lite: type[StandInRKNNLite]) -> None:
    encoder = npu(tmp_path)
    first = encoder.encode([png(), png((1, 2, 3)), png()]).embeddings
    again = encoder.encode([png((1, 2, 3)), png()]).embeddings
    assert sum(call[0] == "inference" for call in lite.calls) == 3  # one of them measured the tokens of a picture
    np.testing.assert_array_equal(again, first[[1, 2]])
    encoder.encode([png((0, 0, n)) for n in range(KEPT)])
    encoder.encode([png()])
    assert sum(call[0] == "inference" for call in lite.calls) == 3 + KEPT + 1


def test_one_picture_at_a_time_is_on_the_npu(tmp_path: Path, lite: type[StandInRKNNLite]) -> None:
    encoder = npu(tmp_path)
    encoder.open()
    free: list[bool] = []

    def looked(self: StandInRKNNLite, inputs: list[Any]) -> list[Any]:
        other = threading.Thread(target=lambda: free.append(encoder._lock.acquire(blocking=False)))
        other.start()
        other.join()
        return [np.zeros((TOKENS, WIDTH), np.float32)]

    lite.inference = looked  # type: ignore[method-assign, assignment]
    encoder.encode([png()])
    assert free == [False]


def test_closing_twice_and_opening_again(tmp_path: Path) -> None:
    encoder = opened(write(tmp_path / "vision_encoder.onnx"))
    encoder.close()
    encoder.open()
    encoder.close()
    encoder.close()
    assert encoder.tokens_per_picture == TOKENS


def test_marks_go_with_the_pictures(tmp_path: Path) -> None:
    write(tmp_path / "vision.onnx")
    say(tmp_path, "tokenizer_config.json", start_image_token="<img>", end_image_token="</img>", image_token="<i>")
    encoder = vision.encoder(plan(tmp_path), vision.marked(plan(tmp_path), Options(image_end="<end>")))
    assert encoder is not None
    found = encoder.encode([png()])
    assert (found.start, found.end, found.content) == ("<img>", "<end>", "<i>")


def test_an_absent_engine_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineMissing) as caught:
        opened(write(tmp_path / "vision_encoder.onnx")).open()
    assert 'pip install "anyform-rkllm[vision]"' in caught.value.hint


@pytest.mark.skipif(importlib.util.find_spec("rknnlite") is not None, reason="rknn-toolkit-lite2 is installed")
def test_rknnlite_is_absent_here_and_that_is_said_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="run by the NPU through rknn-toolkit-lite2") as caught:
        npu(tmp_path).open()
    assert "pip install rknn-toolkit-lite2" in caught.value.hint


class StandInRKNNLite:
    """No NPU and no rknnlite: it notes how it is called, and gives what the test wants."""

    NPU_CORE_0_1, NPU_CORE_0_1_2 = 3, 7
    calls: list[tuple[Any, ...]]
    load, init = 0, 0
    answer: Any = "rows"

    def __init__(self, verbose: bool = False) -> None:
        self.calls.append(("made", verbose))

    def load_rknn(self, path: str) -> int:
        self.calls.append(("load_rknn", path))
        return self.load

    def init_runtime(self, **said: int) -> int:
        self.calls.append(("init_runtime", said))
        return self.init

    def inference(self, inputs: list[Any]) -> Any:
        (array,) = inputs
        self.calls.append(("inference", type(array), array.dtype.name, array.shape, array.flags.c_contiguous))
        rows = by_hand(array[0, :SIDE, :SIDE].astype(np.float64)).astype(np.float32)
        return [rows] if self.answer == "rows" else self.answer

    def release(self) -> None:
        self.calls.append(("release",))


@pytest.fixture
def lite(monkeypatch: pytest.MonkeyPatch) -> type[StandInRKNNLite]:
    """The stand-in in rknnlite's place."""
    kind = type("StandInRKNNLite", (StandInRKNNLite,), {"calls": []})
    package, api = ModuleType("rknnlite"), ModuleType("rknnlite.api")
    api.RKNNLite = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rknnlite", package)
    monkeypatch.setitem(sys.modules, "rknnlite.api", api)
    return kind


def npu(folder: Path, platform: str = "RK3588", size: str = "28") -> Encoder:
    path = folder / "qwen2_vl_vision.rknn"
    path.write_bytes(b"RKNN")
    return opened(path, size=size, platform=platform)


@pytest.mark.parametrize(
    ("platform", "cores"),
    [("RK3588", {"core_mask": 7}), ("RK3588S", {"core_mask": 7}), ("RK3576", {"core_mask": 3}), ("RV1126B", {})],
)
def test_the_npu_is_given_whole_numbers_with_colours_last(
    tmp_path: Path, lite: type[StandInRKNNLite], platform: str, cores: dict[str, int]
) -> None:
    encoder = npu(tmp_path, platform)
    found = encoder.encode([png()])
    encoder.close()
    encoder.close()
    run = ("inference", np.ndarray, "uint8", (1, SIDE, SIDE, 3), True)
    made = [("made", False), ("load_rknn", str(encoder.path)), ("init_runtime", cores)]
    assert lite.calls == [*made, run, run, ("release",)]  # the first run measures the tokens of a picture
    np.testing.assert_allclose(found.embeddings[0], by_hand(framed()), rtol=1e-4, atol=0.05)


def test_the_npus_size_is_that_of_the_models_files(tmp_path: Path, lite: type[StandInRKNNLite]) -> None:
    with pytest.raises(Unsupported, match="does not say which size"):
        npu(tmp_path, size="").open()
    assert lite.calls[-1] == ("release",)
    say(tmp_path, "preprocessor_config.json", size={"height": SIDE, "width": 42}, image_mean="ignored")
    assert npu(tmp_path, size="").size == (42, SIDE)
    assert ("inference", np.ndarray, "uint8", (1, SIDE, 42, 3), True) in lite.calls


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"load": -1}, "load_rknn answered -1"),
        ({"init": -1}, "init_runtime answered -1"),
        ({"answer": None}, "did not run the vision encoder qwen2_vl_vision.rknn on a picture of 28 x 28"),
        ({"answer": [np.zeros((4, 8), np.float32)] * 4}, "4 outputs"),
        ({"answer": [np.zeros((1, 8, 2, 2), np.float32)]}, "1x8x2x2 of float32"),
        ({"answer": [np.zeros((4, 8), np.int8)]}, "4x8 of int8"),
    ],
)
def test_what_the_npu_refuses_is_said_and_it_is_released(
    tmp_path: Path, lite: type[StandInRKNNLite], said: dict[str, Any], match: str
) -> None:
    for name, value in said.items():
        setattr(lite, name, value)
    with pytest.raises(Fault, match=match) as caught:
        npu(tmp_path).open()
    assert isinstance(caught.value, LoadFailed | Unsupported)
    assert lite.calls[-1] == ("release",)
    assert sum(call == ("release",) for call in lite.calls) == 1


def test_colours_keep_their_order(tmp_path: Path) -> None:
    """Red first, as Pillow and the vendor's demo after its conversion have them."""
    rows = b"".join(b"\0" + bytes((255, 0, 0)) * SIDE for _ in range(SIDE))
    red = echo_picture.png(SIDE, SIDE, rows, {})
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[..., 0] = 1
    found = opened(write(tmp_path / "vision_encoder.onnx")).encode([red]).embeddings[0]
    np.testing.assert_allclose(found, by_hand(pixels, *CLIP), atol=2e-4)


ODD = (None, True, -1, 0, 1e308, "448", [], {}, [1], [0, 0, 0], [None] * 3, {"height": "x"}, {"height": 1e9}, 10**30)
FIELDS = ("size", "crop_size", "image_mean", "image_std", "rescale_factor", "resample", "do_rescale", "do_normalize")


@pytest.mark.parametrize("field", FIELDS)
def test_any_json_beside_it_is_followed_or_refused(field: str) -> None:
    image, made = Image.new("RGB", (4, 4)), 0
    for value in ODD:
        width, height = preprocess.stated_size({field: value}, {"vision_config": value}) or (8, 8)
        try:
            how = preprocess.normalization({field: value})
        except LoadFailed as fault:
            assert field in fault.message  # noqa: PT017 - some of the values are good
            continue
        found = Recipe(width=width, height=height, dtype="float32", **how).follow(image)
        assert found.shape == (1, 8, 8, 3)
        made += 1
    assert made
