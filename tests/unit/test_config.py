"""Settings from a file and the environment, and the folders of each platform."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from anyform import config, configfile
from anyform.config import CommandConfig, Config, Log, ModelConfig, Models
from anyform.contract.errors import Invalid
from anyform.contract.facts import Settings
from anyform.http.config import HttpConfig, Listener
from anyform.kernel.context import Sizing
from anyform.workers.lifecycle import Lifecycle

COMMAND = "[command.c]\ncommand = 'x'\nreads = ['y']"
PORTED = f"{COMMAND}\nargs = ['{{port}}']"
IDLE = "a number of seconds; negative: never"
TIMES = 'seconds, or a time such as "5m"; -1: for ever'


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ANYFORM_") or name in config.FOREIGN:
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


def test_a_folder_for_pictures_lies_beside_the_file() -> None:
    written('[server]\nimages_folder = "made"\nimages_keep_s = 60')
    found = config.load()
    assert found.images_folder == Path.cwd() / "made"
    assert found.server.images_folder == str(Path.cwd() / "made")


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
        media_folders = ["pictures", "/srv/pictures"]
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
    assert found.server.media_folders == (Path.cwd() / "pictures", Path("/srv/pictures").absolute())
    assert found.images_folder == Path.cwd() / "learnt" / "images"
    assert found.models.aliases == {"small": "qwen3:Q4_K_M"}
    assert found.defaults == Settings(context=4096)
    assert found.model == {"qwen3:Q4_K_M": ModelConfig(parallel=2, options={"gpu_layers": 3})}
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


def test_rules_and_commands() -> None:
    written(
        """
        default_model = "small"
        [format.gguf]
        backend = "llama-server"
        [model."qwen*"]
        context = 9
        dtype = "f16"
        fallback = false
        where = "here"
        pin = true
        keep_alive = "5m"
        system = "Be brief."
        request = { temperature = 0.5, max_tokens = 7, steps = 20, guidance = 3.5, size = "512x512" }
        [command.llama-server]
        command = "bin/llama-server"
        args = ["-m", "{model_path}", "--port", "{port}"]
        reads = ["gguf"]
        env = { THREADS = "2" }
        ports = "9000-9100"
        ready_timeout_s = 10
        [command.in-path]
        command = "vllm"
        args = ["{port}"]
        reads = ["safetensors"]
        """
    )
    found = config.load()
    assert (found.default_model, found.server.default_model) == ("small", "small")
    assert found.format == {"gguf": ModelConfig(backend="llama-server")}
    rule = found.model["qwen*"]
    assert (rule.dtype, rule.fallback, rule.where, rule.pin, rule.keep_alive) == ("f16", False, "here", True, "5m")
    assert (rule.system, rule.request["size"]) == ("Be brief.", "512x512")
    assert found.command["in-path"] == CommandConfig(command="vllm", args=("{port}",), reads=("safetensors",))
    server = found.command["llama-server"]
    assert server.command == str(Path.cwd() / "bin" / "llama-server")
    assert (server.env, server.ports, server.ready_timeout_s) == ({"THREADS": "2"}, "9000-9100", 10)


def test_the_lifecycle_and_its_names_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_UNLOAD_TIMEOUT", "60")
    monkeypatch.setenv("CLEANUP_CHECK_INTERVAL", "7")
    assert (config.load().lifecycle.idle_s, config.load().lifecycle.check_s) == (60, 7)
    written("[lifecycle]\nidle_s = 1\nmax_models = 2\n[lifecycle.limit_bytes]\ncpu = 5\n")
    assert (config.load().lifecycle.idle_s, config.load().lifecycle.max_models) == (60, 2)
    assert config.load().lifecycle.limit_bytes == {"cpu": 5}
    monkeypatch.setenv("ANYFORM_LIFECYCLE_IDLE_S", "-1")
    assert (config.load().lifecycle.idle_s, config.load().lifecycle.check_s) == (-1, 7)
    monkeypatch.setenv("MODEL_UNLOAD_TIMEOUT", "soon")
    assert config.load().lifecycle.idle_s == -1


def test_a_mistake_in_a_foreign_variable_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_UNLOAD_TIMEOUT", "soon")
    with pytest.raises(Invalid, match=r"^MODEL_UNLOAD_TIMEOUT: lifecycle.idle_s is 'soon'. It must be a number."):
        config.load()


def test_every_setting_has_its_value_and_what_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from anyform.configfile import origins

    written(
        '[server]\nport = 1\n[model."a.b"]\ncontext = 2\n[command.c]\ncommand="x"\nargs=["{port}"]\nreads=["y"]\n'
        'env={ KEY = "secret" }\n'
    )
    monkeypatch.setenv("ANYFORM_SERVER_QUEUE", "3")
    monkeypatch.setenv("MODEL_UNLOAD_TIMEOUT", "60")
    found = {origin.name: (origin.value, origin.source) for origin in origins(config.load())}
    assert found["server.port"] == (1, "anyform.toml")
    assert found["server.queue"] == (3, "ANYFORM_SERVER_QUEUE")
    assert found["server.host"] == ("127.0.0.1", "default")
    assert found["lifecycle.idle_s"] == (60, "MODEL_UNLOAD_TIMEOUT")
    assert found['model."a.b".context'] == (2, "anyform.toml")
    assert 'model."a.b".parallel' not in found
    assert found["command.c.env"] == ({"KEY": "…"}, "anyform.toml")


def test_what_plugins_are_told() -> None:
    from anyform.configfile import origins

    written(
        '[plugin.board]\nlibrary = "lib.so"\ndeep = { on = true, list = [1, 2.5] }\napi_key = "sk"\n'
        '[plugin.other]\nwhen = 2026-01-01\nhubs = [{ at = "x", token = "sk" }]\n'
    )
    found = config.load()
    assert found.plugin["board"] == {"library": "lib.so", "deep": {"on": True, "list": [1, 2.5]}, "api_key": "sk"}
    assert found.plugin["other"] == {"when": datetime.date(2026, 1, 1), "hubs": [{"at": "x", "token": "sk"}]}
    told = {origin.name: (origin.value, origin.source) for origin in origins(found)}
    assert told["plugin.board.library"] == ("lib.so", "anyform.toml")
    assert told["plugin.board.deep"] == ({"on": True, "list": [1, 2.5]}, "anyform.toml")
    assert told["plugin.board.api_key"] == ("…", "anyform.toml")
    assert told["plugin.other.hubs"] == ([{"at": "x", "token": "…"}], "anyform.toml")


def test_listeners_of_the_file_and_of_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    written(
        '[server]\ndialects = ["openai", "anyform"]\n[[server.listeners]]\nport = 11434\ndialects = ["ollama_api"]\n'
        '[[server.listeners]]\nhost = "::1"\ndialects = ["lmstudio_api", "openai"]'
    )
    found = config.load().server
    assert found.dialects == ("openai", "anyform")
    assert found.listeners == (
        Listener(port=11434, dialects=("ollama_api",)),
        Listener(host="::1", dialects=("lmstudio_api", "openai")),
    )
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", "11434=ollama_api,openai [::1]:0 lmstudio_api")
    assert config.load().server.listeners == (
        Listener(port=11434, dialects=("ollama_api", "openai")),
        Listener(port=0, host="::1"),
        Listener(dialects=("lmstudio_api",)),
    )
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", " [::1]:8080=a [::1]:b")
    assert config.load().server.listeners == (
        Listener(port=8080, host="::1", dialects=("a",)),
        Listener(host="::1", dialects=("b",)),
    )
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", '[{"host": "[::1]:"}]')
    assert config.load().server.listeners == (Listener(host="[::1]:"),)
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", '[{"port": 1, "dialects": ["a"]}, {"dialects": "a, b"}]')
    assert config.load().server.listeners == (Listener(port=1, dialects=("a",)), Listener(dialects=("a", "b")))
    origins = {one.name: one.source for one in configfile.origins(config.load())}
    assert origins["server.listeners"] == "ANYFORM_SERVER_LISTENERS"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("99999=a", "'99999=a' is no listener: '99999' is no port from 0 to 65535."),
        ("[{", "ANYFORM_SERVER_LISTENERS is no JSON: "),
        ('[{"port": -1}]', "ANYFORM_SERVER_LISTENERS: server.listeners.0.port is -1. It must be a whole number from 0"),
        ('[{"port": true}]', "ANYFORM_SERVER_LISTENERS: server.listeners.0.port is True. It must be a whole number"),
        ("[7]", "ANYFORM_SERVER_LISTENERS: server.listeners.0 is 7. It must be a table."),
    ],
)
def test_a_mistake_in_the_variable_of_listeners_is_told(monkeypatch: pytest.MonkeyPatch, said: str, told: str) -> None:
    monkeypatch.setenv("ANYFORM_SERVER_LISTENERS", said)
    with pytest.raises(Invalid) as raised:
        config.load()
    assert told in str(raised.value)


def test_a_list_of_suggestions_lies_beside_the_file() -> None:
    written('[server]\nsuggestions = "mine.toml"\n')
    assert config.load().server.suggestions == str(Path("anyform.toml").absolute().with_name("mine.toml"))


def test_a_variable_may_hold_a_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON, over the file's; where the file has no such table, too."""
    from anyform.configfile import origins

    monkeypatch.setenv("ANYFORM_PLUGIN_BOARD", '{"library": "other.so", "api_key": "sk"}')
    monkeypatch.setenv("ANYFORM_MODEL_M", '{"context": 5}')
    alone = {origin.name: (origin.value, origin.source) for origin in origins(config.load())}
    assert alone["plugin.board.library"] == ("other.so", "ANYFORM_PLUGIN_BOARD")
    written('[plugin.board]\nlibrary = "lib.so"\nplatform = "p"\n[plugin.BOARD]\nlibrary = "upper.so"\n')
    found = config.load()
    assert found.plugin["board"] == {"library": "other.so", "platform": "p", "api_key": "sk"}
    told = {origin.name: (origin.value, origin.source) for origin in origins(found)}
    assert told["plugin.board.library"] == ("other.so", "ANYFORM_PLUGIN_BOARD")
    assert told["plugin.board.platform"] == ("p", "anyform.toml")
    assert told["plugin.board.api_key"] == ("…", "ANYFORM_PLUGIN_BOARD")
    assert told["plugin.BOARD.library"] == ("upper.so", "anyform.toml")
    assert told["model.m.context"] == (5, "ANYFORM_MODEL_M")


