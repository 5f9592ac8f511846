"""What is kept of created models: names, records that are always whole, what is read back, bounds, hidden names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.contract.errors import Invalid, ModelNotFound
from anyform.contract.facts import Settings
from anyform.sources import recipe as module
from anyform.sources.blob import Unwritable
from anyform.sources.hubfault import DiskFull
from anyform.sources.recipe import Mark, Recipe, Recipes, Where, canonical


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def recipes(home: Path) -> Recipes:
    return Recipes(home)


@pytest.mark.parametrize("name", ["mario", "Mario_1.5:8b-q4", "user/mario:x", "host.io:5000/user/mario:x", "_x"])
def test_a_name_of_ollamas_syntax_is_kept(name: str) -> None:
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "kept"),
    [("mario:latest", "mario"), ("u/Mario:LATEST", "u/Mario"), ("hf.co/u/mario:latest", "u/mario")],
)
def test_latest_is_what_a_name_without_a_tag_means(name: str, kept: str) -> None:
    assert canonical(name) == kept


WRONG = [
    "", " ", ":", "mario:", ":x", "/mario", "mario/", "a//b", "a/b/c/d", "../mario", "a/../b", ".hidden", "a/.b", "-x",
    "a b", "a\\b", "a\nb", "mario:x:y", "a:b/c", "màrio", "a" * 81, f"m:{'x' * 81}", f"{'h' * 200}/{'n' * 70}/m",
    "mario\x00", "C:/mario", "~/mario", "mario:..", "mario:.",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_name_is_refused_and_said(name: str, recipes: Recipes) -> None:
    with pytest.raises(Invalid, match="is no name for a model"):
        recipes.create(Recipe(name=name, base="b"))
    assert recipes.get(name) is None
    assert not recipes.home.exists()


FULL = Recipe(
    name="user/mario:8b",
    base="owner/repo:Q4",
    where=Where(path="/elsewhere", entry="m.gguf", format="gguf", variant="Q4", files=("m.gguf", "mmproj.gguf")),
    folder="f",
    digests={"adapters/a.gguf": f"sha256:{'0' * 64}"},
    system="You are Mario \u2028\ud800.",
    request={"temperature": 0.1, "stop": ["a", "b"], "max_tokens": 3},
    settings=Settings(context=77, parallel=2, device="cpu", options={"threads": 1}),
    messages=({"role": "user", "content": "hi"}, {"role": "assistant", "content": "it's me"}),
    chat_template="{{ messages }}",
    licenses=("MIT", "another"),
    adapters=("adapters/a.gguf",),
    about={"template": "{{ .Prompt }}", "parameters": ["temperature 0.1"], "nested": {"a": None}},
    modified_s=12.5,
)


def test_what_is_kept_is_read_back_by_another(recipes: Recipes, home: Path) -> None:
    assert recipes.create(FULL) == FULL
    assert Recipes(home).all() == [FULL]
    for name in ("user/mario:8b", "USER/Mario:8B"):
        assert Recipes(home).get(name) == FULL
    assert recipes.get("user/mario") is None


def test_names_that_differ_in_case_alone_are_one(recipes: Recipes) -> None:
    recipes.create(Recipe(name="Mario", base="a"))
    recipes.create(Recipe(name="mario:latest", base="b"))
    assert [(recipe.name, recipe.base) for recipe in recipes.all()] == [("mario", "b")]


def test_names_of_alike_files_are_told_apart(recipes: Recipes) -> None:
    for name in ("a/b", "a-b", "a:b", "a_b"):
        recipes.create(Recipe(name=name, base="x"))
    assert [recipe.name for recipe in recipes.all()] == ["a-b", "a/b", "a:b", "a_b"]


def test_a_recipe_says_when_it_was_made(recipes: Recipes) -> None:
    made = recipes.create(Recipe(name="mario", base="b"))
    assert made.modified_s > 1e9
    assert recipes.copy("mario", "luigi").modified_s >= made.modified_s


def test_a_copy_says_the_same_and_stays_when_the_first_goes(recipes: Recipes) -> None:
    recipes.create(FULL)
    recipes.copy("user/mario:8b", "luigi:latest")
    assert recipes.delete("user/mario:8B")
    assert not recipes.delete("user/mario:8b")
    left = recipes.all()
    assert [(one.name, one.system, one.settings) for one in left] == [("luigi", FULL.system, FULL.settings)]
    with pytest.raises(ModelNotFound):
        recipes.copy("user/mario:8b", "x")


def test_a_moved_home_takes_its_models_along(recipes: Recipes, home: Path, tmp_path: Path) -> None:
    recipes.create(Recipe(name="in", base="b", where=Where(path=str(home / "owner" / "repo"), entry="m")))
    recipes.create(Recipe(name="out", base="b", where=Where(path=str(tmp_path / "other"), entry="m")))
    recipes.hide(Mark(name="b", where=Where(path=str(home / "owner" / "repo"), entry="m")))
    moved = Recipes(home.rename(tmp_path / "moved"))
    paths = {recipe.name: recipe.where.path for recipe in moved.all() if recipe.where}
    assert paths == {"in": str(moved.home / "owner" / "repo"), "out": str(tmp_path / "other")}
    assert [mark.where.path for mark in moved.hidden()] == [str(moved.home / "owner" / "repo")]


DAMAGED = [
    b"", b"{", b"[]", b'{"name": 5}', b'{"name": "m", "request": []}', b"\xff", b"[" * 100_000, b'{"name": null}',
    b'{"name": "m", "where": {"path": 1}}', b'{"base": "b"}', b'{"name": "m", "settings": 1}',
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_told_and_costs_no_other(data: bytes, recipes: Recipes) -> None:
    recipes.create(Recipe(name="good", base="b"))
    folder = recipes.new_folder()  # which the damaged one may need
    (recipes.folder / f"bad{module.RECORD}").write_bytes(data)
    assert [recipe.name for recipe in recipes.all()] == ["good"]
    assert "bad.recipe.json cannot be read" in " ".join(recipes.troubles)
    recipes.create(Recipe(name="new", base="b"))
    assert recipes.own(folder).is_dir()


def test_a_record_of_a_later_version_is_read_as_far_as_it_is_known(recipes: Recipes) -> None:
    recipes.create(Recipe(name="m", base="b"))
    path = next(recipes.folder.glob(f"*{module.RECORD}"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    assert recipes.get("m") is not None


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"a": object()}, "not JSON serializable"),
        ({"a": float("nan")}, "JSON compliant"),
        ({"a": "x" * module.LARGEST_BYTES}, "takes .* bytes"),
    ],
)
def test_what_cannot_be_kept_is_refused(about: dict[str, object], why: str, recipes: Recipes) -> None:
    with pytest.raises(Invalid, match=why):
        recipes.create(Recipe(name="m", base="b", about=about))
    assert recipes.all() == []


def test_there_is_a_bound_to_their_number(recipes: Recipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for name in ("a", "b", "a"):
        recipes.create(Recipe(name=name, base="x"))
    with pytest.raises(Invalid, match="2 created models"):
        recipes.create(Recipe(name="c", base="x"))


def test_what_cannot_be_written_is_a_fault_and_leaves_nothing(
    recipes: Recipes, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes.create(Recipe(name="a", base="x"))

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(DiskFull, match="No space left"):
        recipes.create(Recipe(name="a", base="y"))
    assert [recipe.base for recipe in recipes.all()] == ["x"]
    assert not list(recipes.folder.glob(".*"))


def test_a_hidden_name_comes_back_when_its_files_are_brought_anew(recipes: Recipes, home: Path) -> None:
    def mark(name: str, *files: str) -> Mark:
        return Mark(name=name, where=Where(path=str(home / "o" / "r"), entry=files[0], files=files))

    q4, q8 = mark("o/r:Q4", "q4", "mmproj"), mark("o/r:Q8", "q8", "mmproj")
    recipes.hide(q4)
    recipes.hide(q4)
    recipes.hide(q8)
    recipes.brought(home / "o" / "r", ["mmproj", "README.md"])
    assert [one.name for one in recipes.hidden()] == ["o/r:Q4", "o/r:Q8"]
    Recipes(home).brought(home / "o" / "r", ["q8", "mmproj"])
    assert recipes.hidden() == [q4]
    recipes.unhide([q4])
    assert recipes.hidden() == []


def test_the_stamp_changes_with_what_another_process_makes(recipes: Recipes, home: Path) -> None:
    before = recipes.stamp()
    Recipes(home).create(Recipe(name="m", base="b"))
    assert recipes.stamp() != before


CHILD = """
import os, sys
from pathlib import Path
from anyform.sources.recipe import Recipe, Recipes
recipes = Recipes(Path(sys.argv[1]))
"""
WRITER = """
def stop(number):
    print("written", flush=True)
    sys.stdin.read()
