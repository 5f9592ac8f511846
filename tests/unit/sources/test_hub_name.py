"""Names of repositories, and the suggestions that carry them."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.errors import Invalid
from anyform.sources.hub import Patience, is_inside
from anyform.sources.hubmeter import Meter
from anyform.sources.hubname import Reference, parsed, require
from anyform.sources.suggestion import suggestions


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("owner/repo", Reference(repository="owner/repo")),
        ("owner/repo:Q8_0", Reference(repository="owner/repo", variant="Q8_0")),
        ("owner/repo:latest", Reference(repository="owner/repo")),
        ("hf.co/owner/repo:Q4_K_M", Reference(repository="owner/repo", variant="Q4_K_M")),
        ("https://huggingface.co/owner/repo.x-1_2/", Reference(repository="owner/repo.x-1_2")),
        ("owner/repo@v1.0:Q8_0", Reference(repository="owner/repo", variant="Q8_0", revision="v1.0")),
        ("owner/repo@refs/pr/1", Reference(repository="owner/repo", revision="refs/pr/1")),
        ("https://huggingface.co/owner/repo/tree/main", Reference(repository="owner/repo")),
        ("https://huggingface.co/owner/repo/tree/v1.0/", Reference(repository="owner/repo", revision="v1.0")),
        ("https://hf.co/owner/repo/tree/refs%2Fpr%2F1", Reference(repository="owner/repo", revision="refs/pr/1")),
        ("https://huggingface.co/owner/repo/tree/main/BF16", Reference(repository="owner/repo", variant="BF16")),
        ("https://huggingface.co/owner/repo/blob/main/x-1.5.gguf", Reference(repository="owner/repo", variant="x-1.5")),
        (
            "https://huggingface.co/owner/repo/resolve/v1/Q8_0/x.gguf?download=true",
            Reference(repository="owner/repo", variant="x", revision="v1"),
        ),
        (
            "https://huggingface.co/owner/repo?show_file_info=Q8_0%2Fx.gguf",
            Reference(repository="owner/repo", variant="x"),
        ),
    ],
)
def test_what_names_mean(text: str, meant: Reference) -> None:
    assert parsed(text) == meant
    assert parsed(str(meant)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "repo",
        "a/b/c",
        "/owner/repo",
        "../repo",
        "owner/..",
        "owner/re po",
        "o--x/y",
        "a/b:",
        "a/b\n",
        "~/x",
        "a/b/tree/main",
        "https://hf.co/a/tree/main",
    ],
)
def test_what_is_no_name(text: str) -> None:
    assert parsed(text) is None
    with pytest.raises(Invalid, match="owner/repo"):
        require(text)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a\\b", "c:x", "", ".", "a\nb"])
def test_a_listing_leads_nowhere_else(name: str) -> None:
    assert not is_inside(name)


def test_waits_double_up_to_a_limit_and_follow_the_hub() -> None:
    patience = Patience(wait_s=0.5, longest_s=3)
    assert [patience.before(attempt, 0) for attempt in (2, 3, 4, 5, 6)] == [0.5, 1, 2, 3, 3]
    assert patience.before(2, 17) == 17


def test_a_meter_never_counts_lost_bytes_as_fetched() -> None:
    meter = Meter("m")
    meter.expect(100, 1, 10, 0)
    meter.count(50)
    meter.count(-60)
    meter.count(30)
    state = meter.state()
    assert (state.done_bytes, state.fetched_bytes, state.total_bytes) == (30, 80, 100)


def test_every_suggestion_can_be_pulled_by_its_name() -> None:
    found = suggestions()
    assert len(found) >= 8
    for one in found:
        one_form = "faster-whisper" in one.name  # CTranslate2 computes in any type: its repositories hold one file
        assert bool(require(one.name).variant) is not one_form
        assert one.tasks
        assert one.size_bytes > 10**8
        assert one.why


def test_a_file_of_ones_own_replaces_them_and_a_broken_one_is_said(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[[model]]\nname = "me/mine:Q8_0"\ntasks = ["chat"]\nsize_gb = 1\n')
    assert [one.name for one in suggestions(file)] == ["me/mine:Q8_0"]
    for text in ("[[model", "x = 1", '[[model]]\ntasks = ["chat"]'):
        file.write_text(text)
        with pytest.raises(Invalid, match=r"mine\.toml"):
            suggestions(file)
