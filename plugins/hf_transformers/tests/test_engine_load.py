"""Loading: what is refused and in which words, and what the options do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid, LoadFailed, Unsupported
from anyform.contract.facts import Device
from anyform.contract.jobs import Embed

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.engine


@pytest.fixture
def copied(decoder_folder: Path, tmp_path: Path) -> Path:
    """A copy of the sample decoder, to be spoilt."""
    return Path(shutil.copytree(decoder_folder, tmp_path / "m", ignore=shutil.ignore_patterns("*.gguf")))


def write_config(folder: Path, **values: Any) -> None:
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **values}))


def test_the_probe_tells_the_truth(kit: Any) -> None:
    from anyform_hf_transformers import backend

    found = backend.probe()
    assert found.engine_version == f"{transformers.__version__} (torch {torch.__version__})"
    assert found.devices[0] == "cpu"
    assert ("cuda" in found.devices) == torch.cuda.is_available()


def test_wrong_options_are_refused(decoder_folder: Path, engine: Any) -> None:
    for option, value in (
        ("strange", 1), ("dtype", "int3"), ("attn_implementation", "flash_attention_2"), ("threads", 0),
        ("batch", "x"), ("exact", "maybe"), ("pooling", "sum"), ("trust_remote_code", 3), ("text_interval", -1),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=option):
            engine.load(decoder_folder, **{option: value})


@pytest.mark.parametrize(("name", "value"), [("context", 0), ("parallel", 0), ("parallel", 100_000)])
def test_settings_are_checked(name: str, value: int, decoder_folder: Path, engine: Any) -> None:
    with pytest.raises(Invalid, match=f"{name} is {value}"):
        engine.load(decoder_folder, **{name: value})


def test_a_device_that_torch_cannot_use_is_refused(decoder_folder: Path, kit: Any) -> None:
    from anyform_hf_transformers import backend

    plan = kit.plan(decoder_folder)
    for device in ("vulkan:0", *(() if torch.cuda.is_available() else ("cuda:0",))):
        with pytest.raises(LoadFailed, match=device):
            backend.load(replace(plan, settings=replace(plan.settings, device=device)))


def test_a_kernel_of_the_hub_is_refused(copied: Path, kit: Any) -> None:
    from anyform_hf_transformers import backend

    plan = kit.plan(copied)
    write_config(copied, attn_implementation="evil/kernel")
    with pytest.raises(Unsupported, match="'evil/kernel', which transformers would fetch"):
        backend.load(plan)


@pytest.mark.parametrize("said", ["can't allocate memory: you tried", "not enough memory: you tried"])
def test_no_main_memory_is_told_as_that(said: str) -> None:
    from anyform_hf_transformers import weights

    assert weights.out_of_memory(RuntimeError(f"[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: {said}"))
    assert not weights.out_of_memory(RuntimeError("no such file"))


def test_missing_weights_are_named(copied: Path, engine: Any) -> None:
    write_config(copied, num_hidden_layers=6)
    with pytest.raises(LoadFailed, match=r"layers\.5"):
        engine.load(copied)


def test_weights_of_another_shape_are_refused(copied: Path, engine: Any) -> None:
    write_config(copied, intermediate_size=512)
    with pytest.raises(LoadFailed, match=r"another shape.*mlp"):
        engine.load(copied)


def test_weights_that_are_not_finite_are_refused(copied: Path, engine: Any) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(copied, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight[3] = float("nan")
    model.save_pretrained(copied)
    with pytest.raises(LoadFailed, match="finite"):
        engine.load(copied)


def test_code_that_comes_with_a_model_is_not_run(copied: Path, engine: Any, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (copied / "own.py").write_text(f"open({str(mark)!r}, 'w')")
    write_config(copied, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"})
    with pytest.raises(Unsupported, match="trust_remote_code"):
        engine.load(copied, tasks=("chat",))
    assert not mark.exists()


def test_pytorch_weights_are_read(copied: Path, engine: Any, kit: Any) -> None:
    expected = kit.complete(engine.load(copied), kit.question(kit.FOLDER)).text
    weights = transformers.AutoModelForCausalLM.from_pretrained(copied, dtype=torch.float32).state_dict()
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    plan = kit.plan(copied)
    assert plan.match.format == "pytorch"
    assert kit.complete(engine.load(copied), kit.question(kit.FOLDER)).text == expected


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(copied: Path, engine: Any, tmp_path: Path) -> None:
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}))
    with pytest.raises(LoadFailed):
        engine.load(copied, tasks=("chat",))
    assert not (tmp_path / "ran").exists()


def test_numbers_are_chosen_by_file_and_cpu(encoder_folder: Path, kit: Any, tmp_path: Path) -> None:
    from anyform_hf_transformers import options, weights

    plan = kit.plan(encoder_folder)

    def chosen(stored: Any, flags: tuple[str, ...] = (), place: str = "cpu", **given: Any) -> Any:
        config = transformers.BertConfig(dtype=stored)
        cpu = Device(kind="cpu", extra={"flags": list(flags)})
        return weights.dtype(replace(plan, devices=(cpu,)), options.read(given), config, place)

    assert chosen(torch.float16) == torch.float32
    assert chosen(torch.bfloat16) == torch.float32
    assert chosen(torch.bfloat16, ("avx512_bf16",)) == torch.bfloat16
    assert chosen(torch.float16, place="cuda:0") == torch.float16
    assert chosen(torch.float32, dtype="bfloat16") == torch.bfloat16


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"exact": False}])
def test_options_change_how_and_not_what(options: dict[str, Any], decoder_folder: Path, engine: Any, kit: Any) -> None:
    model = engine.load(decoder_folder, **options)
    assert kit.COMMAND in kit.ask(model, kit.chat(kit.FOLDER)).text


def test_a_decoder_that_does_not_say_how_it_pools_needs_to_be_told(decoder_folder: Path, engine: Any, kit: Any) -> None:
    with pytest.raises(Unsupported, match="pooled"):
        engine.load(decoder_folder, tasks=("embed",))
    model = engine.load(decoder_folder, tasks=("embed",), pooling="last")
    assert kit.ask(model, Embed(inputs=("once", "upon"))).vectors.shape == (2, 256)
