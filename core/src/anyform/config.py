"""What anyform is set to do, and where it keeps things: the one module of the core that reads the environment.

`load` merges anyform.toml and ANYFORM_* variables over the defaults below. `anyform.configfile` checks them with
pydantic-settings, whose import takes longer than listing a folder of models: so it is imported only where a file or
a variable exists, and plain defaults stay plain dataclasses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from anyform.contract.facts import Settings, fact
from anyform.http.config import HttpConfig
from anyform.kernel.context import Sizing
from anyform.sources.stores import NAMES, Stores
from anyform.workers.lifecycle import Lifecycle

FILE = "anyform.toml"
SAMPLE = Path(__file__).with_name("sample.toml")
"""Every setting, explained, with a sign before it that makes it a comment."""
PREFIX = "ANYFORM_"
NOT_SETTINGS = frozenset({"ANYFORM_CONFIG", "ANYFORM_DEBUG"})
"""Variables that say where to read, or how to report a bug; never part of a `Config`."""
FOREIGN = {"MODEL_UNLOAD_TIMEOUT": ("lifecycle", "idle_s"), "CLEANUP_CHECK_INTERVAL": ("lifecycle", "check_s")}
"""Variables without our prefix, and the settings that they mean where ANYFORM_* does not say those."""

SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
"""How the names of variables and settings end that hold what nobody else is to see."""
SECRET = 8
"""Letters from which on what a variable such as HF_TOKEN holds is taken for a secret."""

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

QUANTIZATIONS = (
    "Q4_K_M", "Q4_K", "Q5_K_M", "Q5_K", "Q8_0", "Q6_K", "Q4_K_S", "Q5_K_S", "Q3_K_M", "Q2_K", "F16",
)  # fmt: skip


@fact
class Models:
    """Which models are known, and under which names."""

    paths: tuple[Path, ...] = ()
    """Files and folders that are models, by their own names."""
    folders: tuple[Path, ...] = ()
    """Folders that are searched."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Another name -> the model's name."""
    home: Path | None = None
    """anyform's own folder, where pulled models come; None: `models` in the platform's data folder."""
    sources: tuple[str, ...] = NAMES
    """Which stores are asked for models."""
    quantizations: tuple[str, ...] = QUANTIZATIONS
    """Which variant of a model is taken when none is named: the first of these that there is."""
    pull: bool = False
    """Whether a server fetches a repository that a request names and that is not here; `run` always does."""


@fact
class ModelConfig:
    """A table [model."NAME or pattern"] or [format.FORMAT]. What it leaves out is left to the tables below it, and at
    last to the router, the model or the backend.
    """

    context: int | None = None
    parallel: int | None = None
    device: str | None = None
    dtype: str | None = None
    """The backend's option `dtype`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The backend's own load options; one by one over those of the tables below."""
    format: str | None = None
    """Which form is used, where a folder holds the model in several."""
    backend: str | None = None
    """The plugin or backend that must run it."""
    fallback: bool | None = None
    """Whether another backend may take over when loading fails."""
    where: Literal["worker", "here"] | None = None
    pin: bool | None = None
    """Whether it stays loaded once it is."""
    keep_alive: float | str | None = None
    """How long it stays loaded unused: seconds, or a text such as "5m"; negative: for ever."""
    system: str | None = None
    """The system prompt of conversations that bring none."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What requests default to, by the names of the HTTP fields; one by one over those of the tables below."""


PLACEHOLDERS = (
    "port", "host", "model_path", "model", "context", "total_context", "parallel", "device", "device_kind",
    "device_index",
)  # fmt: skip
"""What the words of a command may hold in braces."""


@fact
class CommandConfig:
    """A table [command.NAME]: a program that speaks OpenAI's protocol, as a backend called NAME.

    Its words and variables may hold PLACEHOLDERS.
    """

    command: str = ""
    """The program: a path (one that is relative lies beside the file), or a name in PATH."""
    args: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    """The formats that it loads."""
    tasks: tuple[str, ...] = ("chat", "complete")
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of device that it can use."""
    features: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of anyform's own environment."""
    ports: str = ""
    """A range such as "9000-9100"; empty: any that is free."""
    ready: str = ""
    """GET this path until it answers 200; empty: /v1/models."""
    ready_timeout_s: float = 300.0
    served_model: str = ""
    """What the program calls its model; empty: it is asked for."""
    memory_bytes: int = 0
    """What it takes in all, where it takes a set amount; 0: estimated."""


@fact
class Log:
    """What is logged, and where, beside the console. `anyform.journal` sets it up."""

    level: Level = "info"
    format: LogFormat = "text"
    file: Path | None = None
    file_bytes: int = 10 * 1024**2
    """When the file has so many it is kept under another name, and begun anew."""
    files: int = 5
    """How many old ones are kept."""


