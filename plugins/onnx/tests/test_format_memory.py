"""The estimate of memory, from numbers alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.contract.facts import BackendInfo, Metadata, Settings
from anyform.kernel.files import FolderFiles
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform_onnx import detection, memory, metadata
from anyform_onnx.info import BACKENDS

GIB, MIB = 1 << 30, 1 << 20
DECODER = Metadata(
    tasks=("chat", "complete"), parameters=4_000_000_000, weight_bytes=3 * GIB, vocab_size=151_936, context=40_960,
    quantization="F16",
    extra={"role": "decoder", "layers": 36, "kv_heads": 8, "head_size": 128, "cache_bytes": 36 * 8 * 128 * 2 * 4,
           "embedding_length": 2560, "feed_forward_length": 9728, "external_bytes": 3 * GIB, "shares_cache": True},
)  # fmt: skip
ENCODER = Metadata(
    tasks=("embed",), parameters=110_000_000, weight_bytes=440_000_000, vocab_size=30_522, context=512,
    quantization="F32",
    extra={"role": "embedding", "heads": 12, "embedding_length": 768, "feed_forward_length": 3072},
)  # fmt: skip
BOTH = ("onnxruntime", "onnxruntime_genai")


def at(found: Metadata, backend: str = "onnxruntime", **settings: Any) -> int:
    """Bytes in all."""
    given = Settings(**settings)
    return memory.estimate(backend, found, given).at(given)


@pytest.mark.parametrize("backend", BOTH)
def test_the_cache_is_what_the_graph_keeps_of_each_token(backend: str) -> None:
    found = memory.estimate(backend, DECODER, Settings(context=4096, parallel=2))
    assert found.weights_bytes == 3 * GIB
    assert found.bytes_per_token == 36 * 8 * 128 * 2 * 4
    more = at(DECODER, backend, context=8192, parallel=2) - at(DECODER, backend, context=4096, parallel=2)
    assert more == 4096 * 2 * found.bytes_per_token


@pytest.mark.parametrize(("parallel", "times"), [(1, 2), (4, 3)])
def test_a_graph_that_gives_all_keys_back_has_them_twice_and_once_more_where_others_join(
    parallel: int, times: int
) -> None:
    apart = replace(DECODER, extra={**DECODER.extra, "shares_cache": None})
    settings = Settings(context=4096, parallel=parallel)
    one, two = (memory.estimate("onnxruntime", found, settings) for found in (DECODER, apart))
    assert two.bytes_per_token == times * one.bytes_per_token
    assert "what was and of what is new" in two.why
    assert memory.estimate("onnxruntime_genai", apart, settings).bytes_per_token == one.bytes_per_token


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_more_context_and_more_requests_never_need_less(backend: str, device: str) -> None:
    for found in (DECODER, ENCODER):
        rows = [
            [
                at(found, backend, context=context, parallel=parallel, device=device)
                for context in (64, 100, 4096, 40_000)
            ]
            for parallel in (1, 2, 5)
        ]
        for row in (*rows, *zip(*rows, strict=True)):
            assert sorted(row) == list(row)


@pytest.mark.parametrize("backend", BOTH)
def test_smaller_steps_save_what_they_say(backend: str) -> None:
    [saving] = memory.estimate(backend, DECODER, Settings(context=4096, parallel=4)).savings
    less = at(DECODER, backend, context=4096, parallel=4, options=saving.options)
    assert at(DECODER, backend, context=4096, parallel=4) - less == saving.bytes


def test_weights_in_the_graphs_own_file_are_there_more_than_once() -> None:
    inline = replace(DECODER, extra={**DECODER.extra, "external_bytes": 0})
    assert at(inline, context=256) > at(DECODER, context=256) + GIB // 4


def test_a_longer_text_takes_more_than_its_share() -> None:
    """Attention that is not fused holds tokens x tokens numbers."""
    short, long = (at(replace(ENCODER, context=size), options={"threads": 1}) for size in (2048, 8192))
    assert long > 4 * short


def test_more_lanes_compute_more_at_once() -> None:
    one, four, more = (at(ENCODER, context=512, options={"threads": threads}) for threads in (1, 4, 16))
    assert one < four == more


def test_what_the_file_does_not_say_makes_a_guess_of_it() -> None:
    silent = Metadata(tasks=("complete",), weight_bytes=GIB)
    found = memory.estimate("onnxruntime", silent, Settings(context=512))
    assert found.weights_bytes == GIB
    assert found.confidence < memory.estimate("onnxruntime", DECODER, Settings(context=512)).confidence
    with pytest.raises(Invalid, match="strange"):
        memory.estimate("onnxruntime", silent, Settings(options={"strange": 1}))


def test_models_that_are_written_can_be_estimated(tmp_path: Path) -> None:
    write_decoder(tmp_path / "genai", layout="onnx_genai")
    write_decoder(tmp_path / "plain")
    write_encoder(tmp_path / "encoder")
    for name in ("genai", "plain", "encoder"):
        files = FolderFiles(tmp_path / name)
        [match] = detection.detect(files)
        found = memory.estimate("onnxruntime", metadata.extract(files, match), Settings(context=64))
        assert 60 * MIB < found.at(Settings(context=64)) < 200 * MIB
        assert found.confidence == 0.6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to cores")
def test_batches_are_counted_by_the_cores_that_may_be_used() -> None:
    """As vectorloading.py makes lanes for them."""
    settings, before = Settings(context=512), os.sched_getaffinity(0)
    one = memory.estimate("onnxruntime", ENCODER, Settings(context=512, options={"threads": 1}))
    os.sched_setaffinity(0, {min(before)})
    try:
        bound = memory.estimate("onnxruntime", ENCODER, settings)
    finally:
        os.sched_setaffinity(0, before)
    assert bound.overhead_bytes == one.overhead_bytes


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda info: info.name)
def test_what_names_files_of_this_machine_comes_from_this_machine_alone(backend: BackendInfo) -> None:
    assert {"providers", "provider_options"} <= set(backend.local_options)
