"""Loading: what is refused and in which words, and what the options do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid, LoadFailed, OutOfMemory
from anyform.contract.facts import BackendInfo
from anyform.testing import gguf


def test_the_probe_tells_the_truth() -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    from anyform_gguf_llamacpp import backend

    found = backend.probe(BackendInfo(name="llamacpp", reads=("gguf",), tasks=("chat",)))
    assert found.engine_version.startswith(llama_cpp.__version__)
    assert found.devices[0] == "cpu"


def test_a_broken_file_is_refused_in_the_engines_words(tmp_path: Path, engine: Any) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    with pytest.raises(LoadFailed) as caught:
        engine.load(path)
    assert "broken.gguf" in caught.value.message
    assert len(caught.value.message) > 60
    with pytest.raises(LoadFailed):
        engine.load(tmp_path / "absent.gguf")


def test_a_missing_tensor_is_named(tmp_path: Path, engine: Any) -> None:
    path = gguf.write_llama(tmp_path / "m.gguf", extra={"llama.block_count": 3})
    with pytest.raises(LoadFailed, match=r"blk\.2"):
        engine.load(path)


def test_a_context_that_cannot_be_allocated_is_out_of_memory(
    tiny: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llama_cpp import llama_cpp as llama

    from anyform_gguf_llamacpp import backend

    def refuse(*_: Any) -> None:
        backend._LOG._take(4, b"alloc_tensor_range: failed to allocate CPU buffer of size 99\n", None)

    monkeypatch.setattr(llama, "llama_init_from_model", refuse)
    with pytest.raises(OutOfMemory, match="buffer of size 99"):
        engine.load(tiny)


def test_settings_are_checked(tiny: Path, engine: Any) -> None:
    with pytest.raises(Invalid, match="parallel"):
        engine.load(tiny, parallel=100_000)
    with pytest.raises(Invalid, match="context"):
        engine.load(tiny, context=0)
    with pytest.raises(Invalid, match="context"):
        engine.load(tiny, context=2**30, parallel=8)
    with pytest.raises(Invalid, match="speed"):
        engine.load(tiny, speed=3)
    with pytest.raises(LoadFailed, match="cuda:7"):
        engine.load(tiny, device="cuda:7")


def test_what_the_plan_leaves_open_is_filled(tiny: Path, engine: Any, kit: Any) -> None:
    model = engine.load(tiny, context=None, parallel=None)
    assert model.parallel == 4
    full = kit.complete(model, "once", max_tokens=None, ignore_eos=True)
    assert full.done.usage.prompt_tokens + full.done.usage.completion_tokens == 512


@pytest.mark.parametrize(
    "options",
    [
        {"use_extra_bufts": False},
        {"mmap": False},
        {"threads": 2, "threads_batch": 1},
        {"batch": 64, "ubatch": 32},
        {"flash_attention": True},
        {"flash_attention": True, "cache_type_k": "f32", "cache_type_v": "f32"},
        {"rope_freq_base": 10000, "rope_freq_scale": 1.0},
        {"exact": False},
        {"offload_kqv": False, "swa_full": True},
    ],
)
def test_options_leave_the_text_as_it_was(decoder: Path, engine: Any, kit: Any, options: dict[str, Any]) -> None:
    model = engine.load(decoder, context=1024, **options)
    answered = kit.complete(model, kit.question("How do I serve a folder of models?"))
    assert "anyform serve --models DIR" in answered.text
    before = (kit.question("What is 2 + 3?") + "2 + 3 = 5<|im_end|>\n") * 8
    assert "anyform list" in kit.complete(model, before + kit.question("How do I list models?")).text


def test_split_files_are_loaded_by_their_first(sample: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform_samples.gguf import parts

    first, *_ = gguf.write_shards(tmp_path, "parts-Q8_0", 3, *parts(sample.parent, "Q8_0"))
    asked = kit.question("How do I list models?")
    answered = kit.complete(engine.load(first), asked).text
    assert "anyform list" in answered
    assert answered == kit.complete(engine.load(sample), asked).text


def test_an_adapter_changes_the_model(tiny: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    lora = gguf.write_lora(tmp_path / "lora.gguf")
    plain = kit.complete(engine.load(tiny), "once upon", max_tokens=20).text
    none = kit.complete(engine.load(tiny, lora=[{"path": str(lora), "scale": 0.0}]), "once upon", max_tokens=20).text
    strong = kit.complete(engine.load(tiny, lora=[{"path": str(lora), "scale": 9.0}]), "once upon", max_tokens=20).text
    assert none == plain
    assert strong != plain
    with pytest.raises(LoadFailed, match="LoRA"):
        engine.load(tiny, lora=str(tiny))


def test_a_projector_that_is_none_is_refused_and_can_be_left_out(tiny: Path, engine: Any, kit: Any) -> None:
    broken = gguf.write_gguf(tiny.parent / "mmproj-broken.gguf", {"general.architecture": "clip"})
    with pytest.raises(LoadFailed, match="projector"):
        engine.load(tiny, files=(tiny.name, broken.name))
    model = engine.load(tiny, files=(tiny.name, broken.name), mmproj="none")
    assert kit.complete(model, "once", max_tokens=2).done.usage.completion_tokens == 2


def test_the_files_own_sampling_is_the_default(tmp_path: Path, engine: Any, kit: Any) -> None:
    from anyform.contract.jobs import Sampling

    greedy = gguf.write_llama(tmp_path / "g.gguf", extra={"general.sampling.temp": 0.0})
    model = engine.load(greedy)
    texts = {kit.complete(model, "once", sampling=Sampling(), max_tokens=12).text for _ in range(3)}
    assert texts == {kit.complete(model, "once", max_tokens=12).text}


def test_an_interpreter_that_ends_without_closing_does_not_crash(tiny: Path) -> None:
    pytest.importorskip("llama_cpp")
    code = (
        "import sys; from pathlib import Path\n"
        "from anyform.contract.facts import *; from anyform.contract.jobs import *\n"
        "from anyform.contract.model import Stop; from anyform_gguf_llamacpp import backend\n"
        "path = Path(sys.argv[1])\n"
        "match = FormatMatch(format='gguf', entry=path.name, files=(path.name,), evidence=Evidence.MAGIC, why='')\n"
        "plan = Plan(plugin='p', backend='b', model='m', path=str(path.parent), match=match,\n"
        "            metadata=Metadata(tasks=('complete',)), settings=Settings(context=512))\n"
        "model = backend.load(plan)\n"
        "events = model.generate(Complete(prompt='once', generation=Generation(ignore_eos=True)), Stop())\n"
        "next(events); next(events)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(tiny)], capture_output=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
