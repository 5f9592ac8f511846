"""What a name means: a model, the preferred one of its variants, several models, or none. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from anyform.contract.errors import ModelAmbiguous, ModelNotFound
from anyform.contract.facts import FormatMatch
from anyform.kernel.entry import Entry
from anyform.sources.derived import Derived

LATEST = ":latest"
FEW = 5
"""Names that are told all where none is like the one that was said."""
ALL = "`anyform list` shows all that there are."
"""The hint where none is like it, and there are more."""
REVISION = 7
"""Characters of a revision that name it, as Git abbreviates one."""


class Names:
    """The entries under unique names, and every other name that means one of them."""

    def __init__(
        self, found: Sequence[Entry], aliases: Mapping[str, str], order: Sequence[str], bare: Callable[[str], str]
    ) -> None:
        """*aliases*: the user's own, alias -> name. *order*: variants, the one to take first first. *bare*: a name
        without what only says where it lies.
        """
        self._order, self._user, self._found, self._bare = tuple(order), dict(aliases), tuple(found), bare
        self._user_folded = {alias.casefold(): meant for alias, meant in aliases.items()}
        self._all = list(found)
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
        self._short: dict[str, dict[int, str]] = {}
        for number, entry in enumerate(self._all):
            for short, full in _shorts(entry):
                self._short.setdefault(short.casefold(), {}).setdefault(number, full)
        self._parts: dict[tuple[int, ...], Names] = {}
        """The names that some of the entries would have without the others; see `_placed`."""

    @property
    def named(self) -> Sequence[Entry]:
        """The entries in the order in which they were found."""
        return self._all

    def find(self, name: str) -> Entry | None:
        """The entry that *name* means, or None. Raises ModelAmbiguous where it could mean several."""
        meant = self._meant(name)
        if not meant:
            return None
        shared = set.intersection(*(set(self._all[number].groups) for number in meant))
        if len(meant) == 1 or shared:
            return self._all[self._preferred(meant)]
        short, candidates = self._bare(name), sorted(meant.values())
        raise ModelAmbiguous(
            f"{short!r} could be {', '.join(candidates[:-1])} or {candidates[-1]}.",
            "Name one of them in full.",
            model=short,
            candidates=candidates,
        )

    def choice(self, name: str) -> str:
        """Which variant is taken where *name* leaves it open, in words; empty where it does not."""
        entry = self.find(name)
        bare = self._bare(self._alias(name) or name)
        if entry is None or bare == entry.name:
            return ""
        said = _split(bare)[0].casefold()
        tag, file = said.rpartition(":")[2], PurePosixPath(entry.match.entry).stem.casefold()
        if said.endswith(entry.match.variant.casefold()) or tag == file:
            return ""
        group = next((group for group in entry.groups if len(self._variants(group)) > 1), None)
        if group is None:
            return ""
        there = self._variants(group)
        alike = [variant for variant in there if tag in beginnings(variant)]
        if len(alike) == 1:
            return ""
        left = f"several variants begin with {tag.upper()}" if alike else "no variant was named"
        return f"{left}: {entry.match.variant} is taken, of {', '.join(alike or there)}"

    def missing(self, name: str) -> ModelNotFound:
        """The fault for a name that means nothing."""
        meant = self._alias(name)
        if meant is None:
            return ModelNotFound(f"there is no model {name!r}.", self.nearest(name), model=name)
        if meant in self._user:
            said, hint = "is an alias too", "Let it name a model: `aliases` in [models]."
        else:
            said, hint = "is not here", self.nearest(meant)
        return ModelNotFound(f"the alias {name!r} names {meant!r}, which {said}.", hint, model=name)

    def nearest(self, name: str) -> str:
        """A hint for a name that means nothing."""
        if not self._sure:
            return "The library is empty: pull a model, or name a file, or a folder of models with --models."
        file = PurePosixPath(self._bare(name))
        served = self._folded.get(str(file.with_suffix("")).casefold()) if file.suffix else None
        if served is not None:
            return f"Did you mean {self._all[served].name}? A file is served without its ending."
        known, near = self._own(), self.near(name)
        if near and len(near) < len(self._known()):
            return f"Nearest: {', '.join(near)}."
        return f"There is: {', '.join(known)}." if len(known) <= FEW else ALL

    def near(self, name: str) -> list[str]:
        """Up to three names that are like *name*; empty where none is."""
        from difflib import get_close_matches

        return get_close_matches(self._bare(name), self._known(), n=3, cutoff=0.5)

    def _known(self) -> list[str]:
        """All names that mean one model, and the user's own for models that are here."""
        return sorted({*self._sure, *self._own()})

    def _own(self) -> list[str]:
        """The name of each model, and the user's own for models that are here."""
        return sorted({*(entry.name for entry in self._all), *(name for name in self._user if self._meant(name))})

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

    def _alias(self, name: str) -> str | None:
        """What the user's alias *name* stands for; None if it is no alias."""
        return self._user.get(name, self._user_folded.get(name.casefold()))

    def _meant(self, name: str, aliases: bool = True, places: bool = True) -> dict[int, str]:
        """The entries that *name* could mean, each with a name that means it alone.

        *aliases*: it may be one of the user's. *places*: it may be name@place.
        """
        bare = self._bare(name)
        for wanted in (name, bare, bare.removesuffix(LATEST), bare + LATEST):
            if wanted in self._sure:
                return {self._sure[wanted]: wanted}
        target = self._alias(name) if aliases else None
        if target is not None:
            return {} if target in self._user else self._meant(target, aliases=False)
        folded = bare.casefold()
        for wanted in (folded, folded.removesuffix(LATEST), folded + LATEST):
            if wanted in self._folded:
                return {self._folded[wanted]: wanted}
        return (self._placed(bare) if places else {}) or self._short.get(folded, {})

    def _placed(self, bare: str) -> dict[int, str]:
        """What `name@source` or `name@revision` could mean: what `name` would if there were only what lies there."""
        name, place = _split(bare)
        there = tuple(number for number, entry in enumerate(self._found) if place and _lies(entry, place))
        if not name or not there:
            return {}
        if there not in self._parts:
            self._parts[there] = Names([self._found[number] for number in there], {}, self._order, self._bare)
        meant = self._parts[there]._meant(name, places=False)
        return {there[number]: f"{full}@{place}" for number, full in meant.items()}


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


