"""Reads anyform.toml and ANYFORM_* into a `Config`, checked by pydantic-settings. `anyform.config.load` calls it."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Container, Iterator, Mapping
from dataclasses import Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from anyform import rules
from anyform.config import FOREIGN, PLACEHOLDERS, PREFIX, SECRETS, CommandConfig, Config, Log, ModelConfig, Models
from anyform.contract.errors import Invalid, Unsupported
from anyform.contract.facts import Settings, fact
from anyform.http import listener, preset
from anyform.http.config import HttpConfig, Listener
from anyform.kernel.context import Sizing
from anyform.workers.lifecycle import Lifecycle

Location = tuple[int | str, ...]

LOWEST: dict[Any, dict[str, float]] = {
    HttpConfig: {
        "port": 0, "body_bytes": 1, "media_bytes": 0, "speech_letters": 1, "images_bytes": 0, "images_keep_s": 1,
        "responses_bytes": 0, "responses_keep_s": 1,
        "fetch_s": 1, "queue": 0, "grace_s": 0,
    },
    Listener: {"port": 0},
    Settings: {"context": 1, "parallel": 1},
    ModelConfig: {"context": 1, "parallel": 1},
    CommandConfig: {"ready_timeout_s": 0, "memory_bytes": 0},
    Sizing: {"share": 0.01, "fallback": 1, "least": 1, "patterns": 1},
    Lifecycle: {
        "check_s": 0.01, "max_models": 0, "patience_s": 0, "wait_s": 0, "load_s": 0.01, "stuck_s": 0, "limit_bytes": 1,
    },
    Log: {"file_bytes": 1, "files": 0},
}  # fmt: skip
HIGHEST = {"port": 65535, "share": 1}
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
    Any: "a number",
}
BRACKETED = re.compile(r'\s*\[[^]{"\s]*\]:')
"""A listener at an IPv6 address, which begins as JSON does."""
TIMES = 'seconds, or a time such as "5m"; -1: for ever'
IDLE = "a number of seconds; negative: never"


class Document(BaseSettings):
    """The file's tables, with the environment over them: ANYFORM_SERVER_PORT is `port` in `[server]`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, enable_decoding=False, extra="forbid"
    )
    server: HttpConfig = HttpConfig()
    models: Models = Models()
    defaults: Settings = Settings()
    format: dict[str, ModelConfig] = {}
    model: dict[str, ModelConfig] = {}
    command: dict[str, CommandConfig] = {}
    plugin: dict[str, dict[str, Any]] = {}
    lifecycle: Lifecycle = Lifecycle()
    sizing: Sizing = Sizing()
    log: Log = Log()
    default_model: str = ""
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
    tables = _with_foreign(_tables(file))
    for location, value in _truths(tables, Document):
        raise _wrong(location, value, file)
    try:
        document = Document(**tables)
    except ValidationError as error:
        raise _explained(error, file) from None
    if document.server.default_model:  # which is where it is carried on to
        raise _unknown(("server", "default_model"), file)
    _check_rules(document, file)
    _check_numbers(document, file)
    _check_commands(document, file)
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
    if hint == tuple[Listener, ...]:
        return _listeners(value)
    return value


def _listeners(value: Any) -> Any:
    """What a variable says of listeners: as the command line has them, with spaces between them, or as JSON."""
    if isinstance(value, str) and value.lstrip().startswith("[") and not BRACKETED.match(value):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Invalid(f"{PREFIX}SERVER_LISTENERS is no JSON: {error}.", listener.FORM) from None
        for place, truth in _truths(value, tuple[Listener, ...], ("server", "listeners")):
            raise _wrong(place, truth, None)
    elif isinstance(value, str):
        value = [asdict(listener.read(word)) for word in value.split()]
    if not isinstance(value, list | tuple):
        return value
    hints = get_type_hints(Listener)
    return [_lists(one, hints) if isinstance(one, dict) else one for one in value]


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
    log = replace(config.log, file=place(config.log.file) if config.log.file else None)
    commands = {name: replace(table, command=_program(table.command, home)) for name, table in config.command.items()}
    state = place(config.state) if config.state else None
    server = replace(
        config.server,
        default_model=config.default_model,
        media_folders=tuple(map(place, config.server.media_folders)),
        images_folder=str(place(Path(config.server.images_folder))) if config.server.images_folder else "",
        suggestions=str(place(Path(config.server.suggestions))) if config.server.suggestions else "",
    )
    return replace(config, server=server, models=models, log=log, command=commands, state=state)


