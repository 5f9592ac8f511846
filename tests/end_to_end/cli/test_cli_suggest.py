"""`anyform suggest`: for people, for pipes and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anyform.sources.suggestion import suggestions


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Settings with a list of suggestions of one's own."""
    listed = tmp_path / "mine.toml"
    listed.write_text(
        '[[model]]\nname = "me/large:Q8_0"\ntasks = ["chat"]\nsize_gb = 9\nwhy = "for the evening"\n'
        '[[model]]\nname = "me/small"\ntasks = ["embed", "rerank"]\nsize_gb = 0.5\n'
    )
    settings = tmp_path / "anyform.toml"
    settings.write_text(f'[server]\nsuggestions = "{listed.as_posix()}"\n')
    return settings


def test_a_table_the_smallest_first(cli: Any, mine: Path) -> None:
    done = cli("suggest", "--config", mine)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["NAME", "TASKS", "SIZE", "WHY"]
    assert [row.split("  ")[0] for row in rows] == ["me/small", "me/large:Q8_0"]
    assert rows[0].split() == ["me/small", "embed", "rerank", "476.8", "MiB", "-"]
    assert rows[1].endswith("8.4 GiB    for the evening")
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == "`anyform pull NAME` fetches one\n"


def test_what_nothing_here_reads_is_told(cli: Any, mine: Path) -> None:
    (mine.parent / "mine.toml").write_text(
        '[[model]]\nname = "me/odd"\nformat = "tablets"\nwhy = "old"\n[[model]]\nname = "me/echo"\nformat = "command"\n'
    )
    rows = cli("suggest", "--config", mine).stdout.splitlines()[1:]
    assert rows[0].split() == ["me/echo", "-", "-", "-"]
    assert rows[1].endswith("  old; nothing that can be used here reads tablets")


def test_task_and_size_narrow_it(cli: Any, mine: Path) -> None:
    assert "me/small" not in cli("suggest", "--config", mine, "--task", "chat").stdout
    assert "me/large" not in cli("suggest", "--config", mine, "--most", "1.5GiB").stdout
    done = cli("suggest", "--config", mine, "--task", "rerank", "--most", "100MB")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "nothing is suggested for rerank up to 95.4 MiB\n"
    assert [one["name"] for one in cli.json("suggest", "--config", mine, "--task", "embed")] == ["me/small"]


def test_as_json_anyforms_own_in_full(cli: Any) -> None:
    found = {one["name"]: one for one in cli.json("suggest")}
    for own in suggestions():
        one = found[own.name]
        assert (one["tasks"], one["size_bytes"], one["why"]) == (list(own.tasks), own.size_bytes, own.why)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--task", "paint"), 2, "'paint' is no task; there are chat, complete"),
        (("--most", "4 apples"), 2, "'4 apples' is no size such as 4GB"),
        (("Qwen",), 2, "one argument too many"),
    ],
)
def test_what_cannot_be_followed_is_said_in_a_line(
    cli: Any, arguments: tuple[str, ...], status: int, said: str
) -> None:
    done = cli("suggest", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_list_of_ones_own_that_cannot_be_read_is_a_failure(cli: Any, mine: Path) -> None:
    (mine.parent / "mine.toml").write_text("[[model")
    done = cli("suggest", "--config", mine)
    assert (done.returncode, done.stdout) == (1, "")
    assert "mine.toml is no file of suggestions" in done.stderr