@fact
class Config:
    """All settings: defaults, then the file, then the environment. Command-line options go over it."""

    server: HttpConfig = HttpConfig()
    models: Models = Models()
    defaults: Settings = Settings()
    """Load-time settings of every model."""
    format: Mapping[str, ModelConfig] = field(default_factory=dict)
    """Rules by format; they go over `defaults`."""
    model: Mapping[str, ModelConfig] = field(default_factory=dict)
    """Rules by a model's name, alias, or a pattern for these; they go over those of its format."""
    asked: Settings = Settings()
    """What the command line says; it goes over all of them."""
    command: Mapping[str, CommandConfig] = field(default_factory=dict)
    """Programs that serve models, by the names of the backends that they are."""
    plugin: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What plugins are told of this machine, by their names; each checks its own."""
    lifecycle: Lifecycle = Lifecycle()
    sizing: Sizing = Sizing()
    log: Log = Log()
    default_model: str = ""
    """The model that is meant where none is named."""
    prefer: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    state: Path | None = None
    """Where learnt things and probe results are kept; None: the platform's cache folder."""
    offline: bool = False
    """Ask no hub for anything."""
    url: str = ""
    """The server that `ps`, `load` and `unload` talk to; empty: the one that `server` describes."""
    file: Path | None = None
    """The file that was read."""

    @property
    def state_folder(self) -> Path:
        return self.state or cache_folder()

    @property
    def images_folder(self) -> Path:
        """Where a server keeps pictures to be fetched."""
        named = self.server.images_folder
        return Path(named) if named else self.state_folder / "images"

    @property
    def stores(self) -> Stores:
        """Where the stores of this machine lie, by the settings, else by each store's own variables and customs."""
        return Stores(
            home=self.models.home or data_folder() / "models",
            hub_cache=_hub_cache(),
            user=Path.home(),
            ollama=_ollama(),
            names=self.models.sources,
        )

    @property
    def server_url(self) -> str:
        return self.url.rstrip("/") if self.url else url_of(self.server.host, self.server.port)


def load(file: Path | None = None) -> Config:
    """The configuration. *file*: read this one; None: the first that exists of ANYFORM_CONFIG, the working folder's
    and the platform's. Raises Invalid for one that is absent, not TOML, or sets something unknown.
    """
    chosen = file or next((path for path, state in places() if state == "read"), None)
    if chosen is None and not _variables() and not FOREIGN.keys() & os.environ.keys():
        return Config()
    from anyform.configfile import read

    return read(chosen)


def unknown_variables() -> list[str]:
    """ANYFORM_* variables that set nothing; misspelt, most likely."""
    known = [PREFIX + name.upper() for name in Config.__dataclass_fields__ if name not in ("file", "asked")]
    return [name for name in _variables() if not any(name == one or name.startswith(f"{one}_") for one in known)]


def places() -> list[tuple[Path, str]]:
    """Where the settings file may lie, the first that counts first; beside each whether it is read, absent or unused.

    One that ANYFORM_CONFIG names is read even where it is absent, which then is a fault.
    """
    named = os.environ.get("ANYFORM_CONFIG")
    found: list[tuple[Path, str]] = [(Path(named), "read")] if named else []
    for path in (Path(FILE), config_folder() / FILE):
        there = path.is_file()
        taken = any(state == "read" for _, state in found)
        found.append((path, "absent" if not there else "unused" if taken else "read"))
    return found


def own_file() -> Path:
    """Where a settings file for this user belongs: what ANYFORM_CONFIG names, else the platform's folder."""
    return Path(os.environ.get("ANYFORM_CONFIG") or config_folder() / FILE)


def debugging() -> bool:
    """Whether an unexpected exception shows its traceback."""
    return os.environ.get("ANYFORM_DEBUG", "0") not in ("", "0")


def secrets() -> list[str]:
    """What the environment holds of tokens, keys and passwords, so that no log shows it."""
    found = {value for name, value in os.environ.items() if name.upper().endswith(SECRETS) and len(value) >= SECRET}
    return sorted(found, key=len, reverse=True)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that is started: this process's own, with *more* over it."""
    return {**os.environ, **more}


def colourless() -> bool:
    """Whether the user wants no colour (https://no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def url_of(host: str, port: int) -> str:
    """The address at which a server that listens on *host* is reached from this machine."""
    reachable = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def cache_folder() -> Path:
    """Where a program keeps what it can learn again, by the platform's own custom; it may not exist yet."""
    if sys.platform == "win32":
        return _folder("LOCALAPPDATA", "AppData/Local") / "anyform" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "anyform"
    return _folder("XDG_CACHE_HOME", ".cache") / "anyform"


def data_folder() -> Path:
    """Where the platform keeps what a program must not lose."""
    if sys.platform == "win32":
        return _folder("LOCALAPPDATA", "AppData/Local") / "anyform"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "anyform"
    return _folder("XDG_DATA_HOME", ".local/share") / "anyform"


def config_folder() -> Path:
    """Where the platform keeps a program's settings."""
    if sys.platform == "win32":
        return _folder("APPDATA", "AppData/Roaming") / "anyform"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "anyform"
    return _folder("XDG_CONFIG_HOME", ".config") / "anyform"


def _folder(variable: str, under_home: str) -> Path:
    named = os.environ.get(variable, "")
    return Path(named) if os.path.isabs(named) else Path.home() / under_home


def _hub_cache() -> Path:
    """https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables"""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _folder("XDG_CACHE_HOME", ".cache") / "huggingface") / "hub"


def _ollama() -> tuple[Path, ...]:
    """Where Ollama was told to keep its models, else where it keeps them for this user and as a Linux service."""
    named = os.environ.get("OLLAMA_MODELS")
    if named:
        return (Path(named).expanduser(),)
    return Path.home() / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")


def _variables() -> list[str]:
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in NOT_SETTINGS)