def _program(command: str, home: Path) -> str:
    """A path to a program beside the file or in the home folder made absolute; a bare name is left to PATH."""
    path = Path(command).expanduser()
    return str(home / path) if path.name != command else command


def _check_numbers(document: Document, file: Path | None) -> None:
    for location, table in _all(document):
        for item in fields(table):
            low = LOWEST.get(type(table), {}).get(item.name, -math.inf)
            for place, value in _numbers((*location, item.name), getattr(table, item.name)):
                if not math.isfinite(value):
                    raise _wrong(place, value, file, ", and finite")
                if not low <= value <= HIGHEST.get(item.name, value):
                    raise _wrong(place, value, file)


def _numbers(place: Location, value: object) -> Iterator[tuple[Location, float]]:
    """Every number in *value*, with its place."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place, value
    for part, inner in _parts(value):
        yield from _numbers((*place, part), inner)


def _truths(value: object, hint: Any, place: Location = ()) -> Iterator[tuple[Location, bool]]:
    """Every true and false that stands where *hint* has something else, which pydantic would take for 1 and 0."""
    if isinstance(value, bool) and not {bool, Any} & {hint, *get_args(hint)}:
        yield place, value
    for part, inner in _parts(value):
        yield from _truths(inner, _below(hint, part) or Any, (*place, part))


def _parts(value: object) -> Iterator[tuple[int | str, object]]:
    """What a table or a list holds, by key or number."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def _below(hint: Any, part: int | str) -> Any:
    """The type of what stands at *part* of something of the type *hint*; None where it is not known."""
    if isinstance(hint, type) and (hint is Document or is_dataclass(hint)):
        return get_type_hints(hint).get(str(part))
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        return arguments[0]
    return arguments[1] if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping) else None


def _all(document: Document) -> Iterator[tuple[Location, Any]]:
    """Every table whose settings are known here, with its place in the file."""
    for name in type(document).model_fields:
        held: Any = getattr(document, name)
        if is_dataclass(held):
            yield (name,), held
            for at, one in enumerate(getattr(held, "listeners", ())):
                yield (name, "listeners", at), one
        elif isinstance(held, dict):
            yield from (((name, key), table) for key, table in held.items() if is_dataclass(table))


def _check_rules(document: Document, file: Path | None) -> None:
    tables: list[tuple[Location, ModelConfig]] = [
        (place, table) for place, table in _all(document) if isinstance(table, ModelConfig)
    ]
    for place, table in tables:
        if table.keep_alive is not None and rules.seconds(table.keep_alive) is None:
            raise _wrong((*place, "keep_alive"), table.keep_alive, file)
        try:
            preset.check(table.request, ".".join(map(str, (*place, "request"))))
        except (Invalid, Unsupported) as error:
            raise Invalid(f"{file}: {error.message}", error.hint) from None


def _check_commands(document: Document, file: Path | None) -> None:
    if "command" in document.plugin:
        raise Invalid(f"{file}: plugin.command is no table.", "Each program has a table of its own: [command.NAME].")
    for name, table in document.command.items():
        wrong = _command_trouble(name, table)
        if wrong:
            raise Invalid(f"{file}: command.{name} {wrong[0]}.", wrong[1])


