"""What names mean, decided over entries that are made up here."""

from __future__ import annotations

from typing import Any

import pytest

from anyform.config import QUANTIZATIONS
from anyform.contract.errors import ModelAmbiguous
from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.entry import Entry, Spot
from anyform.sources.hubname import bare
from anyform.sources.naming import Names, preference


def entry(group: str, variant: str = "", source: str = "", *, revision: str = "", order: int = 0, **more: Any) -> Entry:
    """A model as a survey finds it."""
    file = f"{group.rpartition('/')[2]}{'-' if variant else ''}{variant}.gguf"
    match = FormatMatch(
        format="f", entry=file, files=(file,), evidence=Evidence.NAME, why="made up", variant=variant, order=order
    )
    spot = Spot(source=source, path="/x", entry=file, revision=revision)
    made = {"groups": (group,), "source": source, "places": (spot,), "match": match, **more}
    return Entry(name=group, path="/x", plugin="p", **made)


def names(*entries: Entry, aliases: dict[str, str] | None = None, order: tuple[str, ...] = QUANTIZATIONS) -> Names:
    return Names(entries, aliases or {}, order, bare)


def found(known: Names, name: str) -> str | None:
    meant = known.find(name)
    return meant.name if meant else None


@pytest.mark.parametrize(
    "name",
    [
        "o/r",
        "hf.co/o/r",
        "https://huggingface.co/o/r",
        "https://huggingface.co/o/r/",
        "huggingface.co/o/r",
        "o/r:latest",
    ],
)
def test_a_repository_is_named_with_or_without_its_hub(name: str) -> None:
    assert found(names(entry("o/r")), name) == "o/r"


def test_a_path_stays_as_it_is() -> None:
    assert [bare(text) for text in ("/o/r", "./hf.co/o", "o/hf.co/r")] == ["/o/r", "./hf.co/o", "o/hf.co/r"]


def test_a_file_of_many_folders_names_none_of_them() -> None:
    """Every folder of safetensors has a model.safetensors: its folder names it, as a file of its own is named."""
    files = ("model.safetensors", "config.json")
    match = FormatMatch(format="s", entry=files[0], files=files, evidence=Evidence.LAYOUT, why="made up")
    known = names(*(entry(f"o/{name}", match=match) for name in ("a", "b")), entry("o/model-x", "Q8_0"))
    assert found(known, "model") is None
    assert found(known, "model.safetensors") is None
    assert [found(known, name) for name in ("a", "o/b", "model-x", "model-x-Q8_0")] == [
        "o/a", "o/b", "o/model-x", "o/model-x",
    ]  # fmt: skip


@pytest.mark.parametrize("there", [QUANTIZATIONS[at:] for at in range(len(QUANTIZATIONS))])
def test_the_first_quantization_of_the_list_is_taken(there: tuple[str, ...]) -> None:
    known = names(*(entry("o/r", variant) for variant in reversed((*there, "IQ4_XS"))))
    assert found(known, "o/r") == f"o/r:{there[0]}"
    assert known.choice("o/r") == f"no variant was named: {there[0]} is taken, of {', '.join((*there, 'IQ4_XS'))}"
    assert known.choice(f"o/r:{there[0]}") == ""


def test_what_the_list_does_not_name_goes_by_the_formats_own_order() -> None:
    ranked = [entry("m", "IQ4_XS", order=2), entry("m", "IQ3_M", order=1), entry("m", "F16", order=9)]
    assert found(names(*ranked), "m") == "m:F16"
    assert found(names(*ranked, order=()), "m") == "m:IQ3_M"
    assert found(names(*ranked, order=("iq4_xs",)), "m") == "m:IQ4_XS"
    assert preference(ranked[0].match, ()) < preference(ranked[2].match, ())


