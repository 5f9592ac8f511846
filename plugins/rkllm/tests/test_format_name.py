"""Names of .rkllm files and repositories, as they are in public, and what they say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anyform_rkllm.name import Name, parameters, parse, platforms, quantization

FILES: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B-Instruct-rk3588-w8a8-opt-0-hybrid-ratio-0.0": {
        "base": "Qwen2.5-0.5B-Instruct", "platforms": ("RK3588",), "quantization": "W8A8", "optimization": 0,
        "hybrid_ratio": 0.0, "parameters": 500_000_000,
    },
    "cogito-v1-preview-qwen-14B-rk3588-w8a8_g128-opt-1-hybrid-ratio-0.0": {
        "base": "cogito-v1-preview-qwen-14B", "platforms": ("RK3588",), "quantization": "W8A8_G128",
        "optimization": 1, "hybrid_ratio": 0.0, "parameters": 14_000_000_000,
    },
    "deepseek-llm-7b-chat-rk3588-w8a8_g256-opt-1-hybrid-ratio-0.5": {
        "base": "deepseek-llm-7b-chat", "platforms": ("RK3588",), "quantization": "W8A8_G256", "optimization": 1,
        "hybrid_ratio": 0.5, "parameters": 7_000_000_000,
    },
    "TinyLlama-1.1B-Chat-v1.0-rk3588-w8a8-opt-0-hybrid-ratio-0.5": {
        "base": "TinyLlama-1.1B-Chat-v1.0", "platforms": ("RK3588",), "quantization": "W8A8", "optimization": 0,
        "hybrid_ratio": 0.5, "parameters": 1_100_000_000,
    },
    "Qwen3-Embedding-0.6B-rk3588-w8a8_g256-opt-1-hybrid-ratio-0.0": {
        "base": "Qwen3-Embedding-0.6B", "platforms": ("RK3588",), "quantization": "W8A8_G256", "optimization": 1,
        "hybrid_ratio": 0.0, "parameters": 600_000_000,
    },
    "Llama-3.2-1B-Instruct_W8A8_RK3588": {
        "base": "Llama-3.2-1B-Instruct", "platforms": ("RK3588",), "quantization": "W8A8",
        "parameters": 1_000_000_000,
    },
    "DeepSeek-R1-Distill-Qwen-1.5B_W4A16_G128_RK3562": {
        "base": "DeepSeek-R1-Distill-Qwen-1.5B", "platforms": ("RK3562",), "quantization": "W4A16_G128",
        "parameters": 1_500_000_000,
    },
    "DeepSeek-R1-Distill-Qwen-1.5B_FP16_RK3588": {
        "base": "DeepSeek-R1-Distill-Qwen-1.5B", "platforms": ("RK3588",), "quantization": "FP16",
        "parameters": 1_500_000_000,
    },
    "qwen2.5-vl-3b-w8a8_level1_rk3588": {
        "base": "qwen2.5-vl-3b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 3_000_000_000,
    },
    "moss_qwen3_0.6b_w8a8_rk3588": {
        "base": "moss_qwen3_0.6b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 600_000_000,
    },
    "qwen3.5-0.8b_w8a8_rk3588": {
        "base": "qwen3.5-0.8b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 800_000_000,
    },
    "T-lite-it-2.1_W8A8_RK3588": {"base": "T-lite-it-2.1", "platforms": ("RK3588",), "quantization": "W8A8"},
    "gemma-3-1b-it-rk3576-w4a16": {
        "base": "gemma-3-1b-it", "platforms": ("RK3576",), "quantization": "W4A16", "parameters": 1_000_000_000,
    },
    "deepseek-r1-1.5B-rkllm1.1.4": {
        "base": "deepseek-r1-1.5B", "toolkit": "1.1.4", "parameters": 1_500_000_000,
    },
    "InternVL3-1B_w8a8_rk3576_v1.2.1": {
        "base": "InternVL3-1B", "platforms": ("RK3576",), "quantization": "W8A8", "toolkit": "1.2.1",
        "parameters": 1_000_000_000,
    },
    "Qwen2-VL-2B-Instruct_W4A16_RV1126B": {
        "base": "Qwen2-VL-2B-Instruct", "platforms": ("RV1126B",), "quantization": "W4A16",
        "parameters": 2_000_000_000,
    },
    "Qwen3-1.7B_w8a8_RK3576_v3": {
        "base": "Qwen3-1.7B", "platforms": ("RK3576",), "quantization": "W8A8", "parameters": 1_700_000_000,
        "rest": "v3",
    },
    "actionmodel_w8a8_RK3576_v1.1": {
        "base": "actionmodel", "platforms": ("RK3576",), "quantization": "W8A8", "rest": "v1.1",
    },
    "qwen2.5-1.5b-instruct_rk3576": {
        "base": "qwen2.5-1.5b-instruct", "platforms": ("RK3576",), "parameters": 1_500_000_000,
    },
    "LegalOne-4B_W8A8_RK3576": {
        "base": "LegalOne-4B", "platforms": ("RK3576",), "quantization": "W8A8", "parameters": 4_000_000_000,
    },
}  # fmt: skip
"""Public files."""

REPOSITORIES: dict[str, dict[str, Any]] = {
    "Qwen2.5-0.5B-Instruct-rk3588-1.1.4": {
        "base": "Qwen2.5-0.5B-Instruct", "platforms": ("RK3588",), "toolkit": "1.1.4", "parameters": 500_000_000,
    },
    "Qwen2.5-1.5B-Instruct-RK3588-1.1.4": {
        "base": "Qwen2.5-1.5B-Instruct", "platforms": ("RK3588",), "toolkit": "1.1.4", "parameters": 1_500_000_000,
    },
    "Qwen3-4B-rk3588-1.2.1-unsloth-16k": {
        "base": "Qwen3-4B", "platforms": ("RK3588",), "toolkit": "1.2.1", "context": 16384,
        "parameters": 4_000_000_000, "rest": "unsloth",
    },
    "DeepSeek-R1-Distill-Qwen-7B-RK3588S-RKLLM1.1.4": {
        "base": "DeepSeek-R1-Distill-Qwen-7B", "platforms": ("RK3588",), "toolkit": "1.1.4",
        "parameters": 7_000_000_000,
    },
    "Tinnyllama-1.1B-rk3588-rkllm-1.1.4": {
        "base": "Tinnyllama-1.1B", "platforms": ("RK3588",), "toolkit": "1.1.4", "parameters": 1_100_000_000,
    },
    "deepseek-llm-7b-chat-rk3588-1.1.1": {
        "base": "deepseek-llm-7b-chat", "platforms": ("RK3588",), "toolkit": "1.1.1", "parameters": 7_000_000_000,
    },
    "qwen3-vl-2b-instruct-rkllm-v123": {
        "base": "qwen3-vl-2b-instruct", "toolkit": "1.2.3", "parameters": 2_000_000_000,
    },
}  # fmt: skip
"""Public repositories, without their owners, and folders."""

OWN: dict[str, dict[str, Any]] = {
    "Phi-3-mini-4k-instruct-rk3588-w8a8": {
        "base": "Phi-3-mini-4k-instruct", "platforms": ("RK3588",), "quantization": "W8A8",
    },
    "qwen-1_8B-chat_ctx8192_rk3588": {
        "base": "qwen-1_8B-chat", "platforms": ("RK3588",), "context": 8192, "parameters": 1_800_000_000,
    },
    "rk3588-SmolLM2-135M-w8a8": {
        "base": "SmolLM2-135M", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 135_000_000,
    },
    "Some-Model-1.0.2-w8a8-rk3588": {
        "base": "Some-Model-1.0.2", "platforms": ("RK3588",), "quantization": "W8A8",
    },
    "Mixtral-8x7B-RK3588": {"base": "Mixtral-8x7B", "platforms": ("RK3588",), "parameters": 56_000_000_000},
    "Qwen3-4B-rk3588-w8a8-128k": {
        "base": "Qwen3-4B", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 4_000_000_000,
        "rest": "128k",
    },
    "Qwen3-4B-rk3576-w4a16-g32-1.2.1b1": {
        "base": "Qwen3-4B", "platforms": ("RK3576",), "quantization": "W4A16_G32", "toolkit": "1.2.1b1",
        "parameters": 4_000_000_000,
    },
    "Qwen3-4B-rk3576j-w8a8": {
        "base": "Qwen3-4B", "platforms": ("RK3576",), "quantization": "W8A8", "parameters": 4_000_000_000,
    },
    "rk3588.qwen2.5-7b.w8a8": {
        "base": "qwen2.5-7b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 7_000_000_000,
    },
    "Baichuan2-7B-Chat.RK3588.W8A8.1.2.1b1": {
        "base": "Baichuan2-7B-Chat", "platforms": ("RK3588",), "quantization": "W8A8", "toolkit": "1.2.1b1",
        "parameters": 7_000_000_000,
    },
    "SmolLM2-360M-Instruct.rk3576.w4a16_g32.RKLLM-v1.2.0": {
        "base": "SmolLM2-360M-Instruct", "platforms": ("RK3576",), "quantization": "W4A16_G32", "toolkit": "1.2.0",
        "parameters": 360_000_000,
    },
    "RK3588S_Qwen2.5-7B-Instruct_W8A8_G512": {
        "base": "Qwen2.5-7B-Instruct", "platforms": ("RK3588",), "quantization": "W8A8_G512",
        "parameters": 7_000_000_000,
    },
    "opt-1.3b-rk3588-w8a8": {
        "base": "opt-1.3b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 1_300_000_000,
    },
    "opt-350m-rk3588-opt-0": {
        "base": "opt-350m", "platforms": ("RK3588",), "optimization": 0, "parameters": 350_000_000,
    },
    "Hybrid-1B-rk3588": {"base": "Hybrid-1B", "platforms": ("RK3588",), "parameters": 1_000_000_000},
    "Qwen3-VL-2B_llm_w8a8_rk3588": {
        "base": "Qwen3-VL-2B", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 2_000_000_000,
    },
    "Some-LLM": {"base": "Some-LLM"},
    "Phi-3.5-mini-instruct": {"base": "Phi-3.5-mini-instruct"},
    "internlm2-chat-1_8b_W8A8_RK3588": {
        "base": "internlm2-chat-1_8b", "platforms": ("RK3588",), "quantization": "W8A8", "parameters": 1_800_000_000,
    },
    "TinyLlama-1.1B-Chat-v1.0_rkllm_1.1.4": {
        "base": "TinyLlama-1.1B-Chat-v1.0", "toolkit": "1.1.4", "parameters": 1_100_000_000,
    },
    "RKLLM1.2.1b1": {"toolkit": "1.2.1b1"},
    "Qwen3-4B_rk1828": {"base": "Qwen3-4B", "platforms": ("RK1828",), "parameters": 4_000_000_000},
    "model": {},
    "model_w8a8_rk3588": {"platforms": ("RK3588",), "quantization": "W8A8"},
    "gemma-3n-E2B-it": {"base": "gemma-3n-E2B-it"},
    "": {},
}  # fmt: skip
"""What is easily misread."""


@pytest.mark.parametrize(("name", "said"), [*FILES.items(), *REPOSITORIES.items(), *OWN.items()])
def test_what_a_name_says(name: str, said: dict[str, Any]) -> None:
    assert parse(name) == Name(**said)


@pytest.mark.parametrize("name", FILES)
def test_case_and_separators_matter_little(name: str) -> None:
    assert parse(name.upper()).platforms == parse(name).platforms
    assert parse(name.replace("-rk", "_RK").replace("-w8a8", "_W8A8")).quantization == parse(name).quantization


def test_any_text_is_read() -> None:
    chance = random.Random(7)
    pieces = [
        *"-_. ()/\\\0äß",
        "rk3588",
        "w8a8",
        "g128",
        "1.2.3",
        "opt-",
        "hybrid-ratio-",
        "0.5",
        "16k",
        "ctx",
        "7B",
        "²b",
    ]
    for _ in range(3000):
        text = "".join(chance.choices(pieces, k=chance.randrange(40)))
        said = parse(text)
        assert said.base in text
        assert said.context is None or 256 <= said.context <= 16384
    assert parse("x" * 100_000 + "-rk3588").platforms == ("RK3588",)
    assert parse("9" * 5000).parameters is None


def test_parts_of_names() -> None:
    assert parameters("Qwen2.5-0.5B") == 500_000_000
    assert parameters("T-lite") is None
    assert quantization("the dtype is w8a8_g512") == "W8A8_G512"
    assert quantization("int8") == ""
    assert platforms("rk3588s and RV1126B") == ("RK3588", "RV1126B")
