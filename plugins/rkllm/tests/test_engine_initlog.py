"""What the library prints when it starts, read: the lines of public logs, and others than those."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

import pytest

from anyform.contract.errors import EngineMissing, Fault, LoadFailed, OutOfMemory
from anyform_rkllm import initlog
from anyform_rkllm.info import BACKEND, CONTEXT
from anyform_rkllm.initlog import ContextLimit, Limits, OldRuntime, WrongPlatform

pytestmark = pytest.mark.engine

MOST_CONTEXT = 16384
"""That models are made for, since 1.2.0."""

FIRST = "I rkllm: rkllm-runtime version: 1.2.1, rknpu driver version: 0.9.8, platform: RK3588\n"
SECOND = (
    "I rkllm: rkllm-toolkit version: 1.2.1b1, max_context_limit: 4096, npu_core_num: 3, target_platform: RK3588, "
    "model_dtype: W8A8\n"
)


def test_the_two_lines_are_read() -> None:
    assert initlog.limits(FIRST + "I rkllm: loading rkllm model from ./platform: X\n" + SECOND) == Limits(
        runtime="1.2.1",
        driver="0.9.8",
        platform="X",  # the last word counts: a path is not told from a fact
        toolkit="1.2.1b1",
        context=4096,
        cores=3,
        target="RK3588",
        dtype="W8A8",
    )


def test_order_and_what_is_missing_do_not_matter() -> None:
    text = "x model_dtype: W4A16_G128, target_platform: RK3576\nplatform: RV1126B rkllm-toolkit version: unknown"
    assert initlog.limits(text) == Limits(platform="RV1126B", target="RK3576", dtype="W4A16_G128", toolkit="unknown")
    assert initlog.limits("") == Limits()
    assert initlog.limits("max_context_limit: many, npu_core_num: 99999") == Limits()
    assert initlog.limits("\0\xff platform:") == Limits()


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (
            "E rkllm: max_context[16384] must be less than the model's max_context_limit[4096]",
            ContextLimit,
            "context of 16384, and was converted for at most 4096. Use --context 4096",
        ),
        (
            FIRST
            + SECOND.replace("RK3588", "RK3576")
            + "E rkllm: the model's target_platform does not match the real platform",
            WrongPlatform,
            "converted for RK3576, and this is RK3588",
        ),
        ("E rkllm: invalid rkllm model!", LoadFailed, "does not take m.rkllm for a model: invalid rkllm model!. Its"),
        (
            FIRST + "E rkllm: The rkllm-runtime version is lower than the rkllm-toolkit version",
            OldRuntime,
            "converted by a newer toolkit than librkllmrt.so 1.2.1",
        ),
        (
            FIRST
            + SECOND.replace("1.2.1b1", "1.3.0")
            + "The rkllm-runtime version is lower than the rkllm-toolkit version",
            EngineMissing,
            "Install librkllmrt.so 1.3.0 or newer",
        ),
        (
            "E RKNN: [09:40:45.140] failed to allocate handle, ret: -1, errno: 14, errstr: Bad address\n"
            "E RKNN: [09:40:45.140] failed to malloc npu memory, size: 3085697024, flags: 0x2\n"
            "E RKNN: [09:40:45.148] load model file error!\nE rkllm: rkllm_init failed",
            OutOfMemory,
            "failed to allocate handle, ret: -1, errno: 14",
        ),
        ("ggml_calloc: failed to allocate   0.00 MB", OutOfMemory, "0.00 MB"),
        ("Error: iommu_context->weight_memory is NULL", OutOfMemory, "weight_memory is NULL"),
        ("errno: 12, errstr: Cannot allocate memory\ninvalid rkllm model!", OutOfMemory, "Cannot allocate memory"),
        ("some\n\nother words\n", LoadFailed, r"rkllm_init returned -7\): some \| other words"),
        ("", LoadFailed, "and said nothing. Set log_level=2"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(text: str, kind: type[Fault], told: str) -> None:
    fault = initlog.refusal(text, "m.rkllm", -7)
    assert isinstance(fault, kind)
    assert told in str(fault) or re.search(told, str(fault)), str(fault)
    assert "m.rkllm" in fault.message
    assert ".." not in str(fault)


REVIVE = (
    "import json, sys; from anyform.contract.errors import Fault, LoadFailed; "
    "print(isinstance(Fault.revive(json.loads(sys.argv[1])), LoadFailed))"
)


def test_a_context_over_the_limit_can_be_tried_with_less() -> None:
    fault = initlog.refusal("max_context[9] must be less than the model's max_context_limit[8]", "m")
    assert isinstance(fault, LoadFailed)  # what the kernel's loads reduce for
    foreign = subprocess.run(
        [sys.executable, "-c", REVIVE, json.dumps(fault.as_dict())], capture_output=True, text=True, check=True
    )
    assert foreign.stdout == "True\n"  # in the kernel's process, which has not this module
    assert (fault.details["context"], fault.details["limit"]) == (9, 8)


def test_a_model_of_another_board_is_not_tried_with_less() -> None:
    fault = initlog.refusal("the model's target_platform does not match the real platform", "m")
    assert isinstance(fault, WrongPlatform)
    assert not isinstance(fault, LoadFailed | OutOfMemory)


def test_the_reductions_reach_the_usual_context_from_the_largest() -> None:
    factors = [one.context_factor for one in BACKEND.reductions]
    assert MOST_CONTEXT * math.prod(factors) == CONTEXT
    assert len({one.why for one in BACKEND.reductions}) == len(factors)


def test_long_output_is_quoted_from_its_end() -> None:
    fault = initlog.refusal("\n".join(f"line {number}" for number in range(1000)), "m")
    assert "line 999" in fault.message
    assert "line 1 " not in fault.message
    assert len(fault.message) < 400


def test_what_does_not_agree_is_noted() -> None:
    told = initlog.limits(FIRST + SECOND)
    assert initlog.notes(told, "1.2.1") == initlog.notes(Limits(), "1.2.1") == ()
    assert initlog.notes(told, "1.2.3") == ("librkllmrt.so says that it is 1.2.1, and its file says 1.2.3",)
    low = "W rkllm: Warning: Your rknpu driver version is too low, please upgrade to 0.9.7"
    assert initlog.notes(Limits(), text=f"{FIRST}{low}\n") == (low.removeprefix("W rkllm: "),)
    [note] = initlog.notes(Limits(platform="RK3588", target="RK3576"))
    assert "converted for RK3576" in note
