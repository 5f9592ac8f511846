"""What a picture costs, as the files of well-known models tell it; and what such models do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.pretrained import architecture
from anyform.pretrained.configuration import Configuration
from anyform_hf_transformers import memory, vision

LLAVA = {"vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096, "patch_size": 14}}
NEXT = {**LLAVA, "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]}
QWEN2 = {"vision_config": {"embed_dim": 1280, "mlp_ratio": 4, "patch_size": 14, "spatial_merge_size": 2,
                           "hidden_size": 3584}}  # fmt: skip
SMOL = {"scale_factor": 4, "vision_config": {"hidden_size": 768, "image_size": 512, "patch_size": 16,
                                             "intermediate_size": 3072}}  # fmt: skip
GEMMA3 = {"mm_tokens_per_image": 256, "vision_config": {"hidden_size": 1152, "image_size": 896, "patch_size": 14,
                                                        "intermediate_size": 4304}}  # fmt: skip
FLORENCE = {"vision_config": {"embed_dim": [128, 256, 512, 1024], "patch_size": [7, 3, 3, 3],
                              "patch_stride": [4, 2, 2, 2]}}  # fmt: skip
INTERN = {"downsample_ratio": 0.5, "vision_config": {"hidden_size": 1024, "image_size": [448, 448],
                                                     "patch_size": [14, 14], "intermediate_size": 4096}}  # fmt: skip
COSTS: list[tuple[dict[str, Any], dict[str, Any], tuple[int, int, int, int]]] = [
    (LLAVA, {"size": {"shortest_edge": 336}}, (576, 576, 1024, 4096)),
    (NEXT, {}, (5 * 576, 5 * 576, 1024, 4096)),
    (QWEN2, {"merge_size": 2, "max_pixels": 12_845_056}, (65_536, 16_384, 1280, 5120)),
    (QWEN2, {"merge_size": 2, "size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}, (5120, 1280, 1280, 5120)),
    (SMOL, {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}, (17_408, 1088, 768, 3072)),
    (GEMMA3, {"size": {"height": 896, "width": 896}}, (4096, 256, 1152, 4304)),
    (FLORENCE, {"size": {"height": 768, "width": 768}}, (36_864, 576, 128, 512)),
    (INTERN, {"crop_to_patches": True, "max_patches": 12}, (13_312, 3328, 1024, 4096)),
]


@pytest.mark.parametrize(("config", "processor", "costs"), COSTS)
def test_what_a_picture_costs(config: dict[str, Any], processor: dict[str, Any], costs: tuple[int, ...]) -> None:
    found = vision.picture(config, processor)
    assert tuple(found[name] for name in ("patches", "tokens", "width", "feed_forward")) == costs


def test_what_files_do_not_tell_is_left_out() -> None:
    nonsense: list[Any] = [None, "x", -3, 1.5, [], [[]], {}, [None], 1 << 70, True, {"longest_edge": "x"}]
    for value in nonsense:
        for name in ("patch_size", "image_size", "hidden_size", "patch_stride", "mlp_ratio", "spatial_merge_size"):
            given = {"vision_config": {**LLAVA["vision_config"], name: value}, "downsample_ratio": value}
            processor = {"size": value, "max_image_size": value, "merge_size": value, "max_patches": value}
            found = vision.picture({**given, "image_grid_pinpoints": value}, processor)
            assert all(type(number) is int and number > 0 for number in found.values())
    assert vision.picture({}, {}) == vision.picture({"vision_config": []}, {}) == {}


@pytest.mark.parametrize(
    ("architecture_name", "kind", "template", "tasks"),
    [
        ("LlavaForConditionalGeneration", "llava", "{{ x }}", ("chat", "complete", "caption", "answer")),
        ("Qwen2VLForConditionalGeneration", "qwen2_vl", "{{ x }}", ("chat", "complete", "caption", "answer")),
        ("SmolVLMForConditionalGeneration", "smolvlm", "{{ x }}", ("chat", "complete", "caption", "answer")),
        ("Florence2ForConditionalGeneration", "florence2", "", ("caption", "answer", "chat")),
    ],
)
def test_what_models_that_see_do(architecture_name: str, kind: str, template: str, tasks: tuple[str, ...]) -> None:
    config = Configuration({"architectures": [architecture_name], "model_type": kind, **LLAVA})
    assert architecture.tasks(config, None, template) == tasks
    assert "vision" in architecture.features(config, tasks, template, [])


def test_a_picture_is_part_of_the_estimate() -> None:
    plain = Metadata(
        tasks=("chat",), parameters=7_000_000_000, vocab_size=32_000, context=8192,
        extra={"layers": 32, "heads": 32, "kv_heads": 32, "key_length": 128, "value_length": 128,
               "embedding_length": 4096, "feed_forward_length": 11008, "dtype": "BF16"},
    )  # fmt: skip
    settings = Settings(context=4096, parallel=1, device="cuda:0")

    def overhead(metadata: Metadata, context: int = 4096) -> int:
        return memory.estimate(metadata, replace(settings, context=context)).overhead_bytes

    costs = {"patches": 65_536, "tokens": 16_384, "width": 1280, "feed_forward": 5120}
    seeing = replace(plain, extra={**plain.extra, "picture": costs})
    more = overhead(seeing) - overhead(plain)
    looked_at = 4 * 4096 * (2 * 5120 + 6 * 1280) * 2  # no more patches than the context holds tokens of, 4 for each
    assert more > looked_at
    assert overhead(seeing, 1024) < overhead(seeing) < overhead(seeing, 8192)
    small = replace(plain, extra={**plain.extra, "picture": {**costs, "patches": 64, "tokens": 16}})
    assert 0 < overhead(small) - overhead(plain) < 4 << 20
