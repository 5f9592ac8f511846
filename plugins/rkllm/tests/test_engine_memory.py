"""What a run was given is kept while the library may read it, and let go after."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.testing import rkllm
from anyform_rkllm import engine as engines
from anyform_rkllm.backend import open_library
from anyform_rkllm.engine import Run
from anyform_rkllm.layout import Era
from anyform_rkllm.options import read

pytestmark = pytest.mark.engine


class Heard:
    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def __call__(self, text: bytes, token: int) -> bool:
        if not self.texts:
            gc.collect()  # all that nobody holds goes while the library still runs
        self.texts.append(text)
        return True


@pytest.mark.parametrize("era", list(Era), ids=lambda era: era.name)
def test_a_run_holds_its_arguments_and_no_longer(stand_in: Callable[..., Path], era: Era, tmp_path: Path) -> None:
    model = rkllm.write(tmp_path / "m.rkllm", stand_in={"toolkit": "1.1.4"})
    engine = engines.start(open_library(stand_in(era), stand_in=True), model, options=read({"base_domain_id": 0}))
    heard = Heard()
    end = engine.run(Run(tokens=[300 + number for number in range(20)], sampling={"top_k": 5}), heard)
    assert end.finished
    assert " ".join(str(300 + number) for number in range(20)) in b"".join(heard.texts).decode()
    gone = weakref.ref(heard)
    gc.disable()
    try:
        del heard
        engine.run(Run(text="!count 1"), lambda text, token: True)
        assert gone() is None  # no cycle holds it
    finally:
        gc.enable()
    engine.close()