os.fsync = stop
recipes.create(Recipe(name="mario", base="new", system="x" * 100_000))
"""
CREATOR = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(15):
    recipes.create(Recipe(name=f"{sys.argv[2]}-{number}", base="b"))
    recipes.create(Recipe(name="shared", base=sys.argv[2], system=sys.argv[2] * 10_000))
    recipes.copy("shared", f"copy-{number}")
    recipes.delete(f"copy-{number}")
"""
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child(home: Path) -> Child:
    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD + code, str(home), *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return start


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_who_is_killed_in_the_middle_of_a_write_leaves_the_whole_record(child: Child, recipes: Recipes) -> None:
    recipes.create(Recipe(name="mario", base="old"))
    process = child(WRITER)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    assert len(list(recipes.folder.glob(f".*{module.DRAFT}"))) == 1
    process.kill()
    process.communicate()
    assert [recipe.base for recipe in recipes.all()] == ["old"]
    assert recipes.troubles == []
    recipes.create(Recipe(name="luigi", base="b"))  # its lock has gone with it, and so has what it left
    assert not list(recipes.folder.glob(f".*{module.DRAFT}"))


def test_two_processes_that_create_at_once_lose_nothing(child: Child, recipes: Recipes) -> None:
    both = [child(CREATOR, name) for name in ("left", "right")]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.communicate("go\n")
        assert process.returncode == 0
    names = {recipe.name for recipe in recipes.all()}
    assert names == {"shared", *(f"{side}-{number}" for side in ("left", "right") for number in range(15))}
    shared = recipes.get("shared")
    assert shared is not None
    assert shared.system == shared.base * 10_000
    assert not list(recipes.folder.glob(f".*{module.DRAFT}"))


def test_a_home_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    recipes = Recipes(tmp_path / "file" / "models")
    assert recipes.all() == []
    for call in (lambda: recipes.create(Recipe(name="m", base="b")), recipes.new_folder):
        with pytest.raises(Unwritable, match="cannot be written"):
            call()
    with pytest.raises(Unwritable, match="cannot be written"):
        recipes.blobs.begin(f"sha256:{'0' * 64}")
