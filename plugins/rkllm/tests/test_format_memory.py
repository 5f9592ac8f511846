"""How much memory an RKLLM model is said to take, and how sure that is."""

from __future__ import annotations

from anyform.contract.facts import Metadata, Settings
from anyform_rkllm import memory

QWEN = {"layers": 24, "kv_heads": 2, "key_length": 64, "value_length": 64}
"""Qwen2.5-0.5B."""


def test_the_cache_by_config_json() -> None:
    said = Metadata(weight_bytes=1000, extra=QWEN)
    told = memory.estimate(said, Settings(context=4096))
    assert told.bytes_per_token == 12288
    assert told.at(Settings(context=4096)) == 1000 + (256 << 20) + 4096 * 12288
    assert told.confidence == 0.4


def test_requests_wait_for_one_cache() -> None:
    said = Metadata(weight_bytes=1000, extra=QWEN)
    for parallel in (1, 2, 4):
        settings = Settings(context=4096, parallel=parallel)
        assert memory.estimate(said, settings).at(settings) == memory.estimate(said, Settings()).at(
            Settings(context=4096)
        )


def test_a_guess_says_that_it_is_one() -> None:
    small, large, untold = (
        memory.estimate(Metadata(weight_bytes=1, parameters=count), Settings())
        for count in (500_000_000, 14_000_000_000, None)
    )
    assert 112 << 10 <= small.bytes_per_token < untold.bytes_per_token < large.bytes_per_token
    assert large.confidence == 0.2
    assert "guessed" in large.why


def test_strange_numbers_count_as_untold() -> None:
    for wrong in (-1, 0, True, "24", 1e9, None, 1 << 70):
        told = memory.estimate(Metadata(weight_bytes=1, extra=QWEN | {"layers": wrong}), Settings())
        assert told.confidence == 0.2
    huge = dict.fromkeys(QWEN, (1 << 20) - 1)
    assert memory.estimate(Metadata(extra=huge), Settings()).bytes_per_token == 1 << 30


def test_an_encoder_of_pictures_takes_memory_too() -> None:
    told = memory.estimate(Metadata(weight_bytes=100, extra=QWEN | {"vision_bytes": 1000}), Settings())
    assert told.weights_bytes == 1600
    assert "encoder" in told.why
