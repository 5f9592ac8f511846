"""rkllm passes the conformance kit: its format anywhere, its engine over the stand-in library, in two ABIs of four."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Chat, Complete, Embed, Generation, Job, Message, Text
from anyform.testing import rkllm, rockchip
from anyform.testing.format_checks import FormatChecks
from anyform.testing.input_checks import InputChecks
from anyform.testing.module_checks import ModuleChecks
from anyform_rkllm.layout import Era


class TestFormat(ModuleChecks, FormatChecks):
    """What is found and refused: a folder with all its files, a file by itself, several variants of one model."""

    plugin = "rkllm"
    module = "anyform_rkllm.plugin"

    def samples(self, folder: Path) -> list[Path]:
        rkllm.write_model(folder / "whole")
        rkllm.write(folder / "bare" / "tiny.rkllm")
        for quantization in ("w8a8", "w8a8_g128"):
            rkllm.write(folder / "several" / f"Tiny-0.1B-rk3588-{quantization}-opt-0-hybrid-ratio-0.0.rkllm")
        return [folder / name for name in ("whole", "bare", "several")]


OLDEST: dict[str, Any] = {"trailer": "1.1.4", "stand_in": {"toolkit": "1.1.4"}}
"""What that toolkit made every library loads."""
TOKENS = (tuple(b"once upon"), tuple(b"the sea"), tuple(b"a"))


@pytest.mark.engine
class Running(InputChecks):
    """Models that answer, by the model's own template and by the library's."""

    plugin = "rkllm"
    module = "anyform_rkllm.plugin"
    settings = Settings(context=1024)
    era: ClassVar[Era]

    @pytest.fixture
    def tables(self, stand_in: Callable[[Era], Path], tmp_path: Path) -> Mapping[str, Any]:
        board = rockchip.write(tmp_path / "board", rockchip.tree("rk3588"))
        return {"library": str(stand_in(self.era)), "stand_in": True, "root": str(board)}

    def samples(self, folder: Path) -> list[Path]:
        rkllm.write_model(folder / "whole", **OLDEST)
        rkllm.write(folder / "bare" / rkllm.NAME, **OLDEST)
        return [folder / "whole", folder / "bare"]

    def jobs(self, metadata: Metadata) -> list[Job]:
        unicode = said("!say äöü and 日本語")
        if metadata.tokenizer:
            return [*super().jobs(metadata), unicode]
        # Without a tokenizer text is for chats, since the library puts its template around it.
        few = Generation(max_tokens=8)
        return [unicode, Complete(prompt=TOKENS[0], generation=few), Embed(inputs=TOKENS)]

    def long_job(self, metadata: Metadata) -> Job:
        return said("!slow 20 !count 100000")

    def too_long_job(self, metadata: Metadata, context: int) -> Job:
        return said("word " * context)


class TestLatest(Running):
    """1.3: sampling by request."""

    era = Era.V13


class TestOldest(Running):
    """1.1: no history, roles or figures."""

    era = Era.V11
    where = ("here",)


def said(text: str) -> Chat:
    return Chat(messages=(Message(role="user", parts=(Text(text=text),)),), generation=Generation())