def test_a_variable_for_a_plugin_holds_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYFORM_PLUGIN_BOARD", "library")
    with pytest.raises(Invalid, match=r"^ANYFORM_PLUGIN_BOARD: plugin.board is 'library'. It must be a table.$"):
        config.load()


def test_where_the_file_may_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    here, own = Path("anyform.toml"), config.config_folder() / "anyform.toml"
    assert config.places() == [(here, "absent"), (own, "absent")]
    written("", own)
    assert config.places() == [(here, "absent"), (own, "read")]
    written("")
    assert config.places() == [(here, "read"), (own, "unused")]
    monkeypatch.setenv("ANYFORM_CONFIG", "gone.toml")
    assert config.places() == [(Path("gone.toml"), "read"), (here, "unused"), (own, "unused")]


def test_the_sample_sets_nothing_until_its_signs_are_taken_away() -> None:
    text = config.SAMPLE.read_text(encoding="utf-8")
    written(text)
    assert config.load() == Config(file=Path("anyform.toml"))
    written(re.sub(r"(?m)^#(?=\S)", "", text))
    config.load()
    tables = tomllib.loads(re.sub(r"(?m)^#(?=\S)", "", text))
    told = {
        "server": HttpConfig,
        "models": Models,
        "defaults": Settings,
        "sizing": Sizing,
        "lifecycle": Lifecycle,
        "log": Log,
    }
    for name, kind in told.items():
        missing = {item.name for item in dataclasses.fields(kind)} - tables[name].keys()
        assert missing <= {"default_model"}, name
    assert {item.name for item in dataclasses.fields(ModelConfig)} == tables["model"]["qwen3*"].keys()
    assert {item.name for item in dataclasses.fields(CommandConfig)} == tables["command"]["llama-server"].keys()
    assert {item.name for item in dataclasses.fields(Config)} - tables.keys() == {"asked", "file"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nport = 99999", "server.port is 99999. It must be a whole number from 0 to 65535."),
        ('[server]\nport = "x"', "server.port is 'x'. It must be a whole number from 0 to 65535."),
        ("[server]\nqueue = -1", "server.queue is -1. It must be a whole number from 0 up."),
        ("[server]\ngrace_s = -1", "server.grace_s is -1. It must be a whole number from 0 up."),
        ("[server]\nbody_bytes = 0", "server.body_bytes is 0. It must be a whole number from 1 up."),
        ("[server]\nmedia_bytes = -1", "server.media_bytes is -1. It must be a whole number from 0 up."),
        ("[server]\nfetch_s = 0", "server.fetch_s is 0. It must be a whole number from 1 up."),
        ("[server]\nspeech_letters = 0", "server.speech_letters is 0. It must be a whole number from 1 up."),
        ('[server]\nfetch = "maybe"', "server.fetch is 'maybe'. It must be true or false."),
        ("[server]\nfetch_hosts = [3]", "server.fetch_hosts.0 is 3. It must be text in quotes."),
        ("[server]\nhost = 3", "server.host is 3. It must be text in quotes."),
        ("[server]\ndialects = 3", "server.dialects is 3. It must be a list, each text in quotes."),
        ("[server]\nlisteners = 3", "server.listeners is 3. It must be a list, each a table."),
        ("[server]\nlisteners = [3]", "server.listeners.0 is 3. It must be a table."),
        (
            "[[server.listeners]]\nport = 70000",
            "server.listeners.0.port is 70000. It must be a whole number from 0 to 65535.",
        ),
        (
            "[[server.listeners]]\nport = true",
            "server.listeners.0.port is True. It must be a whole number from 0 to 65535.",
        ),
        ("[[server.listeners]]\ndialects = [1]", "server.listeners.0.dialects.0 is 1. It must be text in quotes."),
        (
            "[[server.listeners]]\nprot = 1",
            "server.listeners.0.prot is not a setting. Known in [[server.listeners]]: port, host, dialects.",
        ),
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
        ('[model.m]\nwhere = "there"', 'model.m.where is \'there\'. It must be "worker" or "here".'),
        ("[model.m]\nfallback = 3", "model.m.fallback is 3. It must be true or false."),
        ('[format.f]\nkeep_alive = "soon"', f"format.f.keep_alive is 'soon'. It must be {TIMES}."),
        ("[model.m]\nkeep_alive = nan", f"model.m.keep_alive is nan. It must be {TIMES}."),
        ("[model.m]\nkeep_alive = []", f"model.m.keep_alive is []. It must be {TIMES}."),
        (
            "[model.m.request]\ntemperature = 9",
            "Invalid 'model.m.request.temperature': 9 is above the maximum. Expected a value <= 2.",
        ),
        (
            "[model.m.request]\ntemprature = 1",
            "model.m.request.temprature is no field of a request. Did you mean temperature?",
        ),
        ("[sizing]\nshare = 1.5", "sizing.share is 1.5. It must be a number from 0.01 to 1."),
        ("[lifecycle]\ncheck_s = 0", "lifecycle.check_s is 0.0. It must be a number from 0.01 up."),
        ("[lifecycle]\nwait_s = -1", "lifecycle.wait_s is -1.0. It must be a number from 0 up."),
        ("default_model = 3", "default_model is 3. It must be text in quotes."),
        ("plugin.board = 5", "plugin.board is 5. It must be a table."),
        ("plugin = 5", "plugin is 5. It must be a table."),
        (
            "[plugin.command.c]\na = 1",
            "plugin.command is no table. Each program has a table of its own: [command.NAME].",
        ),
        ("[command.c]\nreads = ['x']", 'command.c has no command. Name the program: command = "llama-server".'),
        ("[command.c]\ncommand = 'x'", 'command.c reads nothing. List the formats that it loads: reads = ["gguf"].'),
        (COMMAND, 'command.c is not told its port. Put {port} into args: args = ["--port", "{port}"].'),
        (f"{PORTED}\nports = '9-1'", "command.c has the ports '9-1'. Give a range: ports = \"9000-9100\"."),
        (f"{PORTED}\nports = '70000'", "command.c has the ports '70000'. Give a range: ports = \"9000-9100\"."),
        (f"{PORTED}\nready = 'x'", "command.c is ready at 'x'. Give a path: ready = \"/health\"."),
        (
            f"{PORTED}\nenv = {{ 'a b' = 'c' }}",
            "command.c sets the variable 'a b'. Names have letters, digits and underscores.",
        ),
        (f"{PORTED}\nenv = {{ a = 1 }}", "command.c.env.a is 1. It must be text in quotes."),
        (
            PORTED.replace(".c", ".command"),
            "command.command has the name of the plugin that runs commands. Call it otherwise.",
        ),
        ("prefer = 3", "prefer is 3. It must be a list, each text in quotes."),
        ("prefer = [1]", "prefer.0 is 1. It must be text in quotes."),
        ("state = 1", "state is 1. It must be a path in quotes."),
        ("[lifecycle]\nidle_s = nan", f"lifecycle.idle_s is nan. It must be {IDLE}, and finite."),
        ("[lifecycle]\nidle_s = inf", f"lifecycle.idle_s is inf. It must be {IDLE}, and finite."),
        ("[lifecycle]\npatience_s = inf", "lifecycle.patience_s is inf. It must be a number from 0 up, and finite."),
        ("[sizing]\nshare = nan", "sizing.share is nan. It must be a number from 0.01 to 1, and finite."),
        (
            f"{PORTED}\nready_timeout_s = nan",
            "command.c.ready_timeout_s is nan. It must be a number from 0 up, and finite.",
        ),
        ("[model.m.options]\nx = [nan]", "model.m.options.x.0 is nan. It must be a number, and finite."),
        ("[model.m]\nkeep_alive = inf", f"model.m.keep_alive is inf. It must be {TIMES}."),
        ("[model.m]\nkeep_alive = true", f"model.m.keep_alive is True. It must be {TIMES}."),
        ("[lifecycle]\nidle_s = true", f"lifecycle.idle_s is True. It must be {IDLE}."),
        ("[server]\nport = false", "server.port is False. It must be a whole number from 0 to 65535."),
        ("[sizing.patterns]\nx = true", "sizing.patterns.x is True. It must be a whole number from 1 up."),
        ("[sizing.patterns]\nx = 0", "sizing.patterns.x is 0. It must be a whole number from 1 up."),
        (
            "[lifecycle]\nlimit_bytes = { cpu = -5 }",
            "lifecycle.limit_bytes.cpu is -5. It must be a whole number from 1 up.",
        ),
        (
            '[lifecycle.limit_bytes]\n"cuda:0" = 0',
            "lifecycle.limit_bytes.cuda:0 is 0. It must be a whole number from 1 up.",
        ),
        (
            PORTED.replace("{port}", "{port} {modelpath}"),
            "command.c says {modelpath}, which stands for nothing. Known: {port}, {host}, {model_path}, {model}, "
            "{context}, {total_context}, {parallel}, {device}, {device_kind}, {device_index}.",
        ),
        (
            "[model.m.request]\nstream = true",
            "model.m.request.stream is nothing that a rule may say. Each request says it itself.",
        ),
        (
            "[model.m.request]\nmax_tokens = 'x'",
            "Invalid type for 'model.m.request.max_tokens': expected an integer, but got a string instead.",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(text: str, said: str) -> None:
    written(text)
    with pytest.raises(Invalid) as caught:
        config.load()
    assert str(caught.value) == f"anyform.toml: {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_models = 3", "max_models is not a setting. It belongs in [lifecycle]. Known: server, models"),
        ("[server]\nidle_s = 3", "server.idle_s is not a setting. It belongs in [lifecycle]. Known in [server]: host"),
        ("parallel = 3", "parallel is not a setting. It belongs in [defaults] or in [model.NAME]. Known: "),
        ("ports = '1-2'", "ports is not a setting. It belongs in [command.NAME]. Known: "),
        (
            "[server]\ndefault_model = 'm'",
            "server.default_model is not a setting. It belongs at the top, before the tables. Known in [server]: host",
        ),
    ],
)
def test_a_setting_in_a_wrong_place_is_told_where_it_belongs(text: str, said: str) -> None:
    written(text)
    with pytest.raises(Invalid) as caught:
        config.load()
    assert str(caught.value).startswith(f"anyform.toml: {said}")
    assert "suggestions, default_model" not in str(caught.value)


def test_a_number_without_end_in_a_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_UNLOAD_TIMEOUT", "nan")
    with pytest.raises(Invalid, match=r"^MODEL_UNLOAD_TIMEOUT: lifecycle.idle_s is nan\."):
        config.load()


def test_the_default_model_is_one_setting() -> None:
    from anyform.configfile import origins

    written("default_model = 'm'")
    found = [(origin.name, origin.value) for origin in origins(config.load()) if "default_model" in origin.name]
    assert found == [("default_model", "m")]


def test_true_and_false_stand_where_they_may() -> None:
    written("offline = true\n[models]\npull = true\n[model.m]\npin = true\noptions = { exact = true }\n")
    assert (config.load().offline, config.load().model["m"].options) == (True, {"exact": True})


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