def _split(name: str) -> tuple[str, str]:
    """(name, place) of `name@place`, `name@place:variant` and `name:variant@place`; the place may be empty."""
    before, sign, after = name.rpartition("@")
    place, colon, variant = after.partition(":")
    return (f"{before}{colon}{variant}", place) if sign else (name, "")


def _lies(entry: Entry, place: str) -> bool:
    """Whether *entry* lies in the source or has the revision *place*, of which the beginning is enough."""
    return any(
        spot.source.casefold() == place.casefold() or (len(place) >= REVISION and spot.revision.startswith(place))
        for spot in entry.places
    )


def is_folders_own(match: FormatMatch) -> bool:
    """Whether several files make up the model of a folder, so that the folder names it, and not one of them."""
    return not match.name and len(match.files) > 1


def _shorts(entry: Entry) -> Iterator[tuple[str, str]]:
    """Names that mean the entry while nothing else has them, each with the full name that it is short for: its
    file's, its own, its repository's without owner or tag. A name without a tag of its own may be said as latest. A
    tag may be its file's name, or what its variant begins with. What a recipe's files are called means its base.
    """
    own, variant = ("", "") if isinstance(entry, Derived) else (entry.match.name, entry.match.variant)
    unnamed = isinstance(entry, Derived) or is_folders_own(entry.match)
    file = "" if unnamed else PurePosixPath(entry.match.entry).stem
    for short in (file, own, f"{own}:{variant}"):
        if short.strip(":"):
            yield from ((short, entry.name), (short + LATEST, entry.name))
    tags = [tag for tag in (file, *beginnings(variant)) if tag]
    yield from ((f"{own}:{tag}", entry.name) for tag in tags if own)
    known = [(name, name) for name in (entry.name, *entry.aliases)] + [(group, entry.name) for group in entry.groups]
    for name, full in known:
        last = name.rpartition("/")[2]
        yield from ((short, full) for short in (last, last.partition(":")[0], name.partition(":")[0]))
        if ":" not in last:
            yield from ((last + LATEST, full), (f"{last}:{variant}", full))
            yield from ((f"{name}:{tag}", full) for name in (name, last) for tag in tags)


def beginnings(variant: str) -> list[str]:
    """The first parts of *variant*, in lower case: `w8a8` and `w8a8-rk3588` of `W8A8-RK3588-opt1`. Not the whole."""
    parts = variant.casefold().split("-")
    return ["-".join(parts[:count]) for count in range(1, len(parts))]
