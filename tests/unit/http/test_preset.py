"""What the settings may let requests default to, by a table."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.http import preset

TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "request_fields",
    [
        {"temperature": 0.5, "max_tokens": 7, "stop": ["x"], "seed": -1},
        {"steps": 20, "guidance": 3.5, "size": "512x512", "voice": "a", "speed": 1},
        {
            "num_inference_steps": 20,
            "guidance_scale": 3.5,
            "width": 512,
            "height": 768,
            "quality": "hd",
            "strength": 0.5,
        },
        {"negative_prompt": "dogs", "scheduler": "DDIMScheduler", "loras": {"ink": 0.5}, "background": "opaque"},
        {"output_format": "webp", "output_compression": 80, "response_format": "url"},
        {"logprobs": True, "top_logprobs": 3},
        {"logprobs": 5, "echo": True},
        {"tools": [TOOL], "tool_choice": "auto", "chat_template_kwargs": {"enable_thinking": False}},
        {"chat_template": "{{ messages[0]['content'] }}"},
        {"reasoning_effort": "low", "response_format": {"type": "json_object"}},
        {"voice": "a", "language": "en", "response_format": "opus", "sample_rate": 8000, "speed": 1.5},
        {"response_format": "srt"},
        {"encoding_format": "base64", "dimensions": 64, "truncate": True},
        {"labels": ["cat", "dog"], "top_k": 3, "max_length": 20},
        {"a_backends_own": object()},
    ],
)
def test_what_a_rule_may_say(request_fields: dict[str, Any]) -> None:
    preset.check(request_fields, "here")


@pytest.mark.parametrize(
    ("request_fields", "said"),
    [
        *(
            ({name: "x"}, f"here.{name} is nothing that a rule may say")
            for name in ("model", "messages", "images", "question")
        ),
        ({"input": "x"}, "here.input is nothing that a rule may say"),
        ({"stream": True}, "here.stream is nothing that a rule may say"),
        ({"stream_format": "sse"}, "here.stream_format is nothing that a rule may say"),
        ({"response_format": "ogg"}, "'here.response_format': 'ogg'"),
        ({"sample_rate": "high"}, "'here.sample_rate': expected an integer"),
        ({"strength": 1.5}, "'here.strength': 1.5 is above"),
        ({"strength": 0}, "'here.strength': with 0 nothing changes"),
        ({"max_tokens": "x"}, "'here.max_tokens': expected an integer"),
        ({"max_tokens": True}, "'here.max_tokens': expected an integer"),
        ({"max_completion_tokens": -1}, "'here.max_completion_tokens': -1 is below"),
        ({"max_length": 0}, "'here.max_length': 0 is below"),
        ({"tools": 3}, "'here.tools': expected an array"),
        ({"tools": [{"type": "function"}]}, "'here.tools[0].function'"),
        ({"tool_choice": 3}, "'here.tool_choice': expected a string or an object"),
        ({"size": 512}, "'here.size': expected a string"),
        ({"size": "axb"}, "'here.size': 'axb' is none"),
        ({"width": 512}, "'here.height': it is missing"),
        ({"steps": 0}, "'here.steps': 0 is below"),
        ({"quality": "ultra"}, "'here.quality': 'ultra'"),
        ({"loras": {"ink": "much"}}, "'here.loras.ink': expected a number"),
        ({"partial_images": 1}, "here.partial_images is nothing that a rule may say"),
        ({"num_inferense_steps": 1}, "Did you mean num_inference_steps?"),
        ({"guidance": "high"}, "'here.guidance': expected a number"),
        ({"echo": 1}, "'here.echo': expected a boolean"),
        ({"encoding_format": "hex"}, "'here.encoding_format': 'hex'"),
        ({"logprobs": "all"}, "'here.logprobs': expected an integer"),
        ({"top_logprobs": 3}, "only allowed when 'logprobs' is enabled"),
        ({"stop": 3}, "'here.stop': expected a string or an array of strings"),
        ({"temprature": 1}, "here.temprature is no field of a request. Did you mean temperature?"),
        ({"temperature": float("nan")}, "'here.temperature': not a finite number"),
    ],
)
def test_what_it_may_not(request_fields: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as caught:
        preset.check(request_fields, "here")
    assert said in str(caught.value)
