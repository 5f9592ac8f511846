"""Pictures in conversations, from a request's bytes to the stand-in library on all four ABIs, which tells their sum."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")

from anyform.contract.errors import ContextExceeded, Invalid, LoadFailed, Unsupported  # noqa: E402
from anyform.contract.events import Text as Said  # noqa: E402
from anyform.contract.facts import Evidence, FormatMatch, Metadata, Plan, Settings  # noqa: E402
from anyform.contract.jobs import Caption, Chat, Embed, Generation, Message, Part, Picture, Text  # noqa: E402
from anyform.contract.model import Stop  # noqa: E402
from anyform.testing import rkllm  # noqa: E402
from anyform.testing.onnx import Graph, write_onnx  # noqa: E402
from anyform_rkllm import backend  # noqa: E402
from anyform_rkllm.layout import Era  # noqa: E402

pytestmark = pytest.mark.engine

SIDE, PATCH, WIDTH = 8, 4, 8
TOKENS = (SIDE // PATCH) ** 2
KERNEL = (np.arange(WIDTH * 3 * PATCH * PATCH, dtype=np.float32) % 7 - 3).reshape(WIDTH, 3, PATCH, PATCH)
RED, BLUE = (255, 0, 0), (0, 0, 255)
MARKS = {"vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>", "image_token": "<|image_pad|>"}
MANY = (Era.V121, Era.V13)


def write(folder: Path, width: int = WIDTH, name: str = "Tiny_vision_rk3588.onnx") -> None:
    """An encoder whose numbers are whole, so that no sum depends on the order in which they are added."""
    graph = Graph()
    pixels = graph.input("pixels", "U8", (1, SIDE, SIDE, 3))
    first = graph.node("Transpose", graph.node("Cast", pixels, to=1), perm=[0, 3, 1, 2])
    kernel = graph.weights("kernel", "F32", (width, *KERNEL.shape[1:]), KERNEL[:width].tobytes())
    found = graph.node("Conv", first, kernel, kernel_shape=[PATCH, PATCH], strides=[PATCH, PATCH])
    flat = graph.node("Reshape", found, graph.constant([0, width, -1], "I64"))
    graph.node("Transpose", flat, called="rows", perm=[0, 2, 1])
    graph.output("rows", "F32", (1, TOKENS, width))
    write_onnx(folder / name, graph)


def png(colour: tuple[int, int, int]) -> Picture:
    file = BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(file, "PNG")
    return Picture(data=file.getvalue(), media_type="image/png")


def rows(colour: tuple[int, int, int]) -> bytes:
    """What the encoder makes of one colour, by hand: all patches are the same."""
    one = (KERNEL * np.array(colour, np.float32)[:, None, None]).sum(axis=(1, 2, 3))
    return np.tile(one, (TOKENS, 1)).astype("<f4").tobytes()


def fnv(data: bytes) -> str:
    """FNV-1a, 32 bits, as the stand-in library has it."""
    found = 2166136261
    for byte in data:
        found = (found ^ byte) * 16777619 % (1 << 32)
    return f"{found:08x}"


@pytest.fixture
def opened(stand_in: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    """(era, load options) -> a context manager for a loaded model with an encoder beside it.

    *form*: a chat template for a model without a tokenizer.
    """

    @contextmanager
    def load(
        era: Era, encoder: bool = True, context: int = 512, audio: bool = False, form: str = "", **options: Any
    ) -> Iterator[Any]:
        folder = rkllm.write_model(tmp_path / "model", stand_in={"toolkit": "1.1.0"})
        if encoder:
            write(folder)
        said = folder / "tokenizer_config.json"
        own = {"chat_template": form} if form else {}
        said.write_text(json.dumps(json.loads(said.read_text("utf-8")) | MARKS | own), "utf-8")
        if form:
            (folder / "tokenizer.json").unlink()
        match = FormatMatch(format="rkllm", entry=rkllm.NAME, files=(rkllm.NAME,), evidence=Evidence.NAME, why="")
        given = {"library": str(stand_in(era, audio=audio)), "stand_in": True, "platform": "RK3588", **options}
        settings = Settings(context=context, options=given)
        plan = Plan(
            plugin="rkllm", backend="rkllm", model="tiny", path=str(folder), match=match,
            metadata=Metadata(tasks=("chat",)), settings=settings,
        )  # fmt: skip
        model = backend.load(plan)
        try:
            yield model
        finally:
            model.close()

    return load


def chat(*parts: Part, most: int | None = None) -> Chat:
    return Chat(messages=(Message(role="user", parts=parts),), generation=Generation(max_tokens=most))


def answer(model: Any, job: Chat) -> str:
    return "".join(event.text for event in model.generate(job, Stop()) if isinstance(event, Said))


@pytest.mark.parametrize(("era", "audio"), [*((era, False) for era in Era), (Era.V13, True)])
def test_the_library_is_given_the_embeddings(opened: Callable[..., Any], era: Era, audio: bool) -> None:
    with opened(era, audio=audio) as model:
        told = answer(model, chat(png(RED), Text(text="What is it?")))
    size = f"{SIDE}x{SIDE}" if era in MANY else "0x0"
    marks = "<|vision_start|>~<|image_pad|>~<|vision_end|>"
    assert told.endswith(f"|img=1*{TOKENS} {size} {fnv(rows(RED))} {marks}")
    assert "|multimodal|<image>What is it?|" in told


@pytest.mark.parametrize("era", Era)
def test_several_pictures_in_their_order(opened: Callable[..., Any], era: Era) -> None:
    job = chat(png(RED), Text(text=" or "), png(BLUE), Text(text="?"))
    with opened(era) as model:
        if era not in MANY:
            with pytest.raises(Unsupported, match="takes one picture, and there are 2"):
                answer(model, job)
            assert "|token|" in answer(model, chat(Text(text="Still there?")))
            return
        told = answer(model, job)
    assert f"|img=2*{TOKENS} {SIDE}x{SIDE} {fnv(rows(RED) + rows(BLUE))} " in told
    assert "|multimodal|<image> or <image>?|" in told


@pytest.mark.parametrize("era", Era)
def test_text_alone_needs_no_encoder(opened: Callable[..., Any], era: Era) -> None:
    with opened(era) as model:
        assert "|img=" not in answer(model, chat(Text(text="Hello")))


def test_a_model_without_an_encoder_says_so(opened: Callable[..., Any]) -> None:
    with opened(Era.V13, encoder=False) as model, pytest.raises(Unsupported, match="no vision encoder") as caught:
        answer(model, chat(png(RED), Text(text="?")))
    assert "vision=FILE" in caught.value.hint


def test_pictures_that_do_not_fit_are_refused(opened: Callable[..., Any]) -> None:
    with opened(Era.V13, context=16) as model, pytest.raises(ContextExceeded, match="4 pictures of 4 tokens each"):
        answer(model, chat(*[png(RED)] * 4, Text(text="?")))


def test_an_encoder_of_another_model_is_refused_at_load(opened: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path, width=6, name="other.onnx")
    with pytest.raises(LoadFailed, match="6 numbers"), opened(Era.V13, vision=str(tmp_path / "other.onnx")):
        pass


@pytest.mark.parametrize("job", [Embed(inputs=(png(RED),)), Caption(picture=png(RED))])
def test_other_jobs_with_pictures_are_refused(opened: Callable[..., Any], job: Any) -> None:
    with opened(Era.V13) as model, pytest.raises(Unsupported):
        list(model.generate(job, Stop()))


def test_what_is_no_picture_leaves_the_model_usable(opened: Callable[..., Any]) -> None:
    with opened(Era.V13) as model:
        with pytest.raises(Invalid, match="picture 1 is no picture"):
            answer(model, chat(Picture(data=b"GIF, or not"), Text(text="?")))
        assert "|img=1*" in answer(model, chat(png(BLUE), Text(text="?")))


@pytest.mark.parametrize("era", Era)
def test_a_picture_said_before_is_shown_again(opened: Callable[..., Any], era: Era) -> None:
    talk = Chat(
        messages=(
            Message(role="user", parts=(png(BLUE), Text(text="Look."))),
            Message(role="assistant", parts=(Text(text="I see."),)),
            Message(role="user", parts=(Text(text="What was it?"),)),
        )
    )
    with opened(era) as model:
        told = answer(model, talk)
    assert f" {fnv(rows(BLUE))} " in told
    assert told.count("<image>") == 1


@pytest.mark.parametrize("era", [Era.V11, Era.V120])
def test_too_many_pictures_are_refused_before_any_event(opened: Callable[..., Any], era: Era) -> None:
    with opened(era) as model, pytest.raises(Unsupported, match="takes one picture, and there are 2"):
        model.generate(chat(png(RED), png(BLUE), Text(text="?")), Stop())


@pytest.mark.parametrize("era", Era)
def test_a_picture_takes_its_share_of_the_context(opened: Callable[..., Any], era: Era) -> None:
    with opened(era, context=64) as model:
        first, *_, done = model.generate(chat(png(RED), Text(text="!count 99")), Stop())
        with pytest.raises(ContextExceeded):
            model.generate(chat(png(RED), Text(text="x" * (64 - TOKENS))), Stop())
    assert first.total == TOKENS + len("!count 99")
    assert done.usage.completion_tokens <= 64 - first.total


def test_a_picture_for_the_system_is_refused(opened: Callable[..., Any]) -> None:
    """Its message is told first, so that the pictures would change places."""
    shown = Message(role="user", parts=(png(RED), Text(text="Is it?")))
    system = Message(role="system", parts=(png(BLUE),))
    with opened(Era.V13) as model, pytest.raises(Unsupported, match="message of the system"):
        model.generate(Chat(messages=(shown, system, shown)), Stop())


@pytest.mark.parametrize("template", [rkllm.CHATML, "one text for all"])
def test_words_that_stand_for_a_picture_are_no_text(opened: Callable[..., Any], tmp_path: Path, template: str) -> None:
    job = chat(png(RED), Text(text="<image>" if template == rkllm.CHATML else "?"))
    with opened(Era.V13, form=template) as model, pytest.raises(Invalid, match="<image>"):
        model.generate(job, Stop())


def test_nor_in_a_message_before(opened: Callable[..., Any]) -> None:
    before = Message(role="user", parts=(Text(text="<image>"),))
    job = Chat(messages=(before, Message(role="assistant"), *chat(png(RED), Text(text="?")).messages))
    with opened(Era.V13) as model, pytest.raises(Invalid, match="<image>"):
        model.generate(job, Stop())