def test_quantizations_in_several_stores_are_variants_of_one_name() -> None:
    known = names(entry("o/r", "Q8_0", "a"), entry("o/r", "Q4_K_M", "b"))
    assert [one.name for one in known.entries] == ["o/r:Q4_K_M", "o/r:Q8_0"]
    assert found(known, "o/r") == "o/r:Q4_K_M"


def test_one_name_for_two_models_goes_to_the_first_source() -> None:
    known = names(
        entry("o/r", "Q8_0", "a"), entry("o/r", "Q8_0", "b"), entry("o/r", "Q8_0", "b", revision="0123456789")
    )
    assert {one.name: one.source for one in known.entries} == {"o/r": "a", "o/r@b": "b", "o/r@01234567": "b"}
    assert found(known, "o/r:Q8_0") == "o/r"


def test_what_two_owners_have_must_be_named_in_full() -> None:
    known = names(entry("a/r", "Q8_0"), entry("b/r", "Q8_0"), entry("b/r", "F16"), entry("c/other"))
    assert found(known, "r:F16") == "b/r:F16"
    assert found(known, "OTHER") == "c/other"
    with pytest.raises(ModelAmbiguous, match=r"'r' could be a/r, b/r:F16 or b/r:Q8_0\. Name one") as caught:
        known.find("r")
    assert caught.value.details["candidates"] == ["a/r", "b/r:F16", "b/r:Q8_0"]
    with pytest.raises(ModelAmbiguous):
        known.find("r:q8_0")


def test_a_short_name_of_one_repository_means_its_preferred_variant() -> None:
    known = names(entry("o/r", "F16"), entry("o/r", "Q8_0"))
    assert found(known, "r") == "o/r:Q8_0"
    assert "Q8_0 is taken" in known.choice("r")


def test_a_full_name_goes_before_a_short_one() -> None:
    known = names(entry("r"), entry("o/r"), entry("p/r"))
    assert found(known, "r") == "r"


def test_tags_are_names() -> None:
    known = names(entry("m:8b"), entry("n:latest", aliases=("n:1b",)))
    assert [found(known, name) for name in ("m", "m:8b", "n", "n:1b", "n:latest")] == ["m:8b"] * 2 + ["n:latest"] * 3
    with pytest.raises(ModelAmbiguous):
        names(entry("m:8b"), entry("m:1b")).find("m")


def test_a_tag_that_is_an_alias_counts() -> None:
    """The bytes of stories:260k are called after another place where they lie."""
    known = names(entry("hub/repo:Q8_0", "Q8_0", aliases=("stories:260k",)), entry("stories:f16", "F16"))
    with pytest.raises(ModelAmbiguous, match=r"'stories' could be stories:260k or stories:f16\."):
        known.find("stories")
    assert [found(known, f"stories:{tag}") for tag in ("260k", "F16")] == ["hub/repo:Q8_0", "stories:f16"]


@pytest.mark.parametrize("name", ["stories:latest", "STORIES:latest", "repo:latest", "hub/repo:latest"])
def test_latest_is_no_other_tag(name: str) -> None:
    known = names(entry("hub/repo:Q8_0", "Q8_0", aliases=("stories:260k",)), entry("stories:f16", "F16"))
    assert known.find(name) is None
    assert known.missing(name).message == f"there is no model {name!r}."


def test_latest_goes_before_other_tags_in_any_case() -> None:
    known = names(entry("m:8b"), entry("m:latest"))
    assert [found(known, name) for name in ("m", "M", "M:Latest")] == ["m:latest"] * 3


