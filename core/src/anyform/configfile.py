"""Reads anyform.toml and ANYFORM_* into a `Config`, checked by pydantic-settings. `anyform.config.load` calls it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from anyform import rules
from anyform.config import FOREIGN, PREFIX, CommandConfig, Config, Log, ModelConfig, Models
from anyform.contract.errors import Invalid
from anyform.contract.facts import Settings, fact
from anyform.contract.jobs import Sampling
from anyform.http import generation
from anyform.http.config import HttpConfig
from anyform.http.fields import Fields
from anyform.kernel.context import Sizing
from anyform.workers.lifecycle import Lifecycle

Location = tuple[int | str, ...]

LOWEST: dict[Any, dict[str, float]] = {
    HttpConfig: {"port": 0, "body_bytes": 1, "media_bytes": 0, "queue": 0, "grace_s": 0},
    Settings: {"context": 1, "parallel": 1},
    ModelConfig: {"context": 1, "parallel": 1},
    CommandConfig: {"ready_timeout_s": 0, "memory_bytes": 0},
    Sizing: {"share": 0.01, "fallback": 1, "least": 1},
    Lifecycle: {"check_s": 0.01, "max_models": 0, "patience_s": 0, "wait_s": 0, "load_s": 0.01, "stuck_s": 0},
    Log: {"file_bytes": 1, "files": 0},
}
HIGHEST = {"port": 65535, "share": 1}
WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    Path: "a path in quotes",
}
TIMES = 'seconds, or a time such as "5m"; -1: for ever'
REQUEST = (
    *(item.name for item in fields(Sampling)), "echo", "encoding_format", "dimensions", "guidance", "ignore_eos",
    "logprobs", "max_completion_tokens", "max_tokens", "n", "n_ctx", "negative_prompt", "num_ctx", "quality",
    "response_format", "size", "speed", "steps", "stop", "style", "thinking", "top_logprobs", "truncate", "voice",
)  # fmt: skip
"""Request fields that are known, to tell a misspelt one; a backend may have others."""


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
    try:
        document = Document(**_with_foreign(_tables(file)))
    except ValidationError as error:
        raise _explained(error, file) from None
    _check_numbers(document, file)
    _check_rules(document, file)
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
    log = replace(config.log, file=place(config.log.file) if config.log.file else None)
    commands = {name: replace(table, command=_program(table.command, home)) for name, table in config.command.items()}
    state = place(config.state) if config.state else None
    server = replace(config.server, default_model=config.server.default_model or config.default_model)
    return replace(config, server=server, models=models, log=log, command=commands, state=state)


def _program(command: str, home: Path) -> str:
    """A path to a program beside the file or in the home folder made absolute; a bare name is left to PATH."""
    path = Path(command).expanduser()
    return str(home / path) if path.name != command else command


def _check_numbers(document: Document, file: Path | None) -> None:
    for location, table in _all(document):
        for key, low in LOWEST.get(type(table), {}).items():
            value = getattr(table, key, None)
            if value is not None and not low <= value <= HIGHEST.get(key, value):
                raise _wrong((*location, key), value, file)


def _all(document: Document) -> Iterator[tuple[Location, Any]]:
    """Every table, with its place in the file."""
    for name in type(document).model_fields:
        held: Any = getattr(document, name)
        if is_dataclass(held):
            yield (name,), held
        elif isinstance(held, dict):
            yield from (((name, key), table) for key, table in held.items())


def _check_rules(document: Document, file: Path | None) -> None:
    tables: list[tuple[Location, ModelConfig]] = [
        (place, table) for place, table in _all(document) if isinstance(table, ModelConfig)
    ]
    for place, table in tables:
        if table.keep_alive is not None and rules.seconds(table.keep_alive) is None:
            raise _wrong((*place, "keep_alive"), table.keep_alive, file)
        _check_request(".".join(map(str, (*place, "request"))), table.request, file)


def _check_request(name: str, request: Mapping[str, Any], file: Path | None) -> None:
    """Raise Invalid for a field that is out of its range, or spelt nearly as one that is known."""
    from difflib import get_close_matches

    for field in request.keys() - set(REQUEST):
        near = get_close_matches(field, REQUEST, n=1, cutoff=0.8)
        if near:
            raise Invalid(f"{file}: {name}.{field} is no field of a request.", f"Did you mean {near[0]}?")
    try:
        generation.read(Fields(request, f"{name}."), max_tokens=None)
    except Invalid as error:
        raise Invalid(f"{file}: {error.message}", error.hint) from None


def _check_commands(document: Document, file: Path | None) -> None:
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


def _wrong(location: Location, value: object, file: Path | None) -> Invalid:
    name = ".".join(map(str, location))
    return Invalid(f"{_place(name, file)}: {name} is {value!r}.", f"It must be {_allowed(location)}.")


def _allowed(location: Location) -> str:
    """What may stand at *location* of the file, in words."""
    hint: Any = Document
    low: float | None = None
    for part in location:
        if isinstance(hint, type) and (hint is Document or is_dataclass(hint)):
            low = LOWEST.get(hint, {}).get(str(part))
            hint = get_type_hints(hint).get(str(part), hint)
        else:
            hint = get_args(hint)[0 if get_origin(hint) is tuple else 1]
        hint = next((one for one in get_args(hint) if NoneType in get_args(hint) and one is not NoneType), hint)
        if part == "keep_alive":
            return TIMES
    if low is not None:
        high = HIGHEST.get(str(location[-1]))
        return f"{WORDS[hint]} from {low} {'up' if high is None else f'to {high}'}"
    if get_origin(hint) is Literal:
        return " or ".join(f'"{value}"' for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list, each {WORDS[get_args(hint)[0]]}"
    return WORDS.get(hint, "a table")


def _explained(error: ValidationError, file: Path | None) -> Invalid:
    first = error.errors()[0]
    location = first["loc"]
    if "keep_alive" in location:  # of which pydantic tells each type that it may have
        location = location[: location.index("keep_alive") + 1]
    name = ".".join(map(str, location))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return Invalid(f"{_place(name, file)}: {name} is not a setting.", _known(location))
    return _wrong(location, first["input"], file)


def _place(name: str, file: Path | None) -> str:
    own = PREFIX + name.replace(".", "_").upper()
    foreign = [variable for variable, place in FOREIGN.items() if ".".join(place) == name]
    said = next((variable for variable in (own, *foreign) if variable in os.environ), own)
    return said if said in os.environ or file is None else str(file)


def _known(location: Location) -> str:
    hint = get_type_hints(Document).get(str(location[0]))
    table = get_args(hint)[1] if get_origin(hint) is dict else hint
    if len(location) == 1 or not is_dataclass(table):
        return f"Known: {', '.join(Document.model_fields)}."
    return f"Known in [{location[0]}]: {', '.join(item.name for item in fields(table))}."


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
    """Every setting of *config*; of tables by name those that the file has."""
    found: list[Origin] = []
    tables = _tables(config.file)
    for name in Document.model_fields:
        held: Any = getattr(config, name)
        said = tables.get(name)
        if is_dataclass(held):
            for item in fields(held):
                value = getattr(held, item.name)
                found.append(_origin((name, item.name), value, said or {}, config.file))
        elif isinstance(held, Mapping):
            for key, table in held.items():
                own = (said or {}).get(key, {})
                found += [_origin((name, key, item), getattr(table, item), own, config.file) for item in own]
        else:
            found.append(_origin((name,), held, tables, config.file))
    return found


def _origin(location: Location, value: Any, said: Mapping[str, Any], file: Path | None) -> Origin:
    name = ".".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in map(str, location))
    variable = PREFIX + "_".join(map(str, location)).upper()
    foreign = next((one for one, place in FOREIGN.items() if place == location and one in os.environ), "")
    source = variable if variable in os.environ else foreign or (str(file) if location[-1] in said else "default")
    if location[0] == "command" and location[-1] == "env":
        value = dict.fromkeys(value, "…")  # it may hold keys
    return Origin(name=name, value=value, source=source)
