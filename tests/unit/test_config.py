"""Settings from a file and the environment, and the folders of each platform."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anyform import config
from anyform.config import Config
from anyform.contract.errors import Invalid
from anyform.contract.facts import Settings


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ANYFORM_"):
            monkeypatch.delenv(name)
    for name in ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def written(text: str, path: Path = Path("anyform.toml")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_without_file_or_variable_defaults_stand_and_pydantic_stays_out() -> None:
    assert config.load() == Config()
    code = "import sys; from anyform import config; config.load(); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_table_of_the_file() -> None:
    home = Path.home()
    written(
        """
        prefer = ["b", "a"]
        forbid = ["c"]
        state = "learnt"
        url = "http://elsewhere:1/"
        [server]
        port = 8080
        allowed_hosts = ["box.lan"]
        [models]
        paths = ["a.gguf", "~/b.gguf"]
        folders = ["/srv/models"]
        [models.aliases]
        small = "qwen3:Q4_K_M"
        [defaults]
        context = 4096
        [model."qwen3:Q4_K_M"]
        parallel = 2
        options = { gpu_layers = 3 }
        """
    )
    found = config.load()
    assert (found.prefer, found.forbid) == (("b", "a"), ("c",))
    assert (found.server.host, found.server.port, found.server.allowed_hosts) == ("127.0.0.1", 8080, ("box.lan",))
    assert found.models.paths == (Path.cwd() / "a.gguf", home / "b.gguf")
    assert found.models.folders == (Path("/srv/models").absolute(),)
    assert found.models.aliases == {"small": "qwen3:Q4_K_M"}
    assert found.defaults == Settings(context=4096)
    assert found.model == {"qwen3:Q4_K_M": Settings(parallel=2, options={"gpu_layers": 3})}
    assert found.state_folder == Path.cwd() / "learnt"
    assert found.server_url == "http://elsewhere:1"
    assert found.file == Path("anyform.toml")


def test_paths_are_meant_from_where_the_file_lies() -> None:
    file = written('[models]\nfolders = ["models"]', config.config_folder() / "anyform.toml")
    assert config.load().models.folders == (file.parent / "models",)


def test_the_working_folders_file_comes_before_the_users_and_the_named_one_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written("[server]\nport = 1", config.config_folder() / "anyform.toml")
    assert config.load().server.port == 1
    written("[server]\nport = 2")
    assert config.load().server.port == 2
    monkeypatch.setenv("ANYFORM_CONFIG", str(written("[server]\nport = 3", Path("other.toml"))))
    assert config.load().server.port == 3
    assert config.load(written("[server]\nport = 4", Path("asked.toml"))).server.port == 4


def test_the_environment_goes_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    written('prefer = ["a"]\n[server]\nport = 1\nhost = "0.0.0.0"')
    monkeypatch.setenv("ANYFORM_SERVER_PORT", "2")
    monkeypatch.setenv("ANYFORM_SERVER_BODY_BYTES", "1000")
    monkeypatch.setenv("ANYFORM_SERVER_ALLOWED_HOSTS", "a.lan, b.lan")
    monkeypatch.setenv("ANYFORM_PREFER", "b,c")
    monkeypatch.setenv("ANYFORM_MODELS_FOLDERS", os.pathsep.join(["one", "two, three"]))
    monkeypatch.setenv("ANYFORM_DEFAULTS_CONTEXT", "512")
    found = config.load()
    assert (found.server.host, found.server.port, found.server.body_bytes) == ("0.0.0.0", 2, 1000)
    assert found.server.allowed_hosts == ("a.lan", "b.lan")
    assert found.prefer == ("b", "c")
    assert found.models.folders == (Path.cwd() / "one", Path.cwd() / "two, three")
    assert found.defaults.context == 512


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nprot = 1", "server.prot is not a setting. Known in [server]: host, port"),
        ("severe = 1", "severe is not a setting. Known: server, models"),
        ('[server]\nport = "x"', "server.port is 'x'"),
        ("[defaults]\ncontxt = 1", "defaults.contxt is not a setting. Known in [defaults]: context"),
        ("[model.m]\ncontxt = 1", "model.m.contxt is not a setting. Known in [model]: context"),
        ("[server", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_the_file(text: str, said: str) -> None:
    written(text)
    with pytest.raises(Invalid) as caught:
        config.load()
    assert "anyform.toml" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = 99999", "server.port is 99999. It must be a whole number from 0 to 65535."),
        ('[server]\nport = "x"', "server.port is 'x'. It must be a whole number from 0 to 65535."),
        ("[server]\nqueue = -1", "server.queue is -1. It must be a whole number from 0 up."),
        ("[server]\ngrace_s = -1", "server.grace_s is -1. It must be a whole number from 0 up."),
        ("[server]\nbody_bytes = 0", "server.body_bytes is 0. It must be a whole number from 1 up."),
        ("[server]\nmedia_bytes = -1", "server.media_bytes is -1. It must be a whole number from 0 up."),
        ("[server]\nhost = 3", "server.host is 3. It must be text in quotes."),
        ("server = 3", "server is 3. It must be a table."),
        ("[defaults]\ncontext = -1", "defaults.context is -1. It must be a whole number from 1 up."),
        ("[defaults]\ncontext = 1.5", "defaults.context is 1.5. It must be a whole number from 1 up."),
        ("[defaults]\noptions = 3", "defaults.options is 3. It must be a table."),
        ("[model.m]\nparallel = 0", "model.m.parallel is 0. It must be a whole number from 1 up."),
        ("[model]\nm = 3", "model.m is 3. It must be a table."),
        ("[models]\nhome = 3", "models.home is 3. It must be a path in quotes."),
        ("[models]\npaths = 3", "models.paths is 3. It must be a list, each a path in quotes."),
        ("[models]\npaths = [1]", "models.paths.0 is 1. It must be a path in quotes."),
        ("[models]\naliases = 3", "models.aliases is 3. It must be a table."),
        ("[models.aliases]\na = 1", "models.aliases.a is 1. It must be text in quotes."),
        ('[models]\npull = "perhaps"', "models.pull is 'perhaps'. It must be true or false."),
        ("prefer = 3", "prefer is 3. It must be a list, each text in quotes."),
        ("prefer = [1]", "prefer.0 is 1. It must be text in quotes."),
        ("state = 1", "state is 1. It must be a path in quotes."),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(text: str, said: str) -> None:
    written(text)
    with pytest.raises(Invalid) as caught:
        config.load()
    assert str(caught.value) == f"anyform.toml: {said}"


def test_the_ends_of_what_is_allowed_are_allowed() -> None:
    written("[server]\nport = 0\nqueue = 0\ngrace_s = 0\nmedia_bytes = 0\nbody_bytes = 1\n[defaults]\ncontext = 1")
    assert config.load().server.queue == 0
    written("[server]\nport = 65535")
    assert config.load().server.port == 65535


def test_a_mistake_in_a_variable_is_named_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    written("[server]\nport = 1")
    monkeypatch.setenv("ANYFORM_SERVER_PORT", "x")
    with pytest.raises(Invalid, match=r"^ANYFORM_SERVER_PORT: "):
        config.load()


def test_a_file_that_is_absent_is_no_default() -> None:
    with pytest.raises(Invalid, match=r"nowhere\.toml cannot be read"):
        config.load(Path("nowhere.toml"))


def test_misspelt_variables_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANYFORM_SERVER_PORT", "ANYFORM_SEVER_PORT", "ANYFORM_DEBUG", "ANYFORM_CONFIG", "ANYFORM_STATE"):
        monkeypatch.setenv(name, "1")
    assert config.unknown_variables() == ["ANYFORM_SEVER_PORT"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("box.lan", "http://box.lan:7"),
    ],
)
def test_the_address_at_which_a_server_is_reached(host: str, url: str) -> None:
    assert config.url_of(host, 7) == url


@pytest.mark.parametrize(
    ("platform", "cache", "settings"),
    [
        ("linux", "home/anyform", "home/anyform"),
        ("darwin", "home/Library/Caches/anyform", "home/Library/Application Support/anyform"),
        ("win32", "home/anyform/Cache", "home/anyform"),
    ],
)
def test_folders_by_the_platforms_custom(
    platform: str, cache: str, settings: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert config.cache_folder() == tmp_path / cache
    assert config.config_folder() == tmp_path / settings


def test_a_relative_xdg_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert config.cache_folder() == Path.home() / ".cache" / "anyform"
