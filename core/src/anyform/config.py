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

from anyform.contract.facts import Settings, fact
from anyform.http.config import HttpConfig
from anyform.sources.stores import NAMES, Stores

FILE = "anyform.toml"
PREFIX = "ANYFORM_"
NOT_SETTINGS = frozenset({"ANYFORM_CONFIG", "ANYFORM_DEBUG"})
"""Variables that say where to read, or how to report a bug; never part of a `Config`."""

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
class Config:
    """All settings: defaults, then the file, then the environment. Command-line options go over it."""

    server: HttpConfig = HttpConfig()
    models: Models = Models()
    defaults: Settings = Settings()
    """Load-time settings of every model."""
    model: Mapping[str, Settings] = field(default_factory=dict)
    """Load-time settings by model name; they go over `defaults`."""
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
    chosen = file or _file()
    if chosen is None and not _variables():
        return Config()
    from anyform.configfile import read

    return read(chosen)


def unknown_variables() -> list[str]:
    """ANYFORM_* variables that set nothing; misspelt, most likely."""
    known = {name.upper() for name in Config.__dataclass_fields__} - {"FILE"}
    return [name for name in _variables() if name.removeprefix(PREFIX).split("_")[0] not in known]


def debugging() -> bool:
    """Whether an unexpected exception shows its traceback."""
    return os.environ.get("ANYFORM_DEBUG", "0") not in ("", "0")


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


def _file() -> Path | None:
    named = os.environ.get("ANYFORM_CONFIG")
    if named:
        return Path(named)
    return next((path for path in (Path(FILE), config_folder() / FILE) if path.is_file()), None)
