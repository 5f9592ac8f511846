"""Which files of a repository come is what a format's plugin says of the listing; the kernel knows no format.

The plugins here detect and no more: what a plugin for these formats would answer.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from anyform.contract.errors import Fault, UnknownFormat
from anyform.contract.facts import BackendInfo, Device, Evidence, FormatMatch, ModelFiles
from anyform.contract.hooks import hookimpl
from anyform.kernel.plugins import Plugins
from anyform.sources.hubpull import Pulled

from .server import LoopbackHub

Get = Callable[..., Pulled]
BIG = b"weights" * 1000
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def plugin(name: str, detect: Callable[[ModelFiles], list[FormatMatch]]) -> ModuleType:
    """A plugin of one format."""
    module = ModuleType(name)

    @hookimpl
    def detect_format(files: ModelFiles) -> list[FormatMatch]:
        return detect(files)

    @hookimpl
    def list_backends() -> list[BackendInfo]:
        return [BackendInfo(name=name, reads=(name,), tasks=("chat",))]

    module.ANYFORM_CONTRACT = 1  # type: ignore[attr-defined]
    module.detect_format, module.list_backends = detect_format, list_backends  # type: ignore[attr-defined]
    return module


def match(format: str, entry: str, files: list[str], **more: Any) -> list[FormatMatch]:
    return [FormatMatch(format=format, entry=entry, files=tuple(files), evidence=Evidence.LAYOUT, why="so", **more)]


def safetensors(files: ModelFiles) -> list[FormatMatch]:
    """config.json names an architecture; weights by the index, else model.safetensors."""
    if "architectures" not in files.json("config.json"):
        return []
    shards = sorted(set(files.json("model.safetensors.index.json").get("weight_map", {}).values()))
    beside = ["config.json", "generation_config.json", *TOKENIZER]
    found = [name for name in (*beside, "model.safetensors.index.json") if name in files.files]
    return match("safetensors", ".", found + (shards or ["model.safetensors"]))


def diffusers(files: ModelFiles) -> list[FormatMatch]:
    """model_index.json names the parts, each a folder; of weights in two precisions the plain ones are taken."""
    parts = [name for name, value in files.json("model_index.json").items() if isinstance(value, list)]
    inside = [name for name in files.files if name.partition("/")[0] in parts and "/" in name]
    wanted = [name for name in inside if not name.endswith((".bin", ".fp16.safetensors"))]
    return match("diffusers", ".", ["model_index.json", *wanted]) if parts else []


def rkllm(files: ModelFiles) -> list[FormatMatch]:
    """An .rkllm file, and the small files beside it that its plugin reads."""
    beside = ("config.json", "generation_config.json", "meta.json", *TOKENIZER)
    found = [name for name in beside if name in files.files]
    return [one for name in files.files if name.endswith(".rkllm") for one in match("rkllm", name, [name, *found])]


@pytest.fixture
def formats() -> Plugins:
    detectors = {"safetensors": safetensors, "diffusers": diffusers, "rkllm": rkllm}
    return Plugins.of({name: plugin(name, detect) for name, detect in detectors.items()})


def test_safetensors_come_without_the_bin_beside_them(hub: LoopbackHub, get: Get, formats: Plugins) -> None:
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    hub.add("owner/text", {
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}', "generation_config.json": b"{}",
        "model-00001-of-00002.safetensors": BIG, "model-00002-of-00002.safetensors": BIG,
        "model.safetensors.index.json": index, "pytorch_model.bin": BIG, "tf_model.h5": BIG, "README.md": b"#",
        "tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "onnx/model.onnx": BIG, ".gitattributes": b"",
    })  # fmt: skip
    assert get("owner/text", plugins=formats).files == (
        "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json",
    )  # fmt: skip
    assert not hub.served["pytorch_model.bin"]


def test_a_diffusers_folder_comes_with_its_folders(hub: LoopbackHub, get: Get, formats: Plugins) -> None:
    index = b'{"_class_name": "P", "unet": ["diffusers", "U"], "vae": ["diffusers", "A"], "tokenizer": ["t", "T"]}'
    hub.add("owner/paint", {
        "model_index.json": index, "unet/config.json": b"{}", "unet/diffusion_pytorch_model.safetensors": BIG,
        "unet/diffusion_pytorch_model.fp16.safetensors": BIG, "unet/diffusion_pytorch_model.bin": BIG,
        "vae/config.json": b"{}", "vae/diffusion_pytorch_model.safetensors": BIG, "tokenizer/vocab.json": b"{}",
        "all-in-one.safetensors": BIG, "picture.png": BIG,
    })  # fmt: skip
    assert get("owner/paint", plugins=formats).files == (
        "model_index.json", "tokenizer/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    )  # fmt: skip


def test_an_rkllm_comes_with_its_five_small_files(hub: LoopbackHub, get: Get, formats: Plugins) -> None:
    small = ("config.json", "generation_config.json", "meta.json", *TOKENIZER)
    hub.add("owner/board", {"m.rkllm": BIG, "README.md": b"#", "special.json": b"{}"} | dict.fromkeys(small, b"{}"))
    assert get("owner/board", plugins=formats).files == tuple(sorted(("m.rkllm", *small)))


def test_of_two_forms_the_one_comes_that_a_backend_reads(hub: LoopbackHub, get: Get) -> None:
    detect_only = plugin("safetensors", safetensors)
    del detect_only.list_backends  # type: ignore[attr-defined]
    plugins = Plugins.of({"a_safetensors": detect_only, "rkllm": plugin("rkllm", rkllm)})
    config = b'{"architectures": ["X"]}'
    hub.add("owner/both", {"config.json": config, "model.safetensors": BIG, "m.rkllm": BIG})
    assert get("owner/both", plugins=plugins).files == ("config.json", "m.rkllm")


def test_no_plugin_for_it_is_said_with_the_way_out(hub: LoopbackHub, get: Get, formats: Plugins) -> None:
    hub.add("owner/odd", {"weights.xyz": BIG})
    with pytest.raises(UnknownFormat) as caught:
        get("owner/odd", plugins=formats)
    said = str(caught.value)
    assert "weights.xyz" in said
    assert "diffusers, rkllm, safetensors" in said
    assert "anyform pull owner/odd --include" in said


def test_a_plugin_that_fails_costs_only_its_own_answer(hub: LoopbackHub, get: Get) -> None:
    def broken(files: ModelFiles) -> list[FormatMatch]:
        raise RuntimeError(files.path)

    plugins = Plugins.of({"broken": plugin("broken", broken), "rkllm": plugin("rkllm", rkllm)})
    hub.add("owner/board", {"m.rkllm": BIG})
    assert get("owner/board", plugins=plugins).files == ("m.rkllm",)


def test_a_listing_cannot_lead_outside_of_the_folder(hub: LoopbackHub, get: Get, home: Any) -> None:
    hub.add("owner/evil", {"../../escape.txt": b"x", "/etc/absolute": b"x", "a\\b": b"x", "fine.txt": b"y"})
    assert get("owner/evil", include=("*",)).files == ("fine.txt",)
    with pytest.raises(Fault, match="no file"):
        get("owner/evil", names=("../../escape.txt",))
    assert not (home.parent / "escape.txt").exists()


def on_devices(module: ModuleType, devices: tuple[str, ...], trouble: str = "") -> ModuleType:
    """*module*, which looks for *devices*, and whose backend runs on them alone and says *trouble*."""
    name = module.__name__

    @hookimpl
    def find_devices() -> list[Device]:
        return [] if trouble else [Device(kind=kind) for kind in devices]

    @hookimpl
    def list_backends() -> list[BackendInfo]:
        return [BackendInfo(name=name, reads=(name,), tasks=("chat",), devices=devices, trouble=trouble)]

    module.list_backends = list_backends  # type: ignore[attr-defined]
    module.find_devices = find_devices  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("trouble", "asked", "files"),
    [
        ("no NPU was found", "owner/both", ("config.json", "model.safetensors")),
        ("no NPU was found", "owner/both:rkllm", ("config.json", "m.rkllm")),
        ("", "owner/both", ("config.json", "m.rkllm")),
        ("", "owner/both:safetensors", ("config.json", "model.safetensors")),
        ("no NPU was found", "owner/alone", ("m.rkllm",)),
    ],
)
def test_a_form_for_a_chip_comes_first_where_it_is_and_last_elsewhere(
    hub: LoopbackHub, get: Get, trouble: str, asked: str, files: tuple[str, ...]
) -> None:
    npu = on_devices(plugin("rkllm", rkllm), ("rknpu",), trouble)
    plugins = Plugins.of({"rkllm": npu, "safetensors": plugin("safetensors", safetensors)})
    config = b'{"architectures": ["X"]}'
    hub.add("owner/both", {"config.json": config, "model.safetensors": BIG, "m.rkllm": BIG})
    hub.add("owner/alone", {"m.rkllm": BIG})
    assert get(asked, plugins=plugins).files == files


def test_a_program_of_the_users_for_a_common_device_prefers_no_form(hub: LoopbackHub, get: Get) -> None:
    """Such as `[command.vllm]` with `devices = ["cuda"]`: the device is not made for that form."""
    program = on_devices(plugin("safetensors", safetensors), ("cuda",))
    del program.find_devices
    plugins = Plugins.of({"rkllm": plugin("rkllm", rkllm), "safetensors": program})
    hub.add("owner/both", {"config.json": b'{"architectures": ["X"]}', "model.safetensors": BIG, "m.rkllm": BIG})
    assert get("owner/both", plugins=plugins).files == ("config.json", "m.rkllm")  # the first by name


def test_a_form_that_lacks_files_comes_after_one_that_is_whole(hub: LoopbackHub, get: Get, formats: Plugins) -> None:
    index = b'{"weight_map": {"a": "model-00001-of-00001.safetensors"}}'
    config = b'{"architectures": ["X"]}'
    hub.add("owner/copied", {"config.json": config, "model.safetensors.index.json": index, "z.rkllm": BIG})
    assert get("owner/copied", plugins=formats).files == ("config.json", "z.rkllm")


def test_the_first_parts_of_a_variant_name_the_preferred_one_that_has_them(hub: LoopbackHub, get: Get) -> None:
    variants = {"a.x": ("W4-chip1-opt0", 2), "b.x": ("W8-chip1-opt0", 3), "c.x": ("W8-chip1-opt1", 1)}

    def labelled(files: ModelFiles) -> list[FormatMatch]:
        return [
            FormatMatch(
                format="x", entry=name, files=(name,), evidence=Evidence.LAYOUT, why="so", name="m", variant=v, order=o
            )
            for name, (v, o) in variants.items()
            if name in files.files
        ]

    plugins = Plugins.of({"x": plugin("x", labelled)})
    hub.add("owner/parts", dict.fromkeys(variants, BIG))
    for asked, file in (("w8", "c.x"), ("W8-chip1", "c.x"), ("W8-chip1-opt0", "b.x"), ("W4", "a.x"), ("m", "c.x")):
        assert get(f"owner/parts:{asked}", plugins=plugins).files == (file,)
    for asked in ("W", "opt0", "W8-chip", "W8-chip1-opt2"):
        with pytest.raises(Fault, match="has no variant"):
            get(f"owner/parts:{asked}", plugins=plugins)
