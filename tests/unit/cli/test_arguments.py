"""Arguments and the settings they mean."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import pytest

from anyform import rules
from anyform.cli import arguments
from anyform.cli.arguments import merged, natural, option, positive, size, task
from anyform.cli.serve import port
from anyform.contract.facts import Evidence, FormatMatch, Settings
from anyform.kernel.entry import Entry

MATCH = FormatMatch(format="echo", entry="m.echo", files=("m.echo",), evidence=Evidence.MAGIC, why="so")
M = Entry(name="m", path="/", plugin="echo", match=MATCH)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=4", 4),
        ("n=true", True),
        ("n=text", "text"),
        ("n=a=b", "a=b"),
        ("n=", ""),
        ('n=["x"]', ["x"]),
        ("n=007", "007"),
        ("n=NaN", "NaN"),
    ],
)
def test_options_are_json_where_they_can_be(text: str, value: Any) -> None:
    assert option(text) == ("n", value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (option, "n"),
        (option, "=4"),
        (positive, "0"),
        (positive, "-1"),
        (positive, "x"),
        (natural, "-1"),
        (natural, "x"),
        (port, "70000"),
        (port, "-1"),
    ],
)
def test_what_is_not_valid_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not"):
        kind(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4 * 10**9),
        ("1.5GiB", 3 << 29),
        ("800M", 800 * 10**6),
        ("2 k", 2000),
        ("512 KiB", 512 << 10),
        ("1tib", 1 << 40),
        ("17", 17),
        ("17 B", 17),
        ("0", 0),
    ],
)
def test_sizes_are_decimal_unless_they_say_otherwise(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "4 apples", "1.GB", "inf", "nan", "1 0GB", "٤GB", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no size such as 4GB"):
        size(text)


def test_a_task_is_one_that_there_is() -> None:
    assert task("embed") == "embed"
    with pytest.raises(ArgumentTypeError, match="'' is no task; there are chat, complete, embed"):
        task("")


def test_merging_takes_the_upper_where_it_says_something() -> None:
    under = Settings(context=1, parallel=2, device="cpu", options={"a": 1, "b": 1})
    over = Settings(context=3, options={"b": 2})
    assert merged(under, over) == Settings(context=3, parallel=2, device="cpu", options={"a": 1, "b": 2})


def read(tmp_path: Path, text: str, *given: str) -> Any:
    file = tmp_path / "anyform.toml"
    file.write_text(text)
    parser = ArgumentParser()
    arguments.add_library(parser)
    arguments.add_settings(parser)
    return arguments.read_config(parser.parse_args([*given, "--config", str(file)]))


def test_the_command_line_goes_over_the_models_own_settings(tmp_path: Path) -> None:
    text = "[defaults]\ncontext = 1\nparallel = 1\n[model.m]\ncontext = 2\n"
    found = read(tmp_path, text)
    assert (found.defaults.context, rules.of(found)(M).settings) == (1, Settings(context=2, parallel=1))
    found = read(tmp_path, text, "--context", "3", "--option", "x=1")
    assert found.defaults == Settings(context=3, parallel=1, options={"x": 1})
    assert rules.of(found)(M).settings == Settings(context=3, parallel=1, options={"x": 1})


def test_lists_of_the_command_line_come_before_the_files(tmp_path: Path) -> None:
    found = read(tmp_path, 'prefer = ["b"]\n[models]\nfolders = ["/m"]', "--prefer", "a", "--models", "n")
    assert found.prefer == ("a", "b")
    assert found.models.folders[-1] == Path("n")


def test_what_is_named_on_the_command_line_is_all_there_is(tmp_path: Path) -> None:
    text = '[models]\nfolders = ["/m"]\npaths = ["/p"]\n'
    assert read(tmp_path, text).models.folders == (Path("/m").absolute(),)
    found = read(tmp_path, text, "--models", "n").models
    assert (found.paths, found.folders, found.sources) == ((), (Path("n"),), ())
    named = Namespace(config=tmp_path / "anyform.toml", paths=[Path("a.gguf")], models=[])
    found = arguments.read_config(named).models
    assert (found.paths, found.folders, found.sources) == ((Path("a.gguf"),), (), ())


def test_commands_without_these_arguments_read_the_file_alone(tmp_path: Path) -> None:
    assert arguments.read_config(Namespace(config=None)) is not None
