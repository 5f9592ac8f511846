"""The estimate's parts by tables: windows, copies for the CPU, accelerators, embeddings, savings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform_gguf_llamacpp import memory, repacking

GIB = 1 << 30
FACTS: dict[str, Any] = {
    "layers": 12, "heads": 8, "kv_heads": 4, "key_length": 64, "value_length": 64, "embedding_length": 512,
    "feed_forward_length": 1536,
}  # fmt: skip
PLAIN = Metadata(
    architecture="llama", tasks=("chat",), context=32_768, vocab_size=32_000, weight_bytes=GIB, extra=FACTS
)
LAYER = 4 * 128 * 2
"""Bytes of a token in one layer."""
ONE = Settings(context=8192, parallel=1, device="cpu", options={"use_extra_bufts": False})


def with_facts(architecture: str = "llama", **facts: Any) -> Metadata:
    return replace(PLAIN, architecture=architecture, extra={**FACTS, **facts})


@pytest.mark.parametrize(
    ("architecture", "facts", "full"),
    [
        ("gemma2", {}, 6),
        ("gemma3", {}, 2),
        ("gemma3", {"window_pattern": 4}, 3),
        ("cohere2", {}, 3),
        ("smallthinker", {}, 3),
        ("gemma4", {"window_pattern": [True] * 10 + [False] * 2}, 2),
        ("llama", {}, 12),  # a window that llama.cpp does not use
    ],
)
def test_windowed_layers_keep_their_window(architecture: str, facts: dict[str, Any], full: int) -> None:
    window = memory.estimate(with_facts(architecture, sliding_window=1024, **facts), ONE)
    whole = memory.estimate(with_facts(architecture, **{**facts, "window_pattern": None}), ONE)
    assert window.bytes_per_token == full * LAYER
    assert window.overhead_bytes - whole.overhead_bytes == (12 - full) * LAYER * (1024 + 512)


def test_a_window_is_kept_whole_where_the_user_says_so() -> None:
    gemma = with_facts("gemma2", sliding_window=1024)
    full = memory.estimate(gemma, replace(ONE, options={**ONE.options, "swa_full": True}))
    assert full.bytes_per_token == 12 * LAYER


def test_every_sequence_has_its_window() -> None:
    gemma = with_facts("gemma2", sliding_window=1024)
    four, one = (memory.estimate(gemma, replace(ONE, parallel=parallel)) for parallel in (4, 1))
    logits = 3 * 3 * 4 * 32_000
    assert four.overhead_bytes - one.overhead_bytes == 3 * 6 * LAYER * 1536 + logits


def test_layers_that_share_a_cache_count_once() -> None:
    assert memory.estimate(with_facts(shared_kv_layers=5), ONE).bytes_per_token == 7 * LAYER


@pytest.mark.parametrize(
    ("flags", "machine", "some"),
    [
        ("avx2", "x86_64", {"Q4_0", "Q4_K"}),
        ("avx2 avx512f", "x86_64", {"Q2_K", "Q4_K"}),
        ("avx2 avx512f avx512_vnni amx_int8", "x86_64", {"Q8_0", "Q6_K", "F16", "Q2_K"}),
        ("sse2", "x86_64", set()),
        ("", "AMD64", {"Q4_0"}),
        ("asimd asimddp", "aarch64", {"Q8_0", "Q4_0", "Q6_K"}),
        ("asimd", "aarch64", set()),
        ("", "arm64", {"Q8_0"}),
        ("", "riscv64", set()),
    ],
)
def test_which_types_this_cpu_keeps_twice(flags: str, machine: str, some: set[str]) -> None:
    found = repacking.types(flags.split(), machine)
    assert some <= found
    assert bool(some) == bool(found)
    assert "F32" not in found
    assert ("Q8_0" in found) == ("Q8_0" in some)


def test_weights_that_are_kept_twice_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "repacked", lambda: frozenset({"Q4_K"}))
    model = with_facts(matrix_bytes={"Q4_K": 1000, "Q6_K": 100})
    twice = replace(ONE, options={})
    assert memory.estimate(model, twice).weights_bytes == GIB + 1000
    assert memory.estimate(model, ONE).weights_bytes == GIB
    assert memory.estimate(model, replace(twice, device="cuda:0")).weights_bytes == GIB
    partly = replace(twice, device="cuda:0", options={"gpu_layers": 0})
    assert memory.estimate(model, partly).weights_bytes == GIB + 1000
    saving = memory.estimate(model, twice).savings[-1]
    assert (dict(saving.options), saving.bytes, saving.moves) == ({"use_extra_bufts": False}, 1000, False)


@pytest.mark.parametrize(
    ("layers", "device", "share"),
    [
        (None, "cuda:0", 1.0),
        (-1, "cuda:0", 1.0),
        (0, "cuda:0", 0.0),
        (26, None, 1.0),
        (13, None, 1.0),
        (6, "cuda:0", 6 / 13),
        (6, "cpu", 0.0),
        (None, "cpu", 0.0),
    ],
)
def test_the_share_on_the_accelerator(layers: int | None, device: str | None, share: float) -> None:
    options = {} if layers is None else {"gpu_layers": layers}
    estimate = memory.estimate(PLAIN, Settings(context=100, device=device, options=options))
    assert estimate.accelerated == pytest.approx(share)
    if device == "cuda:0" and 0 < share < 1:
        spread = estimate.spread(Settings(context=100, parallel=1), "cuda:0")
        assert spread["cuda:0"] + spread["cpu"] == estimate.at(Settings(context=100, parallel=1))


def test_smaller_caches_are_offered_with_what_they_save() -> None:
    said = {one.options["cache_type_k"]: one.bytes for one in memory.estimate(PLAIN, ONE).savings}
    cache = 12 * LAYER * 8192
    assert said == {"q8_0": cache * 15 // 32, "q4_0": cache * 23 // 32}
    for kind, size in said.items():
        options = {**ONE.options, "cache_type_k": kind, "cache_type_v": kind}
        less = memory.estimate(PLAIN, replace(ONE, options=options))
        assert memory.estimate(PLAIN, ONE).at(ONE) - less.at(ONE) == size
        assert all(one.options["cache_type_k"] != kind for one in less.savings)


def test_a_smaller_cache_is_not_offered_without_flash_attention() -> None:
    """llama.cpp refuses quantized values then."""
    assert memory.estimate(PLAIN, replace(ONE, options={**ONE.options, "flash_attention": False})).savings == ()


def test_fewer_layers_are_offered_on_an_accelerator_alone() -> None:
    there = replace(ONE, device="cuda:0")
    saving = memory.estimate(PLAIN, there).savings[-1]
    assert (dict(saving.options), saving.moves) == ({"gpu_layers": 6}, True)
    assert saving.bytes == pytest.approx((GIB + 12 * LAYER * 8192) * 7 / 13, rel=0.001)
    assert not [one for one in memory.estimate(PLAIN, ONE).savings if one.moves]


def test_without_flash_attention_scores_are_kept() -> None:
    more = memory.estimate(PLAIN, replace(ONE, options={**ONE.options, "flash_attention": False}))
    assert more.overhead_bytes - memory.estimate(PLAIN, ONE).overhead_bytes == 512 * 8192 * (4 * (8 + 2) - 2)


def test_where_it_is_exact_one_request_has_two_sequences() -> None:
    """loader.py opens two; measured: 81 MiB at context 2048, 560 MiB at 100,000 of which 244 MiB are one's cache."""
    exact = {**ONE.options, "exact": True}
    for parallel, sequences in ((1, 2), (2, 2), (4, 4)):
        wanted = replace(ONE, parallel=parallel, options=exact)
        said = memory.estimate(PLAIN, wanted)
        assert said.bytes_per_token * parallel == sequences * 12 * LAYER
    vectors = replace(with_facts(pooling="last"), tasks=("embed",))
    assert memory.estimate(vectors, replace(ONE, options=exact)).bytes_per_token == 12 * LAYER


