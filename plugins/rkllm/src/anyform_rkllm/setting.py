"""What the table [plugin.rkllm] of the settings file says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from anyform.contract.errors import Invalid
from anyform_rkllm.board import BOARDS, chip

TABLE = "plugin.rkllm"


class WrongSetting(Invalid):
    """A key of [plugin.rkllm] that there is not, or a value that it cannot have."""

    code = "rkllm.setting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The table, read."""

    library: Path | None = None
    """Where librkllmrt.so lies; None: in one of the usual places."""
    platform: str = ""
    """The chip, where the device tree does not show it, as in containers; by its name in `board.BOARDS`."""
    root: Path = Path("/")
    """The folder that counts as this machine's root; for tests."""
    stand_in: bool = False
    """Whether the tests' stand-in library counts as a library."""


def read(table: Mapping[str, Any]) -> Setting:
    """The settings in *table*. Raises WrongSetting, which names the key and its value."""
    known = tuple(field.name for field in fields(Setting))
    for name in table:
        if name not in known:
            raise WrongSetting(
                f"{TABLE}.{name} is not a setting (it is {table[name]!r}).", f"Known: {', '.join(SHOWN)}.", option=name
            )
    return Setting(**{name: CHECKS[name](name, value) for name, value in table.items()})


SHOWN = ("library", "platform", "root")
"""What users are told of; the stand-in is for tests alone."""


def _path(name: str, value: object) -> Path:
    if isinstance(value, str) and "\0" not in value:
        with suppress(RuntimeError):  # of a home folder that is unknown
            path = Path(value).expanduser()
            if path.is_absolute():
                return path
    example = "/" if name == "root" else "/usr/lib/librkllmrt.so"
    raise _wrong(name, value, f'a whole path in quotes, such as "{example}"')


def _platform(name: str, value: object) -> str:
    found = chip(value) if isinstance(value, str) else ""
    if found not in BOARDS:
        raise _wrong(name, value, " or ".join(f'"{known}"' for known in BOARDS))
    return found


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _wrong(name: str, value: object, wanted: str) -> WrongSetting:
    written = str(value).lower() if isinstance(value, bool) else repr(value)
    return WrongSetting(f"{TABLE}.{name} is {written}.", f"It must be {wanted}.", option=name)


CHECKS: Mapping[str, Callable[[str, object], Any]] = {
    "library": _path,
    "platform": _platform,
    "root": _path,
    "stand_in": _truth,
}
