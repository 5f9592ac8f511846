"""Models that are created while a server runs: listed, asked, replaced and deleted as any other, each at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig
from anyform.sources import derivation
from anyform.sources.derivation import Derivations
from anyform.sources.library import recipes_of
from anyform.sources.recipe import Recipe
from anyform.sources.stores import Stores

from .conftest import Running, write

TALK = ({"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("models")
    write(home / "owner" / "bird" / "parrot.echo.json")
    runtime = start(stores=Stores(home=home, names=("anyform",)), where="here", state=tmp_path_factory.mktemp("state"))
    running = Running(runtime, HttpConfig())
    yield running
    running.close()
    runtime.close()


@pytest.fixture
def recipes(server: Running) -> Iterator[Derivations]:
    made = derivation.of(server.runtime)
    assert made is not None
    yield made
    for recipe in made.all():
        made.delete(recipe.name)


def tokens(server: Running, model: str, *messages: dict[str, str], **more: Any) -> int:
    asked = [*messages, {"role": "user", "content": "hello"}]
    answer = server.http.post("/v1/chat/completions", json={"model": model, "messages": asked, **more})
    assert answer.status_code == 200, answer.text
    count: int = answer.json()["usage"]["prompt_tokens"]
    return count


def listed(server: Running) -> list[str]:
    return [model["id"] for model in server.http.get("/v1/models").json()["data"]]


def test_conversations_begin_as_the_recipe_says(server: Running, recipes: Derivations) -> None:
    plain = tokens(server, "owner/bird")
    own = {"role": "system", "content": "one"}
    recipes.create(Recipe(name="mario", base="owner/bird", system="You are Mario now."))
    assert tokens(server, "mario:latest") == plain + 4
    assert tokens(server, "mario", own) == plain + 1
    recipes.create(Recipe(name="mario", base="owner/bird", messages=TALK))
    assert tokens(server, "mario:latest") == plain + 3
    assert tokens(server, "Mario", own) == plain + 4
    assert tokens(server, "owner/bird") == plain


def test_the_first_request_heeds_what_another_process_has_changed(
    server: Running, recipes: Derivations, tmp_path: Path
) -> None:
    """Here another runtime over the same folder, which tells this one nothing."""
    plain = tokens(server, "owner/bird")
    own = recipes_of(server.runtime.library)
    assert own is not None
    elsewhere = start(stores=Stores(home=own.home, names=("anyform",)), where="here", state=tmp_path)
    other = derivation.of(elsewhere)
    assert other is not None
    for words in (1, 5, 2):
        other.create(Recipe(name="mario", base="owner/bird", system=" ".join(["so"] * words)))
        assert [tokens(server, "mario:latest"), tokens(server, "mario:latest")] == [plain + words] * 2
    other.delete("mario")
    assert server.http.post("/v1/chat/completions", json={"model": "mario:latest", "messages": TALK}).status_code == 404
    elsewhere.close()


def test_requests_and_loads_default_to_what_it_says(server: Running, recipes: Derivations) -> None:
    recipes.create(
        Recipe(name="mario", base="owner/bird", request={"max_tokens": 2}, settings=Settings(context=16, parallel=1))
    )
    asked = {"model": "mario", "messages": [{"role": "user", "content": "a b c d"}]}
    answer = server.http.post("/v1/chat/completions", json=asked).json()
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["finish_reason"] == "length"
    loaded = {one["model"]: one["context"] for one in server.http.get("/runtime/status").json()["models"]}
    assert loaded["mario"] == 16
    longer = server.http.post("/v1/chat/completions", json={**asked, "max_tokens": 3}).json()
    assert longer["usage"]["completion_tokens"] == 3


def test_it_is_listed_when_it_is_made_and_gone_when_it_is_deleted(server: Running, recipes: Derivations) -> None:
    recipes.create(Recipe(name="user/mario:8b", base="owner/bird"))
    assert listed(server) == ["owner/bird", "user/mario:8b"]
    one = server.http.get("/v1/models/user/mario:8b").json()
    assert one["created"] == int(recipes.all()[0].modified_s)
    assert server.http.get("/registry/models/user/mario:8b").json()["source"] == "recipe"
    assert tokens(server, "user/mario:8b")
    recipes.delete("user/mario:8b")
    assert listed(server) == ["owner/bird"]
    answer = server.http.post("/v1/chat/completions", json={"model": "user/mario:8b", "messages": [TALK[0]]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "user/mario:8b" not in [one["model"] for one in server.http.get("/runtime/status").json()["models"]]


def test_a_name_goes_over_to_another_model_at_once(server: Running, recipes: Derivations) -> None:
    plain = tokens(server, "owner/bird")
    recipes.create(Recipe(name="user/mario", base="owner/bird", system="one two"))
    assert tokens(server, "mario") == plain + 2  # which is short for it
    recipes.create(Recipe(name="mario", base="owner/bird", system="one two three"))
    assert tokens(server, "mario") == plain + 3
    recipes.delete("mario")
    assert tokens(server, "mario") == plain + 2
