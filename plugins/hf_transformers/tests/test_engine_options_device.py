"""Where a model runs, in which numbers, and how it is shared out among accelerators, on canned machines."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import EngineMissing, LoadFailed, Unsupported
from anyform.contract.facts import Device, Metadata, Settings
from anyform.testing import hardware
from anyform_hf_transformers import memory, placement

GIB = 1 << 30
FACTS = Metadata(
    tasks=("chat",), parameters=20 * GIB, weight_bytes=40 * GIB, vocab_size=128_256, context=131_072,
    extra={"layers": 40, "heads": 32, "kv_heads": 8, "key_length": 128, "value_length": 128, "embedding_length": 4096,
           "feed_forward_length": 14336, "dtype": "BF16"},
)  # fmt: skip
GPUS = tuple(device for device in hardware.TWO_GPU if device.kind == "cuda")
FREE = {device.index: device.free_bytes for device in GPUS}


def test_the_planned_accelerator_goes_first_and_the_roomiest_next() -> None:
    four = {0: 10 * GIB, 1: 40 * GIB, 2: 20 * GIB, 3: 30 * GIB}
    planned = Device(kind="cuda", index=2, free_bytes=20 * GIB)
    assert placement.max_memory([planned], four, None) == {1: int(36 * GIB), 2: int(18 * GIB)}
    assert placement.max_memory([planned], four, 3) == {1: int(36 * GIB), 2: int(18 * GIB), 3: int(27 * GIB)}
    assert list(placement.max_memory([], four, 4)) == [0, 1, 2, 3]


def test_what_the_plan_says_is_free_counts_where_it_is_less() -> None:
    promised = replace(GPUS[1], free_bytes=10 * GIB)
    found = placement.max_memory([promised, hardware.TWO_GPU[0]], FREE, None)
    assert found == {0: int(0.9 * FREE[0]), 1: int(9 * GIB)}
    assert placement.max_memory(GPUS, {0: GIB, 1: GIB}, None) == {0: int(0.9 * GIB), 1: int(0.9 * GIB)}


def test_one_accelerator_is_enough_unless_more_are_asked_for() -> None:
    assert placement.max_memory([GPUS[0]], {0: FREE[0]}, None) == {0: int(0.9 * FREE[0])}
    with pytest.raises(LoadFailed, match="accelerators is 3; torch sees 2"):
        placement.max_memory(GPUS, FREE, 3)


def test_what_lies_outside_is_named() -> None:
    assert placement.spilt({"model.embed_tokens": 0, "model.layers.0": 1, "lm_head": "cpu", "model.norm": "disk"}) == [
        "lm_head", "model.norm",
    ]  # fmt: skip


def test_an_accelerators_share_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")  # accelerate is
    whole = memory.estimate(FACTS, Settings(context=4096, device="cuda:0"))
    for options, count in (({"device_map": "auto"}, 2), ({"device_map": "balanced", "accelerators": 4}, 4)):
        settings = Settings(context=4096, device="cuda:0", options=options)
        part = memory.estimate(FACTS, settings)
        assert part.weights_bytes == pytest.approx(whole.weights_bytes / count, rel=0.1)
        assert part.weights_bytes > whole.weights_bytes / count
        assert part.bytes_per_token == whole.bytes_per_token / count


def test_nothing_is_shared_out_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match=r"device_map=auto .* runs on cpu"):
        memory.estimate(FACTS, Settings(device="cpu", options={"device_map": "auto"}))
    with pytest.raises(Unsupported, match="runs on metal"):
        placement.check("auto", "metal:0")

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(EngineMissing, match="device_map needs accelerate"):
        placement.check("auto", "cuda:0")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("machine", "device", "there", "torchs"),
    [
        ("laptop", None, (), "cpu"), ("rtx_4090", None, ("cuda",), "cuda:0"), ("rtx_4090", "cpu", ("cuda",), "cpu"),
        ("two_gpu", "cuda:1", ("cuda",), "cuda:1"), ("two_gpu", "cuda", ("cuda",), "cuda"),
        ("m2", None, ("metal",), "mps"), ("m3_max", "metal:0", ("metal",), "mps"),
    ],
)  # fmt: skip
def test_torchs_name_of_a_device(
    machine: str, device: str | None, there: tuple[str, ...], torchs: str, kit: Any, decoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from anyform_hf_transformers import weights
    from anyform_hf_transformers.backend import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "metal" in there)
    plan = kit.plan(decoder_folder)
    made = replace(plan, devices=hardware.MACHINES[machine], settings=replace(plan.settings, device=device))
    assert weights.device(made) == torchs


@pytest.mark.engine
@pytest.mark.parametrize(
    ("machine", "stored", "place", "numbers"),
    [
        ("laptop", "bfloat16", "cpu", "float32"), ("rtx_4090", "bfloat16", "cpu", "bfloat16"),
        ("server", "bfloat16", "cpu", "bfloat16"), ("server", "float16", "cpu", "float32"),
        ("m2", "bfloat16", "cpu", "bfloat16"), ("m2", "float16", "mps", "float16"),
        ("rtx_4090", "bfloat16", "cuda:0", "bfloat16"), ("pi", "bfloat16", "cpu", "float32"),
    ],
)  # fmt: skip
def test_numbers_by_machine(
    machine: str, stored: str, place: str, numbers: str, kit: Any, decoder_folder: Path
) -> None:
    from anyform_hf_transformers import options, weights
    from anyform_hf_transformers.backend import torch, transformers

    plan = replace(kit.plan(decoder_folder), devices=hardware.MACHINES[machine])
    config = transformers.LlamaConfig(dtype=getattr(torch, stored))
    assert weights.dtype(plan, options.read({}), config, place) == getattr(torch, numbers)


@pytest.mark.engine
def test_accelerate_gets_one_share_for_each(kit: Any, decoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anyform_hf_transformers import options, weights
    from anyform_hf_transformers.backend import torch, transformers

    pytest.importorskip("accelerate")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(FREE))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (FREE[index], 24 * GIB))
    plan = replace(kit.plan(decoder_folder), devices=(GPUS[1], hardware.TWO_GPU[0]))
    given = weights.placed(plan, options.read({"device_map": "auto"}), transformers.Qwen3Config(), "cuda:1")
    assert given["device_map"] == "auto"
    assert given["max_memory"] == {0: int(0.9 * FREE[0]), 1: int(0.9 * FREE[1])}


def test_every_option_is_described() -> None:
    from dataclasses import fields

    from anyform_hf_transformers.options import Options

    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [field.name for field in fields(Options) if f"| `{field.name}` |" not in page] == []
