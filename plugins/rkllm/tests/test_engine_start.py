"""A model is started: what the library is told, what it says, and why it may refuse."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, Fault, Invalid, LoadFailed, Unsupported
from anyform.testing import rkllm
from anyform_rkllm import engine as engines
from anyform_rkllm.backend import open_library
from anyform_rkllm.board import BOARDS
from anyform_rkllm.engine import Engine, Limits, Run
from anyform_rkllm.initlog import ContextLimit, OldRuntime, WrongPlatform
from anyform_rkllm.layout import Era
from anyform_rkllm.options import read

pytestmark = pytest.mark.engine

FACTS = {"toolkit": "1.1.4", "context": 4096}
VERSIONS = ("1.1.4", "1.2.0", "1.2.3", "1.3.0")


@pytest.fixture(params=list(Era), ids=lambda era: era.name)
def era(request: pytest.FixtureRequest) -> Era:
    return Era(request.param)


class Starter:
    """Starts models of one ABI, and closes them in the end."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.binding, self._folder = open_library(library, stand_in=True), folder
        self._made = list[Engine]()

    def __call__(
        self, facts: dict[str, Any] | None = None, context: int | None = None, board: str = "", **more: Any
    ) -> Engine:
        model = rkllm.write(self._folder / "m.rkllm", stand_in={**FACTS, **(facts or {})})
        options = read({"base_domain_id": 0, **more})
        made = engines.start(self.binding, model, context=context, board=BOARDS.get(board), options=options)
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


@pytest.fixture
def started(stand_in: Callable[..., Path], era: Era, tmp_path: Path) -> Any:
    starter = Starter(stand_in(era), tmp_path)
    yield starter
    starter.close()


def said(engine: Engine, **run: Any) -> str:
    texts = list[bytes]()
    assert engine.run(Run(**run), lambda text, token: texts.append(text) or True).finished  # type: ignore[func-returns-value]
    return b"".join(texts).decode()


def told(printed: str) -> dict[str, str]:
    """What the stand-in says that it was started with."""
    return dict(re.findall(r"(\w+)=(\S*)", printed))


def test_the_model_says_what_it_is(started: Starter, era: Era) -> None:
    assert started().limits == Limits(
        runtime=VERSIONS[era],
        driver="0.9.8",
        platform="RK3588",
        toolkit="1.1.4",
        context=4096,
        cores=3,
        target="RK3588",
        dtype="W8A8",
    )


def test_the_library_is_told_the_options(started: Starter, era: Era, capfd: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 70, "base_domain_id": 3, "skip_special_token": False}
    if era >= Era.V120:
        options |= {"embed_flash": True, "n_keep": 5}
    if era >= Era.V13:
        options["ignore_eos_token"] = True
    else:
        options |= {"image_start": "<a>", "image_end": "<b>", "image_content": "<c>"}
    started(context=1024, board="RK3588", **options)
    found = told(capfd.readouterr().err)
    expected = {"max_context_len": "1024", "max_new_tokens": "70", "skip_special_token": "0", "is_async": "0"}
    expected["base_domain_id"] = "3"
    if era >= Era.V120:
        expected |= {"n_keep": "5", "embed_flash": "1", "enabled_cpus_num": "4", "enabled_cpus_mask": "0xf0"}
    if era >= Era.V121:
        expected["n_batch"] = "1"
    if era >= Era.V13:
        expected["ignore_eos_token"] = "1"
    else:
        expected |= {"img_start": "<a>", "img_end": "<b>", "img_content": "<c>"}
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("option", "value", "first"),
    [
        ("cpus", "0xF0", Era.V120),
        ("embed_flash", True, Era.V120),
        ("n_keep", 1, Era.V120),
        ("ignore_eos_token", True, Era.V13),
    ],
)
def test_what_an_abi_cannot_be_told_is_refused(started: Starter, era: Era, option: str, value: Any, first: Era) -> None:
    if era >= first:
        assert started(**{option: value}).limits.context == 4096
        return
    with pytest.raises(Unsupported, match=option):
        started(**{option: value})