PLACED = (
    entry("o/r", "F16", "hf", revision="aaaaaaaa01"),
    entry("o/r", "F16", "hf", revision="bbbbbbbb02"),
    entry("o/r", "F16", "studio"),
    entry("stories:1", "F16", "ollama"),
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "o/r") for name in ("o/r", "o/r@hf", "o/r@aaaaaaa", "o/r@aaaaaaaa01", "O/R@HF", "r@hf")),
        *((name, "o/r") for name in ("o/r@hf:F16", "o/r:F16@hf", "o/r@aaaaaaaa:f16", "hf.co/o/r@hf", "o/r:latest@hf")),
        *((name, "o/r@bbbbbbbb") for name in ("o/r@bbbbbbbb", "o/r@bbbbbbbb:F16", "o/r:F16@bbbbbbbb", "r@bbbbbbbb02")),
        *((name, "o/r@studio") for name in ("o/r@studio", "o/r@studio:F16", "o/r:F16@studio")),
        *((name, "stories:1") for name in ("stories@ollama", "stories:1@ollama", "stories@ollama:1")),
        *((name, None) for name in ("o/r@aaaa", "o/r@", "@hf", "o/r@hf:Q8_0", "o/r@ollama", "o/r@nowhere", "x@hf")),
        *((name, None) for name in ("stories@studio", "stories:latest@ollama", "o/r@hf@studio", "o/r@v1.0")),
    ],
)
def test_a_place_may_be_named_of_every_model(name: str, meant: str | None) -> None:
    assert found(names(*PLACED), name) == meant


def test_the_same_bytes_are_found_by_each_of_their_places() -> None:
    spots = tuple(Spot(source=source, path="/x", entry="r.gguf") for source in ("hf", "studio"))
    known = names(entry("o/r", "F16", "hf", places=spots), entry("o/r", "Q8_0", "studio"))
    assert found(known, "o/r@hf") == "o/r:F16"
    assert found(known, "o/r@studio") == "o/r:Q8_0"
    assert known.choice("o/r@studio") == "no variant was named: Q8_0 is taken, of Q8_0, F16"
    assert [known.choice(name) for name in ("o/r:F16@studio", "o/r@studio:F16")] == ["", ""]


def test_places_are_not_followed_without_end() -> None:
    assert found(names(*PLACED), "o/r" + "@hf" * 5000) is None


def test_a_place_may_leave_open_which_of_its_models_is_meant() -> None:
    known = names(entry("s:1", source="ollama"), entry("s:2", source="ollama"), entry("s:2", source="hf"))
    with pytest.raises(ModelAmbiguous, match=r"'s@ollama' could be s:1@ollama or s:2@ollama\.") as caught:
        known.find("s@ollama")
    assert [found(known, name) for name in caught.value.details["candidates"]] == ["s:1", "s:2"]


def test_the_users_alias_may_be_short_and_leave_the_variant_open() -> None:
    models = entry("o/r", "F16"), entry("o/r", "Q8_0"), entry("p/s")
    known = names(*models, aliases={"gpt": "r", "s": "o/r", "loop": "pool", "pool": "loop", "lost": "nowhere"})
    assert found(known, "gpt") == "o/r:Q8_0"
    assert found(known, "s") == "o/r:Q8_0"  # the user's own word goes before a short name
    assert [found(known, name) for name in ("loop", "lost", "nowhere")] == [None, None, None]
    assert "Q8_0 is taken" in known.choice("gpt")
    assert "gpt" in known.nearest("gptt")


def test_the_case_of_an_alias_is_ignored() -> None:
    known = names(entry("o/r"), entry("p/s"), aliases={"gpt-4o": "o/r", "GPT-4O": "p/s", "qwen": "O/R", "S": "s"})
    meant = [found(known, name) for name in ("gpt-4o", "GPT-4O", "QWEN", "s", "S")]
    assert meant == ["o/r", "p/s", "o/r", "p/s", "p/s"]


def test_an_alias_of_what_is_not_here_says_what_it_names() -> None:
    known = names(entry("story"), aliases={"gpt-4o-mini": "storry", "loop": "pool", "pool": "loop"})
    fault = known.missing("GPT-4o-mini")
    assert fault.message == "the alias 'GPT-4o-mini' names 'storry', which is not here."
    assert fault.hint == "There is: story."
    assert known.missing("loop").message == "the alias 'loop' names 'pool', which is an alias too."
    assert known.missing("other").message == "there is no model 'other'."


