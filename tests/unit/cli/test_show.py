"""What `anyform show` tells of a model's context, and of one that paints."""

from __future__ import annotations

from anyform.cli import show
from anyform.contract.facts import Metadata


def test_all_schedulers_are_listed_with_their_short_names() -> None:
    classes, names = [f"Number{one}Scheduler" for one in range(30)], [f"n{one}_karras" for one in range(60)]
    told = dict(show._picture_rows({"schedulers": classes, "scheduler_names": names}))
    assert str(told["schedulers"]).split() == classes
    assert str(told["by short names"]).split() == names


def test_what_paints_by_no_names_has_no_row_of_them() -> None:
    assert not any(value for _, value in show._picture_rows({}))


def test_what_has_a_row_is_not_told_again() -> None:
    assert {"schedulers", "scheduler_names"} <= set(show.OWN)


def test_a_context_that_no_file_states_is_not_what_the_model_was_trained_for() -> None:
    assert show._context(Metadata(context=512)) == ("trained context", "512")
    assert show._context(Metadata(context=4096, extra={"context_stated": True})) == ("trained context", "4096")
    told = show._context(Metadata(context=4096, extra={"context_stated": False}))
    assert told == ("context", "4096, assumed: the file does not say")
