"""What a name means: a model, the preferred one of its variants, several models, or none. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from anyform.contract.errors import ModelAmbiguous
from anyform.contract.facts import FormatMatch
from anyform.kernel.entry import Entry

LATEST = ":latest"


class Names:
    """The entries under unique names, and every other name that means one of them."""

    def __init__(
        self, found: Sequence[Entry], aliases: Mapping[str, str], order: Sequence[str], bare: Callable[[str], str]
    ) -> None:
        """*aliases*: the user's own, alias -> name. *order*: variants, the one to take first first. *bare*: a name
        without what only says where it lies.
        """
        self._order, self._user, self._all, self._bare = tuple(order), dict(aliases), list(found), bare
        self._members: dict[str, list[int]] = {}
        for number, entry in enumerate(found):
            for group in entry.groups:
                self._members.setdefault(group, []).append(number)
        self._sure: dict[str, int] = {}
        """Names that mean just one entry: first what each is called, then what else it may be called."""
        called = [self._called(number) for number in range(len(found))]
        further = [tuple(self._further(number)) for number in range(len(found))]
        self._all = [replace(entry, name=called[n], aliases=further[n]) for n, entry in enumerate(found)]
        self.entries = tuple(sorted(self._all, key=lambda entry: entry.name))
        self._folded = {name.casefold(): number for name, number in reversed(self._sure.items())}
        self._short: dict[str, set[int]] = {}
        for number, entry in enumerate(self._all):
            for short in _shorts(entry):
                self._short.setdefault(short.casefold(), set()).add(number)

    def find(self, name: str) -> Entry | None:
        """The entry that *name* means, or None. Raises ModelAmbiguous where it could mean several."""
        bare = self._bare(name)
        for wanted in (name, bare, bare.removesuffix(LATEST), bare + LATEST):
            if wanted in self._sure:
                return self._all[self._sure[wanted]]
        if name in self._user:
            meant = self._user[name]
            return None if meant in self._user else self.find(meant)
        for wanted in (bare.casefold(), bare.casefold().removesuffix(LATEST)):
            if wanted in self._folded:
                return self._all[self._folded[wanted]]
        return self._by_short(bare.removesuffix(LATEST))

    def choice(self, name: str) -> str:
        """Which variant is taken where *name* leaves it open, in words; empty where it does not."""
        entry = self.find(name)
        bare = self._bare(self._user.get(name, name))
        if entry is None or bare == entry.name or bare.casefold().endswith(entry.match.variant.casefold()):
            return ""
        group = next((group for group in entry.groups if len(self._variants(group)) > 1), None)
        if group is None:
            return ""
        there = ", ".join(self._variants(group))
        return f"no variant was named: {entry.match.variant} is taken, of {there}"

    def nearest(self, name: str) -> str:
        """A hint for a name that means nothing."""
        if not self._sure:
            return "The library is empty: pull a model, or name a file, or a folder of models with --models."
        file = PurePosixPath(self._bare(name))
        served = self._folded.get(str(file.with_suffix("")).casefold()) if file.suffix else None
        if served is not None:
            return f"Did you mean {self._all[served].name}? A file is served without its ending."
        from difflib import get_close_matches

        known = sorted({*self._sure, *(alias for alias in self._user if self.find(alias))})
        near = get_close_matches(self._bare(name), known, n=3, cutoff=0.5) or known[:5]
        return f"{'Nearest' if len(near) < len(known) else 'There is'}: {', '.join(near)}."

    def _variants(self, group: str) -> list[str]:
        """The variants of one name, the preferred one first."""
        members = [self._all[number].match for number in self._members[group]]
        return list(dict.fromkeys(m.variant for m in sorted(members, key=lambda match: preference(match, self._order))))

    def _called(self, number: int) -> str:
        """The entry's own name, unlike any other's."""
        entry = self._all[number]
        name = entry.name
        if entry.groups:
            group, variant = entry.groups[0], entry.match.variant
            several = len({self._all[member].match.variant for member in self._members[group]}) > 1
            name = f"{group}:{variant}" if variant and several and ":" not in group else group
        if name in self._sure:
            name = _free(name, entry, self._all[self._sure[name]], self._sure)
        self._sure[name] = number
        return name

    def _further(self, number: int) -> Iterator[str]:
        """The other names of an entry, without those that another has."""
        entry = self._all[number]
        wanted = [*entry.aliases]
        for group in entry.groups:
            wanted += [group] if self._preferred(self._members[group]) == number else []
            wanted += [f"{group}:{entry.match.variant}"] if entry.match.variant and ":" not in group else []
        for name in wanted:
            if name not in self._sure:
                self._sure[name] = number
                yield name

    def _preferred(self, members: Iterable[int]) -> int:
        return min(members, key=lambda number: (preference(self._all[number].match, self._order), number))

    def _by_short(self, short: str) -> Entry | None:
        meant = self._short.get(short.casefold(), set())
        if not meant:
            return None
        best = self._preferred(meant)
        shared = set.intersection(*(set(self._all[number].groups) for number in meant))
        if len(meant) == 1 or shared:
            return self._all[best]
        candidates = sorted(self._all[number].name for number in meant)
        raise ModelAmbiguous(
            f"{short!r} could be {', '.join(candidates[:-1])} or {candidates[-1]}.",
            "Name one of them in full.",
            model=short,
            candidates=candidates,
        )


def preference(match: FormatMatch, order: Sequence[str]) -> tuple[int, int]:
    """A key that sorts the variants of one model: those in *order* first and so, then by their format's own order."""
    places = {variant.casefold(): place for place, variant in enumerate(order)}
    place = places.get(match.variant.casefold())
    return (1, match.order) if place is None else (0, place)


def _free(name: str, entry: Entry, rival: Entry, taken: Container[str]) -> str:
    """What *entry* is called instead of *name*, which *rival* has: name@source, name@revision, or name-2, name-3 …"""
    source = entry.source if entry.source != rival.source else ""
    revision = next((spot.revision[:8] for spot in entry.places if spot.revision), "")
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    further = [f"{name}@{more}" for more in (source, revision) if more]
    return next(free for free in (*further, f"{name}-{number}") if free not in taken)


def _shorts(entry: Entry) -> set[str]:
    """Names that mean the entry while nothing else has them: its file's, its own, its repository's without owner."""
    own, variant = entry.match.name, entry.match.variant
    shorts = {PurePosixPath(entry.match.entry).stem, own, f"{own}:{variant}"}
    for group in entry.groups:
        bare = group.rpartition("/")[2]
        shorts |= {bare, bare.partition(":")[0], group.partition(":")[0], f"{bare}:{variant}"}
    return shorts - {"", ":"}
