"""The same bytes in two sources are one model; how much of a file is read to tell depends on how alike others are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from anyform.contract.facts import Evidence, FormatMatch
from anyform.kernel.entry import Entry, Spot
from anyform.sources.sameness import EDGE, START, merged, sampled, started

SIZE = 4 * EDGE


def entry(folder: Path, source: str, data: bytes, digest: str = "") -> Entry:
    place = folder / source
    place.mkdir(exist_ok=True)
    (place / "m.bin").write_bytes(data)
    match = FormatMatch(format="f", entry="m.bin", files=("m.bin",), evidence=Evidence.MAGIC, why="")
    return Entry(
        name=source,
        path=str(place),
        plugin="p",
        match=match,
        source=source,
        places=(Spot(source=source, path=str(place), entry="m.bin"),),
        digests={"m.bin": digest} if digest else {},
    )


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.fixture
def data() -> bytes:
    return bytes(number % 251 for number in range(SIZE))


def names(found: list[Entry]) -> list[tuple[str, ...]]:
    """The sources of each model."""
    return [tuple(spot.source for spot in one.places) for one in merged(found, (started, sampled))]


def test_copies_are_one_and_others_stay_apart_wherever_they_differ(tmp_path: Path, data: bytes) -> None:
    found = [entry(tmp_path, "a", data)]
    found += [entry(tmp_path, f"at{at}", changed(data, at)) for at in (0, START - 1, START, EDGE - 1, SIZE - 1)]
    found += [entry(tmp_path, "z", data), entry(tmp_path, "longer", data + b"1")]
    apart = [(f"at{at}",) for at in (0, START - 1, START, EDGE - 1, SIZE - 1)]
    assert names(found) == [("a", "z"), *apart, ("longer",)]


def test_only_files_that_begin_alike_are_read_further(tmp_path: Path, data: bytes) -> None:
    read: dict[str, list[str]] = {"start": [], "more": []}

    def sample(kind: str, path: Path) -> str:
        read[kind].append(path.parent.name)
        return started(path) if kind == "start" else sampled(path)

    found = [entry(tmp_path, name, data) for name in ("a", "b")]
    found += [entry(tmp_path, "other", changed(data, 9)), entry(tmp_path, "longer", data + b"1")]
    assert len(merged(found, (partial(sample, "start"), partial(sample, "more")))) == 3
    assert sorted(set(read["start"])) == ["a", "b", "other"]
    assert sorted(set(read["more"])) == ["a", "b"]


def test_checksums_decide_where_both_are_known(tmp_path: Path, data: bytes) -> None:
    middle = changed(data, EDGE + 100_001)  # between the stretches that are sampled
    one, two = entry(tmp_path, "one", data, "1" * 64), entry(tmp_path, "two", middle, "2" * 64)
    again = entry(tmp_path, "again", middle, "2" * 64)
    unknown = entry(tmp_path, "unknown", data)
    assert names([one, two, again]) == [("one",), ("two", "again")]
    assert names([one, unknown]) == [("one", "unknown")]


def test_what_cannot_be_read_is_like_nothing_else(tmp_path: Path, data: bytes) -> None:
    found = [entry(tmp_path, "a", data), entry(tmp_path, "b", data)]
    assert len(merged(found, (lambda path: "",))) == 2
