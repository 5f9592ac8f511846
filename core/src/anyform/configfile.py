"""Reads anyform.toml and ANYFORM_* into a `Config`, checked by pydantic-settings. `anyform.config.load` calls it."""

from __future__ import annotations

import os
import tomllib
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from anyform.config import PREFIX, Config, Models
from anyform.contract.errors import Invalid
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig

Location = tuple[int | str, ...]

LOWEST = {
    HttpConfig: {"port": 0, "body_bytes": 1, "media_bytes": 0, "queue": 0, "grace_s": 0},
    Settings: {"context": 1, "parallel": 1},
}
HIGHEST = {"port": 65535}
WORDS = {bool: "true or false", int: "a whole number", str: "text in quotes", Path: "a path in quotes"}


class Document(BaseSettings):
    """The file's tables, with the environment over them: ANYFORM_SERVER_PORT is `port` in `[server]`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, enable_decoding=False, extra="forbid"
    )
    server: HttpConfig = HttpConfig()
    models: Models = Models()
    defaults: Settings = Settings()
    model: dict[str, Settings] = {}
    prefer: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    state: Path | None = None
    offline: bool = False
    url: str = ""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes over the file, which comes as the initial values; there is no third source."""
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, data: dict[str, Any]) -> dict[str, Any]:
        return _lists(data, get_type_hints(cls))


def read(file: Path | None) -> Config:
    """The configuration of *file* (None: no file) and the environment. Raises Invalid."""
    try:
        document = Document(**_tables(file))
    except ValidationError as error:
        raise _explained(error, file) from None
    _check_numbers(document, file)
    values = {name: getattr(document, name) for name in type(document).model_fields}
    return _placed(Config(**values, file=file), file)


def _tables(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(
            f"{file} cannot be read: {error.strerror or error}.", "Check --config or ANYFORM_CONFIG."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{file} is not TOML: {error}.", "See https://toml.io.") from None


def _lists(data: dict[str, Any], hints: dict[str, Any]) -> dict[str, Any]:
    """*data* with text where a list belongs split as an environment variable is: names at commas, paths as in PATH."""
    return {name: _list(value, hints.get(name)) for name, value in data.items()}


def _list(value: Any, hint: Any) -> Any:
    if isinstance(value, dict) and isinstance(hint, type) and is_dataclass(hint):
        return _lists(value, get_type_hints(hint))
    if isinstance(value, str) and hint in (tuple[str, ...], tuple[Path, ...]):
        separator = os.pathsep if hint == tuple[Path, ...] else ","
        return [part.strip() for part in value.split(separator) if part.strip()]
    return value


def _placed(config: Config, file: Path | None) -> Config:
    """*config* with its paths made absolute: `~` is the home folder; others lie beside the file."""
    home = file.absolute().parent if file else Path.cwd()

    def place(path: Path) -> Path:
        return home / path.expanduser()

    models = replace(
        config.models,
        paths=tuple(map(place, config.models.paths)),
        folders=tuple(map(place, config.models.folders)),
        home=place(config.models.home) if config.models.home else None,
    )
    return replace(config, models=models, state=place(config.state) if config.state else None)


def _check_numbers(document: Document, file: Path | None) -> None:
    own: dict[Location, Any] = {("model", name): settings for name, settings in document.model.items()}
    tables: dict[Location, Any] = {("server",): document.server, ("defaults",): document.defaults, **own}
    for location, table in tables.items():
        for key, low in LOWEST[type(table)].items():
            value = getattr(table, key)
            if value is not None and not low <= value <= HIGHEST.get(key, value):
                raise _wrong((*location, key), value, file)


def _wrong(location: Location, value: object, file: Path | None) -> Invalid:
    name = ".".join(map(str, location))
    return Invalid(f"{_place(name, file)}: {name} is {value!r}.", f"It must be {_allowed(location)}.")


def _allowed(location: Location) -> str:
    """What may stand at *location* of the file, in words."""
    hint: Any = Document
    low: int | None = None
    for part in location:
        if isinstance(hint, type) and issubclass(hint, BaseSettings | HttpConfig | Models | Settings):
            low = LOWEST.get(hint, {}).get(str(part))
            hint = get_type_hints(hint)[str(part)]
        else:
            hint = get_args(hint)[0 if get_origin(hint) is tuple else 1]
        hint = next((one for one in get_args(hint) if NoneType in get_args(hint) and one is not NoneType), hint)
    if low is not None:
        high = HIGHEST.get(str(location[-1]))
        return f"a whole number from {low} {'up' if high is None else f'to {high}'}"
    if get_origin(hint) is tuple:
        return f"a list, each {WORDS[get_args(hint)[0]]}"
    return WORDS.get(hint, "a table")


def _explained(error: ValidationError, file: Path | None) -> Invalid:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return Invalid(f"{_place(name, file)}: {name} is not a setting.", _known(first["loc"]))
    return _wrong(first["loc"], first["input"], file)


def _place(name: str, file: Path | None) -> str:
    variable = PREFIX + name.replace(".", "_").upper()
    return variable if variable in os.environ or file is None else str(file)


def _known(location: Location) -> str:
    table = {"server": HttpConfig, "models": Models, "defaults": Settings, "model": Settings}.get(str(location[0]))
    if table is None or len(location) == 1:
        return f"Known: {', '.join(Document.model_fields)}."
    return f"Known in [{location[0]}]: {', '.join(item.name for item in fields(table))}."