def _command_trouble(name: str, table: CommandConfig) -> tuple[str, str] | None:
    """(what is wrong, what to do) about one table [command.NAME]."""
    words = [table.command, *table.args, *table.env.values()]
    if name == "command":
        return "has the name of the plugin that runs commands", "Call it otherwise."
    if not table.command:
        return "has no command", 'Name the program: command = "llama-server".'
    if not table.reads:
        return "reads nothing", 'List the formats that it loads: reads = ["gguf"].'
    if not any("{port}" in word for word in words):
        return "is not told its port", 'Put {port} into args: args = ["--port", "{port}"].'
    strange = [name for word in words for name in re.findall(r"{(\w+)}", word) if name not in PLACEHOLDERS]
    if strange:
        return (
            f"says {{{strange[0]}}}, which stands for nothing",
            f"Known: {', '.join(map('{{{}}}'.format, PLACEHOLDERS))}.",
        )
    if table.ports and not _is_range(table.ports):
        return f"has the ports {table.ports!r}", 'Give a range: ports = "9000-9100".'
    if table.ready and not table.ready.startswith("/"):
        return f"is ready at {table.ready!r}", 'Give a path: ready = "/health".'
    for variable in table.env:
        if not re.fullmatch(r"[A-Za-z_]\w*", variable):
            return f"sets the variable {variable!r}", "Names have letters, digits and underscores."
    return None


