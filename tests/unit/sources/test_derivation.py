"""Created models in a running library, with the echo format: found, inherited, copied, deleted, with their bases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.builtin import echo, machine
from anyform.contract.errors import (
    Fault,
    Invalid,
    InvalidModel,
    ModelNotFound,
    Overloaded,
    RefusedRequest,
    UnknownFormat,
)
from anyform.contract.facts import Settings
from anyform.contract.jobs import Chat, Message, Text
from anyform.kernel.entry import Entry
from anyform.kernel.plugins import Plugins
from anyform.kernel.runtime import Runtime, Use
from anyform.sources import derivation
from anyform.sources.blob import Unwritable
from anyform.sources.derivation import Derivations
from anyform.sources.derived import Derived
from anyform.sources.folder import write_record
from anyform.sources.recipe import FOLDER, Recipe, Recipes
from anyform.sources.removal import NotOurs
from anyform.sources.stores import Stores


def known() -> Plugins:
    return Plugins.of({"echo": echo, "machine": machine})


def write(path: Path, **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": "echo", **fields}))
    return path


def pulled(home: Path, repository: str, **files: dict[str, Any]) -> Path:
    """A repository as a pull leaves it."""
    folder = home / repository
    for name, fields in files.items():
        write(folder / f"{name}.echo.json", **fields)
    record = {}
    for path in folder.iterdir():
        stat = path.stat()
        record[path.name] = {"complete": True, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": "0" * 64}
    write_record(folder, {"repository": repository, "files": record})
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "models"
    pulled(home, "owner/bird", parrot={"context": 64})
    write(home / "hand" / "made" / "crow.echo.json")
    return home


def runtime_of(home: Path, **more: Any) -> Runtime:
    stores = Stores(home=home, names=("anyform",))
    return start(stores=stores, plugins=known(), where="here", **more)


@pytest.fixture
def runtime(home: Path) -> Iterator[Runtime]:
    runtime = runtime_of(home)
    yield runtime
    runtime.close()


@pytest.fixture
def recipes(runtime: Runtime) -> Derivations:
    made = derivation.of(runtime)
    assert made is not None
    return made


def derived(runtime: Runtime, name: str) -> Derived:
    entry = runtime.find(name)
    assert isinstance(entry, Derived)
    return entry


def upload(recipes: Derivations, text: str | None = None, **fields: Any) -> str:
    data = (json.dumps({"format": "echo", **fields}) if text is None else text).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    recipes.blobs.store(digest, [data])
    return digest


def said(runtime: Runtime, model: str) -> str:
    job = Chat(messages=(Message(role="user", parts=(Text(text="hello"),)),))
    return "".join(event.text for event in runtime.generate(model, job) if hasattr(event, "text"))


def test_a_created_model_is_its_base_under_another_name(runtime: Runtime, recipes: Derivations) -> None:
    recipes.create(Recipe(name="Mario:latest", base="owner/bird", system="You are Mario.", request={"seed": 1}))
    assert runtime.names() == ["Mario", "hand/made", "owner/bird"]
    entry, base = derived(runtime, "mario:latest"), runtime.find("owner/bird")
    assert (entry.path, entry.match, entry.plugin, entry.size_bytes) == (
        base.path, base.match, base.plugin, base.size_bytes,
    )  # fmt: skip
    assert (entry.groups, entry.source, entry.base) == ((), "recipe", base)
    assert entry.about["recipe"]["system"] == "You are Mario."
    assert runtime.metadata(entry).context == 64
    assert said(runtime, "MARIO") == said(runtime, "owner/bird") != ""
    assert {model.model for model in runtime.loaded()} == {"Mario", "owner/bird"}


def test_what_a_bases_files_are_called_still_means_the_base(runtime: Runtime, recipes: Derivations) -> None:
    names = ("bird", "bird:latest", "parrot", "owner/bird")
    assert [runtime.find(name).name for name in names] == ["owner/bird"] * 4
    recipes.create(Recipe(name="user/mario:8b", base="parrot"))
    assert [runtime.find(name).name for name in names] == ["owner/bird"] * 4
    assert [runtime.find(name).name for name in ("mario:8b", "mario", "user/mario")] == ["user/mario:8b"] * 3


def test_the_rule_is_the_bases_with_the_recipes_over_it(home: Path) -> None:
    runtime = runtime_of(home, settings={"owner/bird": Settings(context=32, parallel=3), "luigi": Settings(context=16)})
    recipes = derivation.of(runtime)
    assert recipes is not None
    talk = ({"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"})
    common: dict[str, Any] = {"base": "owner/bird", "settings": Settings(context=48), "messages": talk}
    for name in ("mario", "luigi"):
        recipes.create(Recipe(name=name, system="S", request={"stop": ["x"]}, chat_template="T", **common))
    rule = runtime.rule(runtime.find("mario"))
    assert (rule.settings.context, rule.settings.parallel) == (48, 3)
    assert (rule.system, rule.messages) == ("S", talk)
    assert rule.request == {"stop": ["x"], "chat_template": "T"}
    assert runtime.rule(runtime.find("luigi")).settings.context == 16
    assert runtime.rule(runtime.find("owner/bird")).settings.context == 32
    runtime.close()


def test_a_recipe_of_a_recipe_says_what_it_says_over_what_that_says(runtime: Runtime, recipes: Derivations) -> None:
    first = Recipe(
        name="first",
        base="owner/bird",
        system="one",
        request={"temperature": 0.1, "seed": 1},
        settings=Settings(context=32, options={"careful": True}),
        messages=({"role": "user", "content": "one"},),
        chat_template="one",
        licenses=("MIT",),
        about={"template": "one", "more": 1},
    )
    recipes.create(first)
    made = recipes.create(
        Recipe(
            name="second", base="FIRST:latest", request={"seed": 2}, settings=Settings(parallel=1), licenses=("BSD",)
        )
    )
    assert (made.base, made.system, made.chat_template, made.messages) == ("owner/bird", "one", "one", first.messages)
    assert made.request == {"temperature": 0.1, "seed": 2}
    assert made.settings == Settings(context=32, parallel=1, options={"careful": True})
    assert made.licenses == ("MIT", "BSD")
    assert made.about == {"template": "one", "more": 1, "parent": "first"}
    third = recipes.create(Recipe(name="third", base="second", system="three", messages=({"role": "user"},)))
    assert (third.system, third.messages) == ("three", ({"role": "user"},))
    recipes.delete("first")
    recipes.delete("second")
    assert derived(runtime, "third").recipe.request == {"temperature": 0.1, "seed": 2}


def test_creating_one_anew_replaces_it_at_once(runtime: Runtime, recipes: Derivations) -> None:
    changes: list[str] = []
    runtime.news.listen(lambda item: changes.append(item.kind) if item.kind == "library" else None)
    recipes.create(Recipe(name="mario", base="owner/bird", system="one"))
    runtime.open("mario", use=Use(settings=Settings(context=8)))
    recipes.create(Recipe(name="MARIO", base="mario", request={"seed": 1}))
    assert runtime.loaded() == []
    assert runtime.names() == ["MARIO", "hand/made", "owner/bird"]
    assert runtime.rule(runtime.find("mario")).system == "one"
    assert len(changes) >= 2
    runtime.open("mario")
    assert runtime.loaded()[0].context == 64


def test_a_name_that_a_model_has_is_refused(runtime: Runtime, recipes: Derivations, home: Path) -> None:
    for name in ("owner/bird", "OWNER/bird:latest", "hand/made"):
        with pytest.raises(Invalid, match="is the name of a model that is here already"):
            recipes.create(Recipe(name=name, base="owner/bird"))
    for source, name in (("owner/bird", "hand/made"), ("hand/made", "OWNER/bird")):
        with pytest.raises(Invalid, match="here already"):
            recipes.copy(source, name)
    with pytest.raises(Invalid, match="here already: hand/made"):  # short for another model than the base
        recipes.create(Recipe(name="crow", base="owner/bird"))
    recipes.copy("owner/bird", "bird")
    assert runtime.find("bird").name == "bird"
    for name in ("owner/bird", "Bird:latest"):
        recipes.copy(name, name)  # onto itself: nothing to do
    assert runtime.names() == ["bird", "hand/made", "owner/bird"]
    assert list(home.glob(f"{FOLDER}/*.json")) != []


def test_an_alias_of_the_users_is_a_name_that_is_taken(home: Path) -> None:
    runtime = runtime_of(home, aliases={"me": "owner/bird", "him": "mario", "nobody": "gone"})
    recipes = derivation.of(runtime)
    assert recipes is not None
    for name in ("mario", "nobody"):
        recipes.create(Recipe(name=name, base="owner/bird"))
    for name in ("me", "HIM:latest"):
        with pytest.raises(Invalid, match="here already"):
            recipes.create(Recipe(name=name, base="owner/bird"))
    with pytest.raises(ModelNotFound):
        recipes.delete("him")
    runtime.close()


def test_many_threads_create_and_delete_at_once(runtime: Runtime, recipes: Derivations) -> None:
    def work(number: int) -> None:
        for _ in range(3):
            recipes.create(Recipe(name="shared", base="owner/bird", system=str(number)))
            recipes.create(Recipe(name=f"own-{number}", base="shared"))
            recipes.copy(f"own-{number}", f"gone-{number}")
            recipes.delete(f"gone-{number}")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert runtime.names() == ["hand/made", *(f"own-{number}" for number in range(4)), "owner/bird", "shared"]


def test_a_model_that_comes_later_keeps_its_name_and_both_are_told(
    runtime: Runtime, recipes: Derivations, home: Path
) -> None:
    recipes.create(Recipe(name="mario", base="owner/bird", system="one"))
    write(home / "mario" / "echo.json", context=7)
    runtime.library.refresh()
    assert runtime.names() == ["hand/made", "mario", "mario@recipe", "owner/bird"]
    assert runtime.metadata(runtime.find("mario")).context == 7
    assert derived(runtime, "mario@recipe").recipe.system == "one"
    assert "mario is listed as mario@recipe" in " ".join(runtime.library.shelf.troubles)
    runtime.open("mario")
    recipes.delete("mario@recipe")
    assert [model.model for model in runtime.loaded()] == ["mario"]
    assert runtime.names() == ["hand/made", "mario", "owner/bird"]


@pytest.mark.parametrize(
    ("recipe", "fault", "why"),
    [
        (Recipe(name="m"), Invalid, "is to be made of nothing"),
        (Recipe(name="m", base="nobody"), ModelNotFound, "there is no model 'nobody'"),
        (Recipe(name="../m", base="owner/bird"), Invalid, "is no name"),
        (Recipe(name="m", base="../../etc/passwd"), ModelNotFound, "there is no model"),
    ],
)
def test_what_cannot_be_made_is_refused(recipe: Recipe, fault: type[Fault], why: str, recipes: Derivations) -> None:
    with pytest.raises(fault, match=why):
        recipes.create(recipe)
    assert recipes.all() == []


def test_where_no_home_is_known_nothing_is_made(tmp_path: Path) -> None:
    runtime = start([write(tmp_path / "a.echo.json")], plugins=known(), where="here")
    assert derivation.of(runtime) is None
    with pytest.raises(RefusedRequest, match="cannot be created here"):
        derivation.create(runtime, Recipe(name="m", base="a"))
    with pytest.raises(NotOurs):
        derivation.delete(runtime, tmp_path / "home", "a.echo")
    runtime.close()


def test_what_another_process_creates_and_deletes_is_seen_at_once(runtime: Runtime, home: Path) -> None:
    runtime.names()
    other = runtime_of(home)
    theirs = derivation.of(other)
    assert theirs is not None
    theirs.create(Recipe(name="mario", base="owner/bird", system="one"))
    assert runtime.rule(runtime.find("mario")).system == "one"
    theirs.create(Recipe(name="mario", base="owner/bird", system="two"))
    assert runtime.rule(runtime.find("mario")).system == "two"
    theirs.delete("mario")
    assert runtime.names() == ["hand/made", "owner/bird"]
    other.close()


ASTRAY = [
    "../m.echo", "/m.echo", "a/../m.echo", ".m.echo", "a//m.echo", "a\\..\\m.echo", "C:m.echo", "a/b/c/d/m",
    "m\x00.echo", "", "x" * 201, "adapters/m.echo", "./m.echo", "a/.b/m.echo", "m.echo\n",
]  # fmt: skip


class TestFiles:
    """Models that are made of uploads."""

    def test_uploads_become_a_model_that_its_format_reads(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        digest = upload(recipes, context=33)
        made = recipes.create(Recipe(name="up"), files={"model.echo.json": digest})
        entry = derived(runtime, "up")
        assert runtime.metadata(entry).context == 33
        assert entry.digests == {"model.echo.json": digest.removeprefix("sha256:")}
        assert (Path(entry.path) / "model.echo.json").stat().st_ino == recipes.blobs.path(digest).stat().st_ino
        assert made.base == ""
        assert said(runtime, "up")
        again = runtime_of(home)
        assert again.names() == ["hand/made", "owner/bird", "up"]
        again.close()

    def test_files_stay_until_the_last_that_needs_them_goes(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        digest = upload(recipes, context=33)
        recipes.create(Recipe(name="up"), files={"model.echo.json": digest})
        recipes.copy("up", "copy")
        recipes.create(Recipe(name="child", base="copy", system="S"))
        files = home / FOLDER / "files"
        assert [recipes.delete(name).freed_bytes for name in ("up", "copy")] == [0, 0]
        assert runtime.metadata(runtime.find("child")).context == 33
        assert recipes.delete("child").freed_bytes == 33
        assert list(files.iterdir()) == []
        assert not recipes.blobs.has(digest)

    def test_one_made_anew_leaves_no_old_files(self, runtime: Runtime, recipes: Derivations, home: Path) -> None:
        for context in (11, 12):
            recipes.create(Recipe(name="up"), files={"m.echo.json": upload(recipes, context=context)})
        assert runtime.metadata(runtime.find("up")).context == 12
        assert len(list((home / FOLDER / "files").iterdir())) == 1
        assert len(list((home / FOLDER / "blobs").iterdir())) == 1

    @pytest.mark.parametrize("name", ASTRAY)
    def test_names_of_files_lead_nowhere_else(self, name: str, recipes: Derivations, home: Path) -> None:
        digest = upload(recipes)
        with pytest.raises(Invalid):
            recipes.create(Recipe(name="up"), files={name: digest})
        with pytest.raises(Invalid):
            recipes.create(Recipe(name="up", base="owner/bird"), adapters={name: digest})
        assert not (home / FOLDER / "files").exists()

    def test_what_was_not_uploaded_or_is_no_model_is_refused(self, recipes: Derivations, home: Path) -> None:
        absent = f"sha256:{'0' * 64}"
        with pytest.raises(Invalid, match="was not uploaded"):
            recipes.create(Recipe(name="up"), files={"m.echo.json": absent})
        with pytest.raises(UnknownFormat):
            recipes.create(Recipe(name="up"), files={"m.bin": upload(recipes)})
        with pytest.raises(InvalidModel, match="not a whole JSON object"):
            recipes.create(Recipe(name="up"), files={"m.echo.json": upload(recipes, '{"format": "echo", ')})
        for names in (("a.echo.json", "A.echo.json"), ("m", "m/x"), ("m/x/y", "M")):
            with pytest.raises(Invalid, match="the name of several files, or of a folder too"):
                recipes.create(Recipe(name="up"), files=dict.fromkeys(names, upload(recipes)))
        several = {f"{name}.echo.json": upload(recipes, name=name) for name in ("a", "b")}
        with pytest.raises(Invalid, match="several models"):
            recipes.create(Recipe(name="up"), files=several)
        assert recipes.all() == []
        assert list((home / FOLDER / "files").iterdir()) == []

    def test_refusals_tell_no_place_on_the_disk(self, recipes: Derivations, home: Path) -> None:
        """Clients read them."""
        with pytest.raises(UnknownFormat) as unknown:
            recipes.create(Recipe(name="up"), files={"m.bin": upload(recipes)})
        assert str(unknown.value).startswith("no installed plugin recognises m.bin.")
        (home / FOLDER / "files").rmdir()
        (home / FOLDER / "files").write_text("no folder")
        with pytest.raises(Unwritable) as full:
            recipes.create(Recipe(name="up"), files={"m.echo.json": upload(recipes)})
        for refusal in (unknown.value, full.value):
            assert str(home) not in str(refusal.as_dict())

    def test_an_adapter_never_goes_over_the_bytes_of_another(self, runtime: Runtime, recipes: Derivations) -> None:
        """They are links to uploads: writing to one would change them all."""
        one, two = upload(recipes, "an adapter"), upload(recipes, "another")
        recipes.create(Recipe(name="tuned", base="owner/bird"), adapters={"a.gguf": one})
        for name in ("more", "most"):
            recipes.create(Recipe(name=name, base="tuned"), adapters={"a.gguf": two})
        for name, told in (("tuned", ["an adapter"]), ("most", ["an adapter", "another"])):
            paths = runtime.rule(runtime.find(name)).settings.options["lora"]
            assert [Path(path).read_text() for path in paths] == told
        assert recipes.blobs.path(one).read_text() == "an adapter"
        with pytest.raises(Unwritable, match="File exists"):
            derivation._link(recipes.blobs.path(two), recipes.blobs.path(one))
        assert recipes.blobs.path(one).read_text() == "an adapter"

    def test_adapters_go_to_the_engine_as_an_option(self, runtime: Runtime, recipes: Derivations, home: Path) -> None:
        one, two = upload(recipes, "an adapter"), upload(recipes, "another")
        recipes.create(Recipe(name="tuned", base="owner/bird"), adapters={"a.gguf": one})
        made = recipes.create(Recipe(name="more", base="tuned"), adapters={"b.gguf": two})
        assert made.adapters == ("adapters/a.gguf", "adapters/b.gguf")
        recipes.delete("tuned")
        paths = runtime.rule(runtime.find("more")).settings.options["lora"]
        assert [Path(path).read_text() for path in paths] == ["an adapter", "another"]
        assert runtime.find("more").path == str(home / "owner" / "bird")
        assert runtime.metadata(runtime.find("more")).context == 64


class TestDeletion:
    """What goes with a name, and what stays."""

    def test_copy_and_delete_is_renaming(self, runtime: Runtime, recipes: Derivations, home: Path) -> None:
        recipes.copy("owner/bird", "b")
        assert recipes.delete("owner/bird").hidden
        assert runtime.names() == ["b", "hand/made"]
        with pytest.raises(ModelNotFound):
            runtime.find("owner/bird")
        assert said(runtime, "b")
        recipes.copy("b", "owner/bird")
        assert recipes.delete("b").recipe
        assert runtime.names() == ["hand/made", "owner/bird"]
        assert derived(runtime, "owner/bird").base is not None
        again = runtime_of(home)
        assert again.names() == ["hand/made", "owner/bird"]
        again.close()

    def test_files_of_a_deleted_base_go_with_the_last_that_needs_them(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        for name in ("a", "b"):
            recipes.create(Recipe(name=name, base="owner/bird"))
        recipes.delete("owner/bird")
        assert recipes.delete("a").freed_bytes == 0
        assert (home / "owner" / "bird" / "parrot.echo.json").exists()
        assert recipes.delete("b").freed_bytes > 0
        assert not (home / "owner").exists()
        assert runtime.names() == ["hand/made"]
        assert Recipes(home).hidden() == []

    def test_variants_are_hidden_one_by_one(self, runtime: Runtime, recipes: Derivations, home: Path) -> None:
        pulled(home, "o/fish", a={"name": "fish", "variant": "Q4"}, b={"name": "fish", "variant": "Q8"})
        runtime.library.refresh()
        recipes.copy("o/fish:Q4", "nemo")
        recipes.delete("o/fish:Q4")
        assert runtime.names() == ["hand/made", "nemo", "o/fish", "owner/bird"]
        assert runtime.find("o/fish").match.variant == "Q8"
        recipes.delete("nemo")
        assert sorted(path.name for path in (home / "o" / "fish").glob("*.echo.json")) == ["b.echo.json"]

    def test_what_a_person_put_there_is_never_deleted_nor_hidden(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        for _ in ("alone", "with a model that is made of it"):
            with pytest.raises(NotOurs, match="where no pull put it") as refusal:
                recipes.delete("hand/made")
            assert "`anyform rm hand/made --force`" in refusal.value.hint
            recipes.copy("hand/made", "mine")
        assert runtime.names() == ["hand/made", "mine", "owner/bird"]
        recipes.delete("mine")
        assert (home / "hand" / "made" / "crow.echo.json").exists()

    def test_a_base_is_known_under_a_name_that_it_got_since(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        """A variant that is the last of its name loses its own part of the name."""
        folder = pulled(home, "o/fish", a={"name": "fish", "variant": "Q4"}, b={"name": "fish", "variant": "Q8"})
        runtime.library.refresh()
        for number in (4, 8):
            recipes.copy(f"o/fish:Q{number}", f"nemo{number}")
        assert recipes.delete("o/fish:Q8").hidden
        assert recipes.delete("o/fish").hidden
        assert runtime.names() == ["hand/made", "nemo4", "nemo8", "owner/bird"]
        assert recipes.delete("nemo8").freed_bytes > 0
        assert [path.name for path in folder.glob("*.echo.json")] == ["a.echo.json"]
        assert recipes.delete("nemo4").freed_bytes > 0
        assert not folder.exists()

    def test_a_deleted_base_goes_when_the_last_made_of_it_is_made_of_another(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        recipes.copy("owner/bird", "a")
        recipes.delete("owner/bird")
        recipes.create(Recipe(name="b", base="a"))
        recipes.create(Recipe(name="a", base="hand/made"))
        assert (home / "owner").exists()
        recipes.copy("a", "b")
        assert not (home / "owner").exists()
        assert Recipes(home).hidden() == []
        assert runtime.names() == ["a", "b", "hand/made"]

    def test_a_record_that_cannot_be_read_keeps_the_files_of_all(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        for name in ("a", "b"):
            recipes.copy("owner/bird", name)
        recipes.delete("owner/bird")
        next((home / FOLDER).glob("b.*.json")).write_text("torn")
        recipes.delete("a")
        assert (home / "owner").exists()

    def test_a_pulled_model_that_nothing_needs_goes_with_its_files(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        runtime.open("owner/bird")
        removed = recipes.delete("Owner/Bird:latest")
        assert (removed.files, removed.hidden, removed.recipe) == (("parrot.echo.json",), False, False)
        assert runtime.loaded() == []
        assert runtime.names() == ["hand/made"]
        assert not (home / "owner").exists()

    @pytest.mark.parametrize("name", ["nobody", "bird", "parrot", "mario", "mario:latest", "../x", "", "owner/bird:Q4"])
    def test_only_a_whole_name_deletes(self, name: str, recipes: Derivations) -> None:
        recipes.create(Recipe(name="mario:8b", base="owner/bird"))
        with pytest.raises(ModelNotFound):
            recipes.delete(name)
        assert [recipe.name for recipe in recipes.all()] == ["mario:8b"]

    def test_a_base_that_is_brought_anew_is_listed_again(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        recipes.copy("owner/bird", "b")
        recipes.delete("owner/bird")
        Recipes(home).brought(home / "owner" / "bird", ["parrot.echo.json"])  # as the end of a pull does
        assert runtime.names() == ["b", "hand/made", "owner/bird"]
        recipes.delete("owner/bird")
        write(home / "owner" / "bird" / "parrot.echo.json", context=65)  # or a person
        runtime.library.refresh()
        assert runtime.names() == ["b", "hand/made", "owner/bird"]

    def test_one_whose_base_is_gone_is_told_and_can_be_deleted(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        recipes.create(Recipe(name="mario", base="owner/bird"))
        (home / "owner" / "bird" / "parrot.echo.json").unlink()
        runtime.library.refresh()
        assert runtime.names() == ["hand/made"]
        assert runtime.library.shelf.troubles == [
            "mario was made from owner/bird, whose files are gone. Bring owner/bird back, or delete mario with"
            " `anyform rm mario`."
        ]
        with pytest.raises(ModelNotFound, match="made from owner/bird, whose files are gone"):
            runtime.find("Mario:latest")
        runtime.library.refresh()
        assert len(runtime.library.shelf.troubles) == 1
        assert recipes.delete("mario").recipe
        assert runtime.library.shelf.troubles == []

    def test_one_whose_base_lies_elsewhere_now_is_found_by_its_name(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        recipes.create(Recipe(name="mario", base="owner/bird"))
        (home / "owner" / "bird" / "parrot.echo.json").rename(home / "owner" / "bird" / "moved.echo.json")
        runtime.library.refresh()
        assert runtime.find("mario").match.entry == "moved.echo.json"

    def test_a_model_whose_name_is_like_its_bases_is_not_its_base(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        write(home / "echo" / "heron" / "echo.json")
        write(folder := home / "heron" / "echo.json")
        runtime.library.refresh()
        recipes.copy("heron", "mario")
        folder.unlink()
        runtime.library.refresh()
        assert runtime.find("heron").name == "echo/heron"
        with pytest.raises(ModelNotFound, match="made from heron, whose files are gone"):
            runtime.find("mario")

    def test_what_a_model_was_made_of_meanwhile_stays(self, runtime: Runtime, recipes: Derivations, home: Path) -> None:
        base = runtime.find("owner/bird")
        planned = derivation.considered(runtime, home, base)
        theirs = derivation.of(runtime_of(home))
        assert theirs is not None
        theirs.copy("owner/bird", "b")
        with pytest.raises(Overloaded, match="b was made of owner/bird just now"):
            derivation.carry_out(runtime, home, base, planned)
        assert said(runtime, "b")

    def test_of_what_has_gone_meanwhile_nothing_is_made(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        runtime.find("owner/bird")
        (home / "owner" / "bird" / "parrot.echo.json").unlink()
        with pytest.raises(ModelNotFound, match="owner/bird is not here"):
            recipes.create(Recipe(name="mario", base="owner/bird"))
        assert recipes.all() == []

    def test_removal_leaves_what_created_models_need_of_shared_files(
        self, runtime: Runtime, recipes: Derivations, home: Path
    ) -> None:
        base = runtime.find("owner/bird")
        recipes.copy("owner/bird", "b")
        planned = derivation.considered(runtime, home, base)
        assert (planned.files, planned.shared, planned.hidden) == ((), ("parrot.echo.json",), True)


def test_entries_of_recipes_keep_the_facts_of_entries(runtime: Runtime, recipes: Derivations) -> None:
    recipes.create(Recipe(name="mario", base="owner/bird"))
    entry: Entry = runtime.find("mario")
    assert entry.here
    assert entry.files().files == runtime.find("owner/bird").files().files
    assert runtime.explain("mario").plan is not None


def test_who_looks_at_folders_alone_deletes_no_base(runtime: Runtime, recipes: Derivations, home: Path) -> None:
    recipes.create(Recipe(name="mario", base="owner/bird"))
    other = start(folders=[home], plugins=known(), where="here")
    with pytest.raises(Invalid, match="owner/bird is what mario is made of"):
        derivation.considered(other, home, other.find("owner/bird"))
    assert derivation.considered(other, home, other.find("hand/made")).files == ("crow.echo.json",)
    other.close()
