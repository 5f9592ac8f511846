"""What the settings file says about one model. Pure: tables in, one `Rule` out.

Laid over each other, each over those before it: [defaults], [format.F] (F being the format of the model's foremost
form), the patterns among [model.…] in the file's
order, the names of its group (such as a repository's, for all its variants), its other names, its own name; and at last
what the command line says. Upper and lower case are one, as they are in names.

A model that a recipe made has all of its base's, then what the recipe says, then what is said by its own name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from anyform.config import Config, ModelConfig
from anyform.contract.facts import Settings
from anyform.kernel.entry import Entry
from anyform.kernel.rule import Rule, Rules, over
from anyform.sources.derived import Derived, laid

PATTERN = re.compile(r"[*?\[]")
UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PLAIN = ("backend", "fallback", "format", "pin", "system", "where")
"""What a table and a `Rule` call by one name."""


def of(config: Config) -> Rules:
    """The rules of all models."""
    formats = {name.casefold(): table for name, table in config.format.items()}
    patterns = {name.casefold(): table for name, table in config.model.items() if PATTERN.search(name)}
    names = {name.casefold(): table for name, table in config.model.items() if not PATTERN.search(name)}

    def rule(entry: Entry) -> Rule:
        base = (entry.base or entry) if isinstance(entry, Derived) else entry
        called, own = _called(base, config.models.aliases), _called(entry, config.models.aliases)
        made = _laid(Rule(settings=config.defaults), formats.get(entry.match.format.casefold()))
        for pattern, table in patterns.items():
            if any(fnmatchcase(name, pattern) for name in (*called, *own)):
                made = _laid(made, table)
        if isinstance(entry, Derived):
            for name in called if entry.base else ():
                made = _laid(made, names.get(name))
            made = laid(made, entry)
        for name in own:
            made = _laid(made, names.get(name))
        return replace(made, settings=over(made.settings, config.asked))

    return rule


def seconds(text: float | str) -> float | None:
    """A stretch of time such as 300, "300", "5m", "1h30m" or -1; None for what is none. Negative: for ever."""
    if isinstance(text, int | float):
        return float(text) if math.isfinite(text) else None
    found = re.fullmatch(r"(-?)((?:\d+(?:\.\d+)?(?:ms|s|m|h|d)?)+)", text.strip())
    if not found:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", found[2])
    if len(parts) > 1 and any(not unit for _, unit in parts):
        return None
    total = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    return -total if found[1] else total


def _called(entry: Entry, aliases: Mapping[str, str]) -> list[str]:
    """All its names in lower case, the one that says most of it last."""
    names = [name.casefold() for name in (*entry.groups, *entry.aliases, entry.name)]
    meant = [alias.casefold() for alias, name in aliases.items() if name.casefold() in names]
    return list(dict.fromkeys([*names[:-1], *meant, names[-1]]))


def _laid(base: Rule, table: ModelConfig | None) -> Rule:
    """*table* over *base*, field by field."""
    if table is None:
        return base
    options = dict(table.options) if table.dtype is None else {"dtype": table.dtype, **table.options}
    given = Settings(context=table.context, parallel=table.parallel, device=table.device, options=options)
    said: dict[str, Any] = {name: getattr(table, name) for name in PLAIN if getattr(table, name) is not None}
    if table.keep_alive is not None:
        said["keep_alive_s"] = seconds(table.keep_alive)
    request = {**base.request, **table.request}
    return replace(base, settings=over(base.settings, given), request=request, **said)