def _is_range(text: str) -> bool:
    found = re.fullmatch(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?", text)
    return bool(found) and 0 < int(found[1]) <= int(found[2] or found[1]) < 65536  # type: ignore[index]


def _wrong(location: Location, value: object, file: Path | None, also: str = "") -> Invalid:
    name = ".".join(map(str, location))
    return Invalid(f"{_place(name, file)}: {name} is {value!r}.", f"It must be {_allowed(location)}{also}.")


def _unknown(location: Location, file: Path | None) -> Invalid:
    name = ".".join(map(str, location))
    return Invalid(f"{_place(name, file)}: {name} is not a setting.", _homes(str(location[-1])) + _known(location))


def _allowed(location: Location) -> str:
    """What may stand at *location* of the file, in words."""
    hint: Any = Document
    low: float | None = None
    for part in location:
        if isinstance(hint, type) and (hint is Document or is_dataclass(hint)):
            low = LOWEST.get(hint, {}).get(str(part))
        hint = Any if hint is Any else _below(hint, part) or hint
        hint = next((one for one in get_args(hint) if NoneType in get_args(hint) and one is not NoneType), hint)
        if part == "keep_alive":
            return TIMES
    if location == ("lifecycle", "idle_s"):
        return IDLE
    if low is not None:
        high = HIGHEST.get(str(location[-1]))
        return f"{WORDS[hint]} from {low} {'up' if high is None else f'to {high}'}"
    if get_origin(hint) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {WORDS.get(get_args(hint)[0], 'a table')}"
    return WORDS.get(hint, "a table")


def _explained(error: ValidationError, file: Path | None) -> Invalid:
    first = error.errors()[0]
    location = first["loc"]
    if "keep_alive" in location:  # of which pydantic tells each type that it may have
        location = location[: location.index("keep_alive") + 1]
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return _unknown(location, file)
    return _wrong(location, first["input"], file)


def _place(name: str, file: Path | None) -> str:
    own = PREFIX + name.replace(".", "_").upper()
    foreign = [variable for variable, place in FOREIGN.items() if ".".join(place) == name]
    whole = [f"{PREFIX}SERVER_LISTENERS"] if name.startswith("server.listeners.") else []
    said = next((variable for variable in (own, *foreign, *whole) if variable in os.environ), own)
    return said if said in os.environ or file is None else str(file)


def _known(location: Location) -> str:
    hint = get_type_hints(Document).get(str(location[0]))
    table = get_args(hint)[1] if get_origin(hint) is dict else hint
    if len(location) == 1 or not is_dataclass(table):
        return f"Known: {', '.join(Document.model_fields)}."
    if location[:2] == ("server", "listeners"):
        return f"Known in [[server.listeners]]: {', '.join(item.name for item in fields(Listener))}."
    return f"Known in [{location[0]}]: {', '.join(item.name for item in _said(table))}."


def _homes(key: str) -> str:
    """Where a setting of that name belongs; empty where there is none."""
    found = ["at the top, before the tables"] if key in Document.model_fields else []
    for name, hint in get_type_hints(Document).items():
        named = get_origin(hint) is dict
        table = get_args(hint)[1] if named else hint
        if is_dataclass(table) and name != "format" and key in {item.name for item in _said(table)}:
            found.append(f"in [{name}.NAME]" if named else f"in [{name}]")
    return f"It belongs {' or '.join(found)}. " if found else ""


def _said(table: Any) -> list[Field[Any]]:
    """The settings of a table; the default model is carried on to [server], but said at the top."""
    return [item for item in fields(table) if (table, item.name) != (HttpConfig, "default_model")]


def _with_foreign(tables: dict[str, Any]) -> dict[str, Any]:
    """*tables*, with what variables of other names than ours say over them; ours go over both."""
    for variable, (table, key) in FOREIGN.items():
        if variable in os.environ and isinstance(tables.setdefault(table, {}), dict):
            tables[table][key] = os.environ[variable]
    return tables


@fact
class Origin:
    """One setting as it is, and what says so."""

    name: str
    value: Any
    source: str
    """default, the file, or a variable."""


def origins(config: Config) -> list[Origin]:
    """Every setting of *config*; of tables by name those that the file or a variable has."""
    found: list[Origin] = []
    tables = _tables(config.file)
    for name in Document.model_fields:
        held: Any = getattr(config, name)
        said = tables.get(name)
        if is_dataclass(held):
            for item in _said(type(held)):
                value = getattr(held, item.name)
                found.append(_origin((name, item.name), value, said or {}, config.file))
        elif isinstance(held, Mapping):
            for key, table in held.items():
                own, over = (said or {}).get(key, {}), _over((name, key))
                for item in {**own, **over}:
                    value = table[item] if isinstance(table, Mapping) else getattr(table, item)
                    found.append(_origin((name, key, item), value, own, config.file, over))
        else:
            found.append(_origin((name,), held, tables, config.file))
    return found


def _over(location: Location) -> Mapping[str, Any]:
    """What a variable says of a whole table, as JSON, which was read before; names of variables have no case."""
    text = os.environ.get(_variable(location), "") if str(location[-1]).islower() else ""
    return json.loads(text) if text else {}


def _variable(location: Location) -> str:
    return PREFIX + "_".join(map(str, location)).upper()


def _origin(
    location: Location, value: Any, said: Mapping[str, Any], file: Path | None, over: Container[str] = ()
) -> Origin:
    """*said*: the table in the file. *over*: what a variable that holds the whole table has of it."""
    name = ".".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in map(str, location))
    variable = _variable(location[:-1] if location[-1] in over else location)
    foreign = next((one for one, place in FOREIGN.items() if place == location and one in os.environ), "")
    source = variable if variable in os.environ else foreign or (str(file) if location[-1] in said else "default")
    if location[0] == "command" and location[-1] == "env":
        value = dict.fromkeys(value, "…")  # it may hold keys
    if location[0] == "plugin":
        value = _veiled(location[-1], value)
    return Origin(name=name, value=value, source=source)


def _veiled(name: int | str, value: Any) -> Any:
    """*value* without what it holds of secrets, by what they are called, however deep."""
    if str(name).upper().removesuffix("S").endswith(SECRETS):
        return "…"
    if isinstance(value, Mapping):
        return {key: _veiled(key, held) for key, held in value.items()}
    return [_veiled("", held) for held in value] if isinstance(value, list) else value