def test_the_context_is_what_was_asked_for_or_the_model_s_own(started: Starter) -> None:
    assert started(context=512).context == 512
    assert started().context == 4096
    assert started({"context": 2048}).context == 2048  # less than is usual, and nobody asked
    assert started({"context": 16384}).context == 4096


def test_a_context_over_the_model_s_own_is_refused_with_both_numbers(started: Starter) -> None:
    with pytest.raises(ContextLimit, match=r"context of 16384, .* at most 4096. Use --context 4096") as caught:
        started(context=16384)
    assert (caught.value.details["context"], caught.value.details["limit"]) == (16384, 4096)


@pytest.mark.parametrize("context", [-1, 2**31, 2**32 + 512])
def test_a_context_that_the_library_s_field_does_not_hold_is_refused(started: Starter, context: int) -> None:
    with pytest.raises(Invalid, match=f"context is {context}"):
        started(context=context)


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        ({"platform": "RK3576"}, WrongPlatform, "and this is RK3588"),
        ({"toolkit": "1.9.9"}, OldRuntime, "newer"),
        ({"fail": 1}, LoadFailed, "rkllm_init returned -1"),
        ({"fail": 1, "quiet": 1}, LoadFailed, "said nothing"),
    ],
)
def test_what_the_library_refuses_is_told_in_its_words(
    started: Starter, facts: dict[str, Any], kind: type[Fault], words: str
) -> None:
    with pytest.raises(kind, match=words):
        started(facts)
    assert said(started(), text="!count 2") == "1 2"  # the library can still be used


def test_a_file_that_is_no_model_is_refused(started: Starter, tmp_path: Path) -> None:
    bad = tmp_path / "bad.rkllm"
    bad.write_bytes(b"no model")
    for path in (bad, tmp_path / "missing.rkllm"):
        with pytest.raises(LoadFailed, match="invalid rkllm model!"):
            engines.start(started.binding, path, options=read({"base_domain_id": 0}))


def test_a_silent_library_starts_too(started: Starter) -> None:
    engine = started({"quiet": 1}, context=100)
    assert (engine.limits, engine.context, engine.notes) == (Limits(), 100, ())


def test_a_version_other_than_its_file_s_is_said(started: Starter, era: Era, caplog: pytest.LogCaptureFixture) -> None:
    model = rkllm.write(Path(tempfile.mkdtemp()) / "m.rkllm", stand_in=FACTS)
    with caplog.at_level(logging.WARNING, "anyform"):
        engine = engines.start(started.binding, model, options=read({"base_domain_id": 0}), version="1.0.0")
    engine.close()
    assert engine.notes == (f"librkllmrt.so says that it is {VERSIONS[era]}, and its file says 1.0.0",)
    assert engine.notes[0] in caplog.text


def test_what_is_printed_meanwhile_goes_where_it_was_going(started: Starter, capfd: pytest.CaptureFixture[str]) -> None:
    stop, ours = threading.Event(), list[int]()

    def print_on() -> None:
        while not stop.is_set() or not ours:
            ours.append(os.write(1, b"ours\n"))
            os.write(2, b"error of ours\n")

    other = threading.Thread(target=print_on)
    other.start()
    for _ in range(3):
        started()
    with pytest.raises(LoadFailed):
        started({"fail": 1})
    stop.set()
    other.join()
    os.write(1, b"after")
    found = capfd.readouterr()
    assert found.out == "ours\n" * len(ours) + "after"
    assert found.err.count("error of ours\n") == len(ours)
    assert found.err.count("rkllm-runtime version") == 4
    assert found.err.count("max_context_limit") == 3


