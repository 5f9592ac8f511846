"""A plugin wheel that pip installs while a server streams: its format is served, the stream is whole; then it goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

NAME = "late_bird"
WORDS = " ".join(f"w{number}" for number in range(160))
PLUGIN = '''
"""Reads files that end in .bird, and says VERSION and what it is told."""

from anyform.contract.events import Done, Finish, Progress, Text, Usage
from anyform.contract.facts import BackendInfo, Evidence, FormatMatch, MemoryEstimate, Metadata
from anyform.contract.hooks import hookimpl

ANYFORM_CONTRACT = 1


@hookimpl
def list_backends():
    return [BackendInfo(name="bird", reads=("bird",), tasks=("complete",))]


@hookimpl
def detect_format(files):
    return [
        FormatMatch(format="bird", entry=name, files=(name,), evidence=Evidence.NAME, why="its ending", name=name[:-5])
        for name in files.files
        if name.endswith(".bird")
    ]


@hookimpl
def validate(files, match):
    return []


@hookimpl
def extract_metadata(files, match):
    return Metadata(name=match.name, tasks=("complete",), context=100)


@hookimpl
def estimate_memory(metadata, settings):
    return MemoryEstimate(weights_bytes=10, bytes_per_token=1)


@hookimpl
def load(plan):
    return Bird()


@hookimpl
def add_routes(routes, runtime):
    routes.add_api_route("/bird", lambda: {"version": "VERSION"}, methods=["GET"])


class Bird:
    parallel = 1

    def generate(self, job, stop):
        yield Progress(stage="prompt", total=1)
        yield Text(text="VERSION says " + job.prompt)
        yield Done(finishes=(Finish(),), usage=Usage(prompt_tokens=1, completion_tokens=3))

    def close(self):
        pass
'''


def wheel(folder: Path, version: str) -> Path:
    """A wheel of the plugin, as a build tool would zip it."""
    file, info = folder / f"{NAME}-{version}-py3-none-any.whl", f"{NAME}-{version}.dist-info"
    contents = {
        f"{NAME}/__init__.py": "",
        f"{NAME}/plugin.py": PLUGIN.replace("VERSION", version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[anyform.plugins]\n{NAME} = {NAME}.plugin\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    return file


def environment(folder: Path) -> str:
    """The interpreter of a new virtual environment that also has all that this one has."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip())
    outer = sysconfig.get_path("purelib")
    (own / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    return str(python)


class Place:
    """A virtual environment over this one, in which pip installs, and a server of it over models of both formats."""

    def __init__(self, root: Path) -> None:
        self.root, self.models = root, root / "models"
        self.models.mkdir()
        (self.models / "slow.echo").write_text(json.dumps({"format": "echo", "options": {"delay_s": 0.05}}))
        (self.models / "robin.bird").write_text("chirp")
        self.python = environment(root / "venv")
        names = ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANYFORM_", "HF_"))},
            **dict.fromkeys(names, str(root / "home")),
        }
        self.process = subprocess.Popen(
            [self.python, "-m", "anyform", "serve", "--models", str(self.models), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=self.environment,
        )
        assert self.process.stdout is not None
        said = next(line for line in self.process.stdout if line.startswith("anyform serves http"))
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.url = said.split()[2].removesuffix("/v1")
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def close(self) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(30)

    def pip(self, *arguments: str | Path) -> None:
        quiet = ("--disable-pip-version-check", "--no-input", "--python", self.python)
        command = [sys.executable, "-m", "pip", *quiet, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)
        assert done.returncode == 0, done.stderr

    def install(self, version: str) -> None:
        file = wheel(self.root, version)
        self.pip("install", "--no-index", "--no-deps", "--upgrade", file)

    def uninstall(self) -> None:
        self.pip("uninstall", "--yes", NAME.replace("_", "-"))

    def refresh(self) -> str:
        """What `anyform plugins --refresh` says of the server."""
        command = [self.python, "-m", "anyform", "plugins", "--refresh", "--url", self.url]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", env=self.environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def names(self) -> set[str]:
        return {model["id"] for model in self.http.get("/v1/models").json()["data"]}

    def bird(self) -> httpx.Response:
        return self.http.post("/v1/completions", json={"model": "robin", "prompt": "hello"})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


class Streaming:
    """One long answer, read in a thread."""

    def __init__(self, place: Place) -> None:
        self.text, self.ends = "", list[str]()
        self.begun, self._place = threading.Event(), place
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self.begun.wait(60)

    def _read(self) -> None:
        body = {"model": "slow", "prompt": WORDS, "max_tokens": 200, "stream": True}
        with self._place.http.stream("POST", "/v1/completions", json=body) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    choice: dict[str, Any] = json.loads(line.removeprefix("data: "))["choices"][0]
                    self.text += choice["text"]
                    self.ends += [choice["finish_reason"]] if choice["finish_reason"] else []
                    self.begun.set()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def whole(self) -> bool:
        self._thread.join(60)
        return (self.text.split(), self.ends) == (WORDS.split(), ["stop"])


def test_a_wheel_installed_during_a_stream_serves_its_format_and_goes_again(place: Place) -> None:
    assert place.names() == {"slow"}
    assert place.bird().status_code == 404
    streaming = Streaming(place)

    place.install("1.0")
    assert f"added {NAME}" in place.refresh()
    assert place.names() == {"slow", "robin"}
    assert place.bird().json()["choices"][0]["text"] == "1.0 says hello"
    assert place.http.get("/bird").json() == {"version": "1.0"}
    assert streaming.runs
    assert streaming.whole()

    streaming = Streaming(place)
    place.install("2.0")
    assert f"changed {NAME}" in place.refresh()
    assert place.http.get("/bird").json() == {"version": "2.0"}
    place.http.post("/runtime/unload/robin").raise_for_status()
    assert place.bird().json()["choices"][0]["text"] == "2.0 says hello"

    place.uninstall()
    assert f"removed {NAME}" in place.refresh()
    assert place.names() == {"slow"}
    assert place.bird().status_code == 404
    assert place.http.get("/bird").status_code == 404
    assert streaming.runs
    assert streaming.whole()
    told = place.http.get("/metrics").text
    assert 'anyform_requests_total{backend="echo",model="slow",outcome="ok",route="/v1/completions"} 2.0' in told


def test_a_model_that_runs_outlives_its_plugin(place: Place) -> None:
    place.install("1.0")
    place.refresh()
    place.http.post("/runtime/load/robin").raise_for_status()
    place.uninstall()
    place.refresh()
    assert [model["model"] for model in place.http.get("/runtime/status").json()["models"]] == ["robin"]
    assert place.bird().status_code == 404


def test_without_a_server_the_command_says_so_and_lists_anew(tmp_path: Path) -> None:
    environment = {**os.environ, "ANYFORM_SERVER_PORT": "9", "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "anyform", "plugins", "--refresh"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.returncode == 0
    assert "no server runs at http://127.0.0.1:9" in done.stderr
    assert "echo" in done.stdout
    named = subprocess.run(
        [*command, "--url", "http://127.0.0.1:9"], capture_output=True, encoding="utf-8", check=False
    )
    assert (named.returncode, named.stdout) == (1, "")
