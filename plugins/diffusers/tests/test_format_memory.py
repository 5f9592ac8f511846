"""The estimate of memory, and where parts are put by it: from numbers alone."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from anyform.contract.errors import Invalid, OutOfMemory
from anyform.contract.facts import Device, FormatMatch, MemoryEstimate, Metadata, Plan, Settings
from anyform_diffusers import memory, options, placement, shape, working
from anyform_diffusers.memory import Way
from anyform_diffusers.placement import Placement
from anyform_diffusers.room import Room
from anyform_diffusers.wish import Wish
from anyform_diffusers.working import Size

MIB, GIB = 1 << 20, 1 << 30
ATTENDS, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
VAE = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4, "sample_size": 512}
CLIP = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "max_position_embeddings": 77}
T5 = {"d_model": 4096, "d_ff": 10_240, "num_heads": 64}


def model(family: str, side: int, parameters: dict[str, int], configs: dict[str, Any], **extra: Any) -> Metadata:
    return Metadata(
        tasks=("image", "edit_image", "vary_image"),
        architecture=family,
        weight_bytes=sum(parameters.values()) * 2,
        extra={
            "family": family, "width": side, "height": side, "unit": 8, "dtype": "F16", "guidance": 7.5,
            "components": {name: {"parameters": count} for name, count in parameters.items()},
            "shape": shape.of(configs), **extra,
        },
    )  # fmt: skip


SD = model(
    "sd", 512, {"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    {"unet": {"block_out_channels": [320, 640, 1280, 1280], "down_block_types": [ATTENDS] * 3 + [PLAIN],
              "layers_per_block": 2}, "vae": VAE, "text_encoder": CLIP},
)  # fmt: skip
SDXL = model(
    "sdxl", 1024, {"text_encoder": 123_060_480, "text_encoder_2": 694_659_840, "unet": 2_567_463_684,
                   "vae": 83_653_863},
    {"unet": {"block_out_channels": [320, 640, 1280], "down_block_types": [PLAIN, ATTENDS, ATTENDS],
              "layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10]},
     "vae": {**VAE, "sample_size": 1024}, "text_encoder": CLIP, "text_encoder_2": CLIP},
)  # fmt: skip
FLUX = model(
    "flux", 1024, {"text_encoder": 123_060_480, "text_encoder_2": 4_762_310_656, "transformer": 11_901_408_320,
                   "vae": 83_819_683},
    {"transformer": {"num_attention_heads": 24, "attention_head_dim": 128, "patch_size": 1, "num_layers": 19,
                     "num_single_layers": 38, "in_channels": 64},
     "vae": {**VAE, "latent_channels": 16, "sample_size": 1024}, "text_encoder": CLIP, "text_encoder_2": T5},
    dtype="BF16", guidance=3.5, unit=16,
)  # fmt: skip
MODELS = (SD, SDXL, FLUX)


def estimated(metadata: Metadata, device: str = "cpu", **given: Any) -> MemoryEstimate:
    return memory.estimate(metadata, Settings(device=device, options=given))


def total(metadata: Metadata, device: str = "cpu", **given: Any) -> int:
    return estimated(metadata, device, **given).at(Settings())


def plan(metadata: Metadata, *devices: Device) -> Plan:
    match = FormatMatch(format="diffusers", entry="model_index.json", files=(), evidence=3, why="")  # type: ignore[arg-type]
    return Plan(
        plugin="diffusers", backend="diffusers", model="m", path=".", match=match, metadata=metadata,
        settings=Settings(), devices=devices,
    )  # fmt: skip


def gpu(free: float, **extra: Any) -> Device:
    return Device(
        kind="cuda", name="GPU", total_bytes=24 * GIB, free_bytes=round(free * GIB),
        extra={"compute_capability": "8.6", **extra},
    )  # fmt: skip


def put(metadata: Metadata, device: Device, **given: Any) -> Placement:
    return placement.chosen(plan(metadata, device), options.read(given))


def test_a_cpu_computes_in_floats_of_32_bits_whatever_the_files_hold() -> None:
    assert SD.weight_bytes is not None
    assert estimated(SD).weights_bytes == 2 * SD.weight_bytes
    assert estimated(SD, dtype="bfloat16").weights_bytes == SD.weight_bytes
    assert estimated(SD, "cuda:0").weights_bytes == SD.weight_bytes
    assert estimated(SD, "cuda:0", dtype="float32").weights_bytes == 2 * SD.weight_bytes


def test_parts_without_parameters_are_counted_by_their_bytes() -> None:
    parts = {name: {"bytes": 2 * one["parameters"]} for name, one in SD.extra["components"].items()}
    by_bytes = replace(SD, extra={**SD.extra, "components": parts})
    assert total(by_bytes) == total(SD)


def test_what_was_measured_with_the_real_sizes_of_stable_diffusion() -> None:
    """Its network and VAE with made-up weights on a CPU, beside weights: a guided step of 512x512 held 449 MiB, of
    256x256 203 MiB; decoding 512x512 1052 MiB, 256x256 362 MiB.
    """
    facts = SD.extra["shape"]
    for side, step, decode in ((512, 448.7, 1051.5), (256, 203.4, 362.4)):
        size = Size(width=side, height=side)
        assert 0.95 < working.step_bytes(facts, size, 4) / (step * MIB) < 1.35
        assert 0.95 < working.decode_bytes(facts, size, 4) / (decode * MIB) < 1.35


@pytest.mark.parametrize("metadata", MODELS, ids=lambda one: one.architecture)
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_larger_pictures_and_more_at_once_never_need_less(metadata: Metadata, device: str) -> None:
    way = Way()
    rows = [
        [
            memory.needs_bytes(metadata.extra, Size(width=side, height=side, pictures=count), way)
            for side in (64, 256, 1024, 2048)
        ]
        for count in (1, 2, 4)
    ]
    for row in (*rows, *zip(*rows, strict=True)):
        assert sorted(row) == list(row)
        assert row[0] < row[-1]
    batches = [total(metadata, device, batch=count) for count in (1, 2, 8)]
    assert sorted(set(batches)) == batches


def test_decoding_takes_most_and_slices_and_tiles_take_less() -> None:
    size = Size(width=1024, height=1024, pictures=4)
    whole, sliced, tiled, both = (
        working.decode_bytes(SD.extra["shape"], size, 4, slicing=slicing, tiling=tiling)
        for slicing, tiling in ((False, False), (True, False), (False, True), (True, True))
    )
    assert whole == memory.needs_bytes(SD.extra, size, Way())
    assert whole > 3 * sliced > 3 * both
    assert whole > 2 * tiled


def test_tiles_save_nothing_where_a_picture_is_one_tile() -> None:
    size = Size(width=512, height=512)
    assert memory.needs_bytes(SD.extra, size, Way(tiling=True)) == memory.needs_bytes(SD.extra, size, Way())


def test_guidance_computes_each_step_twice_except_where_the_network_is_given_it() -> None:
    assert memory.is_guided(SD.extra, None)
    assert not memory.is_guided(SD.extra, 1.0)
    assert not memory.is_guided(FLUX.extra, 3.5)
    one, two = (Size(width=1024, height=1024, guided=guided) for guided in (False, True))
    assert working.step_bytes(SD.extra["shape"], two, 4) > working.step_bytes(SD.extra["shape"], one, 4)


def test_the_decoder_of_sdxl_computes_in_32_bits_beside_a_network_of_float16() -> None:
    size = Size(width=1024, height=1024)
    half, brain = (memory.needs_bytes(SDXL.extra, size, Way(dtype=name)) for name in ("float16", "bfloat16"))
    assert half > 1.8 * brain


@pytest.mark.parametrize("metadata", MODELS, ids=lambda one: one.architecture)
def test_savings_save_what_they_say_the_mildest_first(metadata: Metadata) -> None:
    for device in ("cpu", "cuda:0"):
        found = estimated(metadata, device, batch=4).savings
        names = [next(iter(saving.options)) for saving in found]
        order = ["slicing", "tiling", "batch", "offload", "offload", "dtype"]
        assert [name for name in dict.fromkeys(order) if name in names] == list(dict.fromkeys(names))
        for saving in found:
            less = estimated(metadata, device, **{"batch": 4, **saving.options})
            before = total(metadata, device, batch=4)
            settings = Settings(device=device)
            after = less.spread(settings, device)[device]
            assert abs((before - after) - saving.bytes) < 0.02 * before, saving
            assert saving.moves == (saving.options.get("offload") is not None)


def test_what_is_moved_out_lies_in_main_memory() -> None:
    for offload in ("model", "sequential"):
        spread = estimated(SDXL, "cuda:0", offload=offload).spread(Settings(), "cuda:0")
        assert sum(spread.values()) == total(SDXL, "cuda:0", offload=offload)
        assert spread["cpu"] > GIB
    model, layers = (
        estimated(FLUX, "cuda:0", offload=offload).spread(Settings(), "cuda:0")["cuda:0"]
        for offload in ("model", "sequential")
    )
    assert layers < model < total(FLUX, "cuda:0")
    assert model > 2 * 11_901_408_320


def test_what_the_files_do_not_say_makes_a_guess_of_it() -> None:
    silent = Metadata(tasks=("image",), weight_bytes=GIB)
    found = memory.estimate(silent, Settings(device="cpu"))
    assert found.weights_bytes == GIB
    assert found.confidence < estimated(SD).confidence
    broken = replace(SD, extra={**SD.extra, "shape": shape.of({"unet": {"block_out_channels": "many"}, "vae": {}})})
    assert estimated(broken).confidence == found.confidence
    with pytest.raises(Invalid, match="strange"):
        estimated(SD, strange=1)


def test_a_cpu_keeps_nothing_out_of_main_memory_and_computes_no_float16() -> None:
    for given in ({"offload": "model"}, {"offload": "sequential"}, {"dtype": "float16"}):
        with pytest.raises(Invalid, match=next(iter(given))):
            estimated(SD, **given)
        memory.estimate(SD, Settings(options=given))  # the device is not chosen yet
    with pytest.raises(Invalid, match="offload"):
        estimated(SD, "metal", offload="model")
    cpu = Device(kind="cpu", total_bytes=64 * GIB, free_bytes=32 * GIB)
    with pytest.raises(Invalid, match="float16"):
        put(SD, cpu, dtype="float16")
    with pytest.raises(OutOfMemory, match="main memory"):  # as the reductions of a load that ran out of memory ask it
        put(SD, cpu, offload="model")


def test_on_a_cpu() -> None:
    found = put(SD, Device(kind="cpu", total_bytes=64 * GIB, free_bytes=32 * GIB))
    assert (found.device, found.way, found.notes) == ("cpu", Way(), ())
    assert put(SD, Device(kind="cpu"), dtype="bfloat16").dtype == "bfloat16"
    tight = put(SD, Device(kind="cpu", total_bytes=64 * GIB, free_bytes=6 * GIB), batch=4)
    assert tight.way == Way(slicing=True, tiling=True)
    assert "6.0 GiB free" in tight.notes[0]


@pytest.mark.parametrize(
    ("free", "batch", "way", "said"),
    [
        (24, 1, Way(dtype="float16"), ""),
        (0, 1, Way(dtype="float16"), ""),
        (14, 4, Way(dtype="float16", slicing=True, tiling=True), "one after the other"),
        (11, 4, Way(dtype="float16", slicing=True, tiling=True, offload="model"), "parts that do not compute lie"),
        (5.8, 1, Way(dtype="float16", slicing=True, tiling=True, offload="sequential"), "layers that do not compute"),
    ],
)
def test_an_accelerator_is_used_in_the_mildest_way_that_fits(free: float, batch: int, way: Way, said: str) -> None:
    found = put(SDXL, gpu(free), batch=batch)
    assert (found.device, found.way) == ("cuda:0", way)
    assert said in " ".join(found.notes)
    assert bool(found.notes) == bool(said)
    if said:
        assert f"cuda:0 has {free:.1f} GiB free" in found.notes[0]


def test_what_the_user_said_is_kept() -> None:
    assert put(SDXL, gpu(6.5), offload="none").way.offload == "none"
    assert "may run out of memory" in put(SDXL, gpu(6.5), offload="none").notes[0]
    assert put(SDXL, gpu(24), offload="sequential").way.offload == "sequential"
    kept = put(SDXL, gpu(8), slicing=False, tiling=False).way
    assert (kept.slicing, kept.tiling, kept.offload) == (False, False, "model")
    assert put(SDXL, gpu(24), dtype="float32").dtype == "float32"


def test_where_nothing_fits_it_is_said_with_figures() -> None:
    with pytest.raises(OutOfMemory, match=r"m needs \d+\.\d GiB of cuda:0 even layer by layer.* has 1\.0 GiB free"):
        put(SDXL, gpu(1))


def test_numbers_are_of_16_bits_on_an_accelerator_of_the_kind_that_it_computes() -> None:
    old = {"compute_capability": "7.5"}
    assert put(FLUX, gpu(80)).dtype == "bfloat16"
    assert put(SD, gpu(24)).dtype == "float16"  # as the files have it
    plain = replace(SD, extra={**SD.extra, "dtype": "F32"})
    assert put(plain, gpu(24)).dtype == "bfloat16"
    assert put(plain, gpu(24, **old)).dtype == "float16"
    turing = put(FLUX, gpu(80, **old))
    assert turing.dtype == "float16"
    assert "overflow" in turing.notes[0]


def test_apples_gpu_shares_the_main_memory_and_slices_attention() -> None:
    metal = Device(kind="metal", total_bytes=16 * GIB, free_bytes=9 * GIB, extra={"unified": True})
    roomy = put(SD, metal)
    assert (roomy.device, roomy.dtype, roomy.sliced_attention) == ("mps", "float16", False)
    tight = put(SDXL, replace(metal, free_bytes=13 * GIB), batch=4)
    assert (tight.way.slicing, tight.way.offload, tight.sliced_attention) == (True, "none", True)


def test_a_request_without_room_is_refused_with_the_size_that_has_it() -> None:
    wish = Wish(prompt="a", width=2048, height=1024, steps=4)
    room = Room(SD.extra, Placement(), lambda device: 3 * GIB)
    with pytest.raises(OutOfMemory, match=r"3\.0 GiB free") as refused:
        room.check(wish)
    width, height = memory.largest(SD.extra, Size(width=2048, height=1024), Way(), 3 * GIB - 64 * MIB)
    assert f"{width}x{height} or less" in refused.value.hint
    assert "tiling=true" in refused.value.hint
    assert (width % 8, height % 8) == (0, 0)
    assert 1.9 < width / height < 2.1
    assert 2048 > width > 512
    room.check(replace(wish, width=width, height=height))
    with pytest.raises(OutOfMemory):
        room.check(replace(wish, width=width + 8, height=height + 8))
    Room(SD.extra, Placement(way=Way(tiling=True)), lambda device: 3 * GIB).check(wish)
    Room(SD.extra, Placement(), lambda device: 0).check(wish)  # nobody knows what is free


def test_pictures_are_computed_together_as_far_as_there_is_room() -> None:
    wish = Wish(prompt="a", width=512, height=512, steps=4)
    counts = [Room(SD.extra, Placement(), lambda device, free=free: free).together(wish, 4) for free in  # type: ignore[misc]
              (0, 100 * MIB, 2 * GIB, 3 * GIB, 8 * GIB)]  # fmt: skip
    assert counts[:2] == [4, 1]
    assert counts[1:] == sorted(counts[1:])
    assert counts[-1] == 4


def test_nothing_fits_where_nothing_is_free() -> None:
    assert memory.largest(SD.extra, Size(width=512, height=512), Way(), 0) == (0, 0)


def test_shapes_of_strangers_are_numbers_or_nothing() -> None:
    odd: dict[str, Any] = {
        "unet": {"block_out_channels": [320, "x", -1, True, 10.5], "down_block_types": 3, "layers_per_block": None},
        "vae": {"block_out_channels": 128, "latent_channels": "4"},
        "text_encoder": {"hidden_size": None},
        "text_encoder_2": {"d_model": []},
    }
    found = shape.of(odd)
    assert found["denoiser"]["channels"] == [320]
    assert found["vae"] == {"channels": [128], "latent": 4, "sample": 512}
    facts = MappingProxyType({**SD.extra, "shape": found})
    assert memory.needs_bytes(facts, Size(width=64, height=64), Way()) > 0
    huge = {"unet": {"block_out_channels": [10**400]}, "text_encoder": {"d_model": 10**400, "d_ff": 10**400}}
    assert memory.estimate(replace(SD, extra={**SD.extra, "shape": shape.of(huge)}), Settings()).overhead_bytes > 0