def test_each_model_gets_a_memory_domain_of_its_own(
    started: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    engines_here = [started(base_domain_id=None) for _ in range(3)]
    engines_here[1].close()
    started(base_domain_id=None)
    with pytest.raises(LoadFailed):
        started({"fail": 1}, base_domain_id=None)
    started(base_domain_id=None)  # a start that failed gave its own back
    found = re.findall(r"base_domain_id=(\d)", capfd.readouterr().err)
    assert found == ["0", "1", "2", "1", "3"]
    assert os.listdir(tmp_path / f"anyform-rkllm-{os.getuid()}")


def test_adapters_are_loaded_and_used_by_name(started: Starter, tmp_path: Path) -> None:
    file = tmp_path / "lora.rkllm"
    file.write_bytes(b"adapter")
    engine = started(loras={"polite": str(file), "rude": {"path": str(file), "scale": 0.5}}, lora="rude")
    assert "|lora=rude*0.5" in said(engine, text="a")
    assert "|lora=polite*1" in said(engine, text="a", lora="polite")


def test_an_adapter_that_the_library_refuses_is_told(started: Starter, tmp_path: Path) -> None:
    file = tmp_path / "lora.rkllm"
    file.write_bytes(b"adapter")
    options = read({"loras": {"a": str(file)}, "base_domain_id": 0})
    file.unlink()
    model = rkllm.write(tmp_path / "m.rkllm", stand_in=FACTS)
    with pytest.raises(LoadFailed, match=r"lora\.rkllm of load option loras .*failed to load lora"):
        engines.start(started.binding, model, options=options)


def test_a_prompt_cache_is_saved_by_the_first_run_and_loaded_with_the_model(started: Starter, tmp_path: Path) -> None:
    cache = tmp_path / "prompt.cache"
    engine = started(prompt_cache=cache, prompt_cache_save=True)
    assert not cache.exists()
    said(engine, text="hello")
    written = cache.read_bytes()
    said(engine, text="other")
    assert cache.read_bytes() == written
    assert b"hello" in written
    assert "|cache=hello" in said(started(prompt_cache=cache, prompt_cache_save=True), text="a")
    own = tmp_path / "own.cache"
    said(engine, text="third", cache_file=str(own))
    assert b"third" in own.read_bytes()


def test_a_prompt_cache_that_is_none_is_refused(started: Starter, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cache"
    bad.write_bytes(b"bad")
    for path in (bad, tmp_path / "missing.cache"):
        with pytest.raises(LoadFailed, match=r"of load option prompt_cache .*failed to load prompt cache"):
            started(prompt_cache=path)


def test_a_library_whose_functions_are_asked_for_before_it_was_started_is_not_harmed(started: Starter) -> None:
    assert isinstance(started.binding.destroy(None), int)
    with pytest.raises(EngineMissing):
        started({"toolkit": "9.0.0"})


def test_nothing_is_left_of_models_that_were_closed_or_never_started(started: Starter) -> None:
    def left() -> int:
        for thread in threading.enumerate():
            if thread.name.startswith("rkllm"):
                thread.join()
        return len(os.listdir("/proc/self/fd"))

    def once() -> None:
        engine = started()
        said(engine, text="!count 2")
        engine.close()
        with pytest.raises(LoadFailed):
            started({"fail": 1})

    once()
    before = left()
    for _ in range(3):
        once()
    assert left() == before


CRASH = """import faulthandler, sys
faulthandler.enable()
from anyform_rkllm import engine, options
from anyform_rkllm.backend import open_library
engine.start(open_library(sys.argv[1], True), sys.argv[2], options=options.read({"base_domain_id": 0}))
"""


def test_what_a_library_says_before_it_crashes_is_not_lost(
    stand_in: Callable[..., Path], era: Era, tmp_path: Path
) -> None:
    model = rkllm.write(tmp_path / "m.rkllm", stand_in={**FACTS, "crash": 1})
    died = subprocess.run(
        [sys.executable, "-c", CRASH, str(stand_in(era)), str(model)], capture_output=True, text=True, check=False
    )
    assert died.returncode == -signal.SIGABRT
    assert f"rkllm-runtime version: {VERSIONS[era]}, rknpu driver version: 0.9.8" in died.stderr
    assert "most recent call first" in died.stderr  # faulthandler's
