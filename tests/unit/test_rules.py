"""Which table of the settings says what about a model: names, aliases, groups, patterns, formats, in their order."""

from __future__ import annotations

from typing import Any

import pytest

from anyform import rules
from anyform.config import Config, ModelConfig, Models
from anyform.contract.facts import Evidence, FormatMatch, Settings
from anyform.kernel.entry import Entry
from anyform.kernel.rule import Rule
from anyform.sources.derived import Derived
from anyform.sources.recipe import Recipe


def entry(name: str = "owner/Repo:Q8_0", format: str = "gguf", **more: Any) -> Entry:
    match = FormatMatch(format=format, entry="m", files=("m",), evidence=Evidence.MAGIC, why="so")
    return Entry(name=name, path="/", plugin="p", match=match, **more)


def rule(config: Config, of: Entry | None = None) -> Rule:
    return rules.of(config)(of or entry(groups=("owner/Repo",), aliases=("repo-small",)))


def test_without_tables_the_defaults_stand() -> None:
    assert rule(Config(defaults=Settings(context=3))) == Rule(settings=Settings(context=3))


LAYERS = [
    ("defaults", {}),
    ("format", {"format": {"GGUF": ModelConfig(context=2)}}),
    ("pattern", {"model": {"OWNER/*": ModelConfig(context=3)}}),
    ("later pattern", {"model": {"owner/*": ModelConfig(context=99), "*Q8_?": ModelConfig(context=4)}}),
    ("group", {"model": {"owner/repo": ModelConfig(context=5), "*": ModelConfig(context=99)}}),
    ("other name", {"model": {"repo-small": ModelConfig(context=6), "owner/repo": ModelConfig(context=99)}}),
    ("alias", {"model": {"mine": ModelConfig(context=7), "repo-small": ModelConfig(context=99)}}),
    ("name", {"model": {"owner/repo:q8_0": ModelConfig(context=8), "mine": ModelConfig(context=99)}}),
    ("command line", {"asked": Settings(context=9), "model": {"owner/Repo:Q8_0": ModelConfig(context=99)}}),
]


@pytest.mark.parametrize("place", range(len(LAYERS)), ids=[name for name, _ in LAYERS])
def test_each_layer_goes_over_those_before_it(place: int) -> None:
    given: dict[str, Any] = {"format": {}, "model": {}}
    for _, tables in LAYERS[1 : place + 1]:
        for key, table in tables.items():
            given[key] = {**given[key], **table} if isinstance(table, dict) else table
    config = Config(defaults=Settings(context=1), models=Models(aliases={"mine": "owner/repo:Q8_0"}), **given)
    assert rule(config).settings.context == place + 1


@pytest.mark.parametrize("name", ["other", "*Q4*", "repo", "gguf"])
def test_tables_of_other_models_say_nothing(name: str) -> None:
    assert rule(Config(model={name: ModelConfig(context=1)}, format={"onnx": ModelConfig(context=2)})) == Rule()


def test_fields_are_laid_one_by_one() -> None:
    format = ModelConfig(
        backend="a", fallback=False, system="s", options={"x": 1, "y": 1}, request={"seed": 1, "top_k": 1}, keep_alive=5
    )
    model = ModelConfig(fallback=True, pin=True, where="here", options={"y": 2}, request={"top_k": 2}, keep_alive="2m")
    assert rule(Config(format={"gguf": format}, model={"*": model})) == Rule(
        settings=Settings(options={"x": 1, "y": 2}),
        backend="a",
        fallback=True,
        where="here",
        pin=True,
        keep_alive_s=120.0,
        system="s",
        request={"seed": 1, "top_k": 2},
    )


def test_dtype_is_an_option_of_the_backend_and_goes_under_the_option_itself() -> None:
    assert rule(Config(model={"*": ModelConfig(dtype="f16")})).settings.options == {"dtype": "f16"}
    both = ModelConfig(dtype="f16", options={"dtype": "f32"})
    assert rule(Config(model={"*": both})).settings.options == {"dtype": "f32"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (300, 300.0),
        (0.5, 0.5),
        (-1, -1.0),
        ("300", 300.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("-1", -1.0),
        ("2d", 172800.0),
        ("soon", None),
        ("", None),
        ("5 m", None),
        ("1h30", None),
        (float("nan"), None),
    ],
)
def test_stretches_of_time(text: float | str, wanted: float | None) -> None:
    assert rules.seconds(text) == wanted


TALK = ({"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"})


def created(base: Entry | None) -> Derived:
    recipe = Recipe(
        name="mario",
        system="recipe",
        request={"temperature": 2, "top_p": 2},
        settings=Settings(context=2),
        messages=TALK,
        chat_template="T",
    )
    kept = base or entry()
    return Derived(name="mario", path=kept.path, plugin="p", match=kept.match, recipe=recipe, base=base)


BASE = {
    "owner/repo": ModelConfig(context=1, parallel=1, system="base", request={"temperature": 1, "seed": 1}, pin=True)
}


def test_a_created_model_has_its_bases_rule_under_what_its_recipe_says() -> None:
    tables = {**BASE, "*": ModelConfig(context=99, request={"min_p": 9}), "mar*": ModelConfig(request={"top_k": 9})}
    made = rule(Config(model=tables), created(entry(groups=("owner/Repo",))))
    assert made == Rule(
        settings=Settings(context=2, parallel=1),
        system="recipe",
        request={"min_p": 9, "top_k": 9, "temperature": 2, "seed": 1, "top_p": 2, "chat_template": "T"},
        messages=TALK,
        pin=True,
    )


def test_what_is_said_by_its_own_name_or_alias_goes_over_its_recipe() -> None:
    tables = {
        **BASE,
        "Mario": ModelConfig(context=3, system="own", request={"top_p": 3}),
        "me": ModelConfig(parallel=4),
    }
    config = Config(model=tables, models=Models(aliases={"me": "mario"}), asked=Settings(device="cpu"))
    made = rule(config, created(entry(groups=("owner/Repo",))))
    assert made.settings == Settings(context=3, parallel=4, device="cpu")
    assert (made.system, made.messages) == ("own", TALK)
    assert made.request == {"temperature": 2, "seed": 1, "top_p": 3, "chat_template": "T"}


def test_one_with_files_of_its_own_has_the_defaults_and_its_formats_table() -> None:
    config = Config(defaults=Settings(parallel=5), format={"gguf": ModelConfig(device="cpu")}, model=BASE)
    assert rule(config, created(None)).settings == Settings(context=2, parallel=5, device="cpu")


def test_a_recipe_that_says_nothing_changes_nothing() -> None:
    base = entry(groups=("owner/Repo",))
    plain = Derived(name="copy", path="/", plugin="p", match=base.match, recipe=Recipe(name="copy"), base=base)
    assert rule(Config(model=BASE), plain) == rule(Config(model=BASE), base)