def test_of_experts_those_that_are_used_count() -> None:
    few, many = (with_facts(expert_feed_forward_length=1536, experts_used=used) for used in (1, 8))
    assert memory.estimate(many, ONE).overhead_bytes - memory.estimate(few, ONE).overhead_bytes == 512 * 16 * 1536 * 7


def test_an_encoder_computes_its_whole_context_at_once_and_keeps_nothing() -> None:
    bert = replace(PLAIN, architecture="bert", tasks=("embed",), context=8192)
    short, long = (memory.estimate(bert, replace(ONE, context=context)) for context in (512, 8192))
    assert short.bytes_per_token == long.bytes_per_token == 0
    assert long.overhead_bytes > 10 * short.overhead_bytes - 10 * memory.PROCESS_BYTES
    beyond = memory.estimate(bert, replace(ONE, context=100_000))
    assert beyond.overhead_bytes == long.overhead_bytes


def test_an_embedding_decoder_shares_one_context() -> None:
    model = replace(with_facts(pooling="last"), tasks=("embed",))
    four = replace(ONE, parallel=4)
    fixed = memory.estimate(model, four)
    assert fixed.at(four) - fixed.overhead_bytes - fixed.weights_bytes == 12 * LAYER * 8192


def test_a_vocabulary_takes_room() -> None:
    large = replace(PLAIN, vocab_size=152_000, tokenizer="gpt2")
    more = (
        memory.estimate(large, ONE).overhead_bytes - memory.estimate(replace(large, vocab_size=0), ONE).overhead_bytes
    )
    assert more == 152_000 * (152 + 136 + 12)


def test_as_many_layers_go_to_an_accelerator_as_it_has_room_for() -> None:
    metadata, settings = with_facts(layers=31), Settings(context=4096, parallel=1, device="cuda:0")
    told = memory.estimate(metadata, settings)
    layer = (told.at(settings) - told.overhead_bytes) / 32
    room = int((told.overhead_bytes + 10.5 * layer) / memory.SPARED)
    assert memory.fitting_layers(metadata, settings, room) == 10
    assert memory.fitting_layers(metadata, settings, told.overhead_bytes // 2) == 0
    assert memory.fitting_layers(metadata, settings, 10 * told.at(settings)) == 32
    assert memory.fitting_layers(metadata, settings, 0) is None
    assert memory.fitting_layers(replace(metadata, extra={}), settings, room) is None
