"""Load options: known ones are checked, unknown ones refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import Invalid
from anyform.text.processor import cores
from anyform_gguf_llamacpp import options
from anyform_gguf_llamacpp.options import Lora


def test_defaults() -> None:
    assert options.read({}) == options.Options()
    assert options.read({"gpu_layers": None}) == options.Options()


def test_every_option_has_a_check() -> None:
    assert set(options._CHECKS) == set(options.Options.__dataclass_fields__)


def test_an_unknown_option_names_the_known() -> None:
    with pytest.raises(Invalid, match="n_gpu_layers") as caught:
        options.read({"n_gpu_layers": 1})
    assert "gpu_layers" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpu_layers", -2),
        ("gpu_layers", "all"),
        ("threads", 0),
        ("threads", 513),
        ("threads", True),
        ("batch", 1.5),
        ("mmap", "maybe"),
        ("flash_attention", 3),
        ("cache_type_k", "q3_k"),
        ("rope_freq_base", -1),
        ("rope_freq_scale", "x"),
        ("mmproj", "/nowhere/mmproj.gguf"),
        ("lora", "/nowhere/lora.gguf"),
        ("lora", [{"scale": 1.0}]),
        ("pooling", "sum"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(Invalid, match=name):
        options.read({name: value})


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("gpu_layers", "12", 12),
        ("use_extra_bufts", "off", False),
        ("use_extra_bufts", False, False),
        ("flash_attention", "auto", None),
        ("flash_attention", "on", True),
        ("rope_freq_base", "10000", 10000.0),
        ("cache_type_v", "q8_0", "q8_0"),
    ],
)
def test_words_from_a_command_line_are_read(name: str, value: Any, meant: Any) -> None:
    assert getattr(options.read({name: value}), name) == meant


def test_lora_takes_a_path_or_a_list(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.touch()
    assert options.read({"lora": str(file)}).lora == (Lora(str(file)),)
    assert options.read({"lora": [{"path": str(file), "scale": 0.5}]}).lora == (Lora(str(file), 0.5),)


def test_threads_that_share_a_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for cpu, mask in enumerate(["5", "a", "5", "a"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings").write_text(mask)
    assert cores(tmp_path) == 2
    assert cores(tmp_path / "nowhere") == 4
