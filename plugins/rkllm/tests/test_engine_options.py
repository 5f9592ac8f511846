"""Load options: what each takes, and what it says to what it does not."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform_rkllm import options
from anyform_rkllm.board import BOARDS
from anyform_rkllm.engine import cpu_mask
from anyform_rkllm.info import BACKEND
from anyform_rkllm.options import Cpus, Lora, Options, read

pytestmark = pytest.mark.engine


def test_nothing_said_is_the_library_s_own_way() -> None:
    assert read({}) == Options()
    assert read({}).sampling == {}
    assert read({"top_p": None}) == Options()


def test_every_option_is_checked_and_told_of() -> None:
    names = {field.name for field in fields(Options)}
    assert names == set(options._CHECKS)
    assert set(BACKEND.local_options) <= names
    source = inspect.getsource(Options)
    told = [name for name in names if f"\n    {name}:" in source]
    assert sorted(told) == sorted(names)


def test_values_are_taken_as_they_are_written_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "a.rkllm"
    file.write_bytes(b"x")
    found = read(
        {
            "max_new_tokens": "100",
            "cpus": "0xf0",
            "loras": {"polite": str(file), "rude": {"path": file, "scale": "0.5"}},
            "lora": "rude",
            "temperature": "0.5",
            "top_k": 3,
            "stand_in": "on",
            "base_domain_id": 2,
            "prompt_cache": tmp_path / "new.cache",
            "prompt_cache_save": True,
            "template": "library",
            "vision": "none",
        }
    )
    assert found.cpus == Cpus(mask=0xF0)
    assert found.loras == {"polite": Lora(str(file)), "rude": Lora(str(file), 0.5)}
    assert found.sampling == {"temperature": 0.5, "top_k": 3}
    assert (found.max_new_tokens, found.stand_in, found.base_domain_id) == (100, True, 2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"heat": 1}, "unknown load option 'heat'"),
        ({"cpus": "0x0"}, 'a mask such as "0xF0"'),
        ({"cpus": 0}, 'a mask such as "0xF0"'),
        ({"cpus": "0x1FFFFFFFF"}, 'a mask such as "0xF0"'),
        ({"loras": "file"}, "a table of paths by name"),
        ({"loras": {"a": "/nowhere/at/all"}}, "a file that exists"),
        ({"loras": {"a": {"paths": "x"}}}, "{path, scale}"),
        ({"lora": "a"}, "Give loras a path by that name"),
        ({"prompt_cache": "/nowhere/at/all"}, "in a folder that exists"),
        ({"prompt_cache": "/"}, "the path of a file"),
        ({"prompt_cache_save": True}, "Give prompt_cache its path"),
        ({"top_p": 1.5}, "from 0 to 1"),
        ({"temperature": -1}, "0 or more"),
        ({"frequency_penalty": float("nan")}, "a number"),
        ({"presence_penalty": True}, "a number"),
        ({"mirostat": 3}, "0 to 2"),
        ({"base_domain_id": 16}, "0 to 15"),
        ({"template": "none"}, "one of model, library"),
        ({"log_level": 9}, "0 to 2"),
        ({"image_start": "a\0b"}, "a text"),
        ({"vision": "/nowhere/at/all"}, "a file that exists"),
        ({"library": ""}, None),
    ],
)
def test_what_it_cannot_be_is_refused_with_what_it_may_be(given: dict[str, Any], told: str | None) -> None:
    if told is None:
        assert read(given) == Options()
        return
    with pytest.raises(Invalid) as caught:
        read(given)
    assert told in str(caught.value)


def test_the_cpus_are_the_board_s_fast_ones_unless_it_is_said_otherwise() -> None:
    fast, slow = BOARDS["RK3588"], BOARDS["RK3562"]
    assert cpu_mask(None, None) == 0
    assert cpu_mask(None, fast) == 0xF0
    assert cpu_mask(Cpus(mask=0x3), fast) == 0x3
    assert cpu_mask(Cpus(count=2), fast) == 0xC0
    assert cpu_mask(Cpus(count=5), fast) == 0xF1
    assert cpu_mask(Cpus(count=2), slow) == 0x0C
    assert cpu_mask(Cpus(count=3), None) == 0x07