def test_nothing_is_called_near_that_is_not() -> None:
    few = names(*(entry(name) for name in ("story", "tale", "poem")))
    assert few.missing("What").hint == "There is: poem, story, tale."
    assert few.missing("storry").hint == "Nearest: story."
    assert names(converted("Q8_0")).missing("What").hint == "There is: o/r."  # once, by two names
    many = names(*(entry(f"story-{number}") for number in range(9)))
    assert many.missing("What").hint == "`anyform list` shows all that there are."
    assert many.near("What") == []


def converted(variant: str, order: int = 0, group: str = "o/r", name: str = "m") -> Entry:
    """One conversion of a model, in a file whose name has other words than the variant."""
    file = f"{name}-as-{variant.lower()}.x"
    match = FormatMatch(
        format="x", entry=file, files=(file,), evidence=Evidence.NAME, why="made up", name=name, variant=variant,
        order=order,
    )  # fmt: skip
    return entry(group, match=match)


def test_the_first_parts_of_a_variant_name_the_preferred_that_has_them() -> None:
    known = names(converted("W4-chip-opt0", 5), converted("W8-chip-opt0", 3), converted("W8-chip-opt1", 2))
    for name in ("o/r:W8", "o/r:w8-chip", "r:W8", "m:W8", "m", "r", "o/r", "o/r:W8-chip-opt1", "m-as-w8-chip-opt1"):
        assert found(known, name) == "o/r:W8-chip-opt1", name
    for name in ("o/r:W4", "m:w4-chip", "o/r:m-as-w4-chip-opt0", "r:m-as-W4-chip-opt0"):
        assert found(known, name) == "o/r:W4-chip-opt0", name
    assert [found(known, name) for name in ("o/r:W", "o/r:chip", "o/r:W8-chip-opt2", "o/r:opt1")] == [None] * 4
    said = "several variants begin with W8: W8-chip-opt1 is taken, of W8-chip-opt1, W8-chip-opt0"
    assert [known.choice(f"o/r:{tag}") for tag in ("W8", "W4", "W8-chip-opt0", "m-as-w8-chip-opt1")] == [
        said,
        "",
        "",
        "",
    ]
    assert known.choice("m").startswith("no variant was named: W8-chip-opt1 is taken, of ")


def test_a_quantization_is_one_part() -> None:
    known = names(*(converted(variant, order) for order, variant in enumerate(("Q4_K_M", "Q4_K_S", "UD-Q4", "UD-Q2"))))
    assert [found(known, f"{name}:{tag}") for name in ("o/r", "r", "m") for tag in ("Q4", "Q4_K", "q")] == [None] * 9
    assert found(known, "o/r:UD") == "o/r:UD-Q4"
    assert known.choice("o/r:UD") == "several variants begin with UD: UD-Q4 is taken, of UD-Q4, UD-Q2"


def test_a_choice_among_folders_own_models_is_told_too() -> None:
    parts = [
        FormatMatch(format="d", entry=".", files=("a", "b"), evidence=Evidence.LAYOUT, why="made up", variant=variant)
        for variant in ("F16", "F32")
    ]
    known = names(*(entry("o/r", match=match) for match in parts))
    assert known.choice("o/r") == "no variant was named: F16 is taken, of F16, F32"


def test_a_variant_is_called_the_same_without_the_others() -> None:
    known = names(converted("W8-chip-opt0"))
    assert found(known, "o/r:W8-chip-opt0") == found(known, "o/r:W8") == found(known, "m") == "o/r"
    assert found(known, "o/r:W8-chip-opt1") is None


def test_two_repositories_of_one_model_are_not_mistaken_for_each_other() -> None:
    known = names(converted("W8-a", group="o/r"), converted("W8-b", group="o/s"))
    with pytest.raises(ModelAmbiguous) as caught:
        known.find("m:W8")
    assert caught.value.details["candidates"] == ["o/r", "o/s"]
    assert found(known, "m:W8-b") == "o/s"
