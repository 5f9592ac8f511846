"""Pictures in a chat, through a projector of random weights: what they cost, what they change, what is reused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.jobs import Chat, Generation, Message, Picture, Sampling, Sound, Text
from anyform.contract.model import LoadedModel, Stop
from anyform.testing import gguf

PICTURE_TOKENS = 4


def png(red: int, green: int, blue: int, size: int = 28) -> bytes:
    rows = b"".join(b"\0" + bytes((red, green, blue)) * size for _ in range(size))

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


RED, BLUE = png(255, 0, 0), png(0, 0, 255)


def chat(*parts: str | bytes, **generation: Any) -> Chat:
    generation.setdefault("max_tokens", 16)
    said = tuple(Picture(data=part) if isinstance(part, bytes) else Text(text=part) for part in parts)
    made = Generation(sampling=Sampling(temperature=0.0), ignore_eos=True, **generation)
    return Chat(messages=(Message(role="user", parts=said),), generation=made)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, kit: Any) -> Iterator[LoadedModel]:
    from anyform_gguf_llamacpp import backend

    folder = tmp_path_factory.mktemp("seeing")
    path = gguf.write_llama(folder / "tiny.gguf", chat_template=gguf.CHATML, context=512)
    gguf.write_mmproj(folder / "mmproj-tiny.gguf")
    model = backend.load(kit.plan(path, files=("tiny.gguf", "mmproj-tiny.gguf")))
    yield model
    model.close()


def test_a_picture_is_part_of_the_prompt(seeing: LoadedModel, kit: Any) -> None:
    plain = kit.ask(seeing, chat("what is ", " this"))
    red = kit.ask(seeing, chat("what is ", RED, " this"))
    blue = kit.ask(seeing, chat("what is ", BLUE, " this"))
    assert red.prompt_tokens == blue.prompt_tokens
    assert 0 <= red.prompt_tokens - plain.prompt_tokens - PICTURE_TOKENS <= 2
    assert len({plain.text, red.text, blue.text}) == 3
    assert kit.ask(seeing, chat("what is ", RED, " this")).text == red.text


def test_what_was_seen_before_is_reused(seeing: LoadedModel, kit: Any) -> None:
    first = kit.ask(seeing, chat("look at the ", RED, " girl"))
    again = kit.ask(seeing, chat("look at the ", RED, " girl"))
    assert again.done.usage.cached_tokens == first.prompt_tokens - 2
    assert again.text == first.text
    other = kit.ask(seeing, chat("look at the ", BLUE, " girl"))
    assert 0 < other.done.usage.cached_tokens < first.done.usage.prompt_tokens - PICTURE_TOKENS - 2


def test_pictures_and_texts_run_together(seeing: LoadedModel, kit: Any) -> None:
    jobs = [
        chat("a ", RED, " b", max_tokens=40),
        chat("once upon", max_tokens=40),
        chat(BLUE, RED, max_tokens=40),
        chat("little ", BLUE, " girl ", RED, " play", max_tokens=40),
    ]
    alone = [kit.ask(seeing, job).text for job in jobs]
    together = kit.together([lambda job=job: kit.ask(seeing, job).text for job in jobs * 3])
    assert together == alone * 3


def test_several_answers_to_one_picture(seeing: LoadedModel, kit: Any) -> None:
    answered = kit.ask(seeing, chat("a ", RED, " b", n=3))
    assert answered.text_of(0) == answered.text_of(1) == answered.text_of(2)


def test_what_is_no_picture_is_refused(seeing: LoadedModel, kit: Any) -> None:
    for data in (b"", b"no picture", RED[:40]):
        with pytest.raises(Invalid, match="picture 1"):
            seeing.generate(chat(RED, data), Stop())
    sound = Chat(messages=(Message(role="user", parts=(Sound(data=b"RIFF"),)),))
    with pytest.raises(Unsupported, match="sound"):
        seeing.generate(sound, Stop())
    with pytest.raises(ContextExceeded):
        seeing.generate(chat(*[RED] * 200), Stop())
    assert kit.ask(seeing, chat("once")).done.usage.completion_tokens == 16


def test_text_that_looks_like_a_marker_is_text(seeing: LoadedModel, kit: Any) -> None:
    assert kit.ask(seeing, chat("<__media__> and ", RED)).done.usage.completion_tokens == 16


def test_a_projector_is_not_mistaken_for_the_model(tmp_path: Path, engine: Any, kit: Any) -> None:
    path = gguf.write_llama(tmp_path / "tiny.gguf", embedding=32, heads=2, chat_template=gguf.CHATML)
    gguf.write_mmproj(tmp_path / "mmproj-tiny.gguf", embedding=64)
    with pytest.raises(Exception, match="projector"):
        engine.load(path, files=("tiny.gguf", "mmproj-tiny.gguf"))
