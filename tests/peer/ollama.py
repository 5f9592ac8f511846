"""A real Ollama, started for a test.

`OLLAMA_PEER`: its executable; or folders with the contents of the wheels bigdl-core-cpp (Ollama 0.9.3: 2.7.0b20260110)
and intel-cmplr-lib-rt, intel-cmplr-lib-ur and intel-sycl-rt, which have what it is linked with. Without the
variable they are looked for among the installed distributions. That build is for Intel's GPUs; it runs without one when
a library with an empty list of devices stands in for its SYCL backend: a C compiler makes it. Its AMX kernels are left
out too: they fail on quantized models.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

VARIABLE = "OLLAMA_PEER"
WHEEL = "bigdl-core-cpp"
ENGINE = "ollama-lib"
SYCL, AMX = "libggml-sycl.so", "libggml-cpu-sapphirerapids.so"
NEEDED = ("libsvml.so", "libsycl.so.8", "libur_loader.so.0")
PATIENCE_S = 30.0
_STANDS_IN = """\
void *ggml_backend_sycl_reg(void) { return 0; }
void *ggml_backend_sycl_init(int device) { return 0; }
void *ggml_backend_sycl_buffer_type(int device) { return 0; }
int ggml_backend_sycl_get_device_count(void) { return 0; }
"""


class Missing(Exception):  # noqa: N818 - why there is none
    """There is no peer here, and why."""


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of an Ollama that keeps its models in *home*. Raises Missing."""
    command, libraries = _program(home)
    address = f"127.0.0.1:{_free_port()}"
    environment = {
        **os.environ,
        "OLLAMA_HOST": address,
        "OLLAMA_MODELS": str(home / "models"),
        "HOME": str(home),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([str(command), "serve"], env=environment, stdout=log, stderr=log)
    try:
        _await(f"http://{address}/", process, home / "log")
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _program(home: Path) -> tuple[Path, list[Path]]:
    """The executable, and folders with libraries that it needs."""
    named = [Path(place) for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]
    if len(named) == 1 and named[0].is_file():
        return named[0], []
    engine = next((path for place in named for path in place.rglob(ENGINE)), None) if named else _installed()
    if engine is None:
        raise Missing(f"no Ollama: {VARIABLE} names none, and {WHEEL} is not installed")
    places = named or [Path(sys.prefix) / "lib"]
    libraries = []
    for name in NEEDED:
        found = next((path for place in places for path in place.rglob(name)), None)
        if found is None:
            raise Missing(f"{ENGINE} needs {name}, which is nowhere in {', '.join(map(str, places))}")
        libraries.append(found.parent)
    return _tree(engine.parent, home / "program"), libraries


def _installed() -> Path | None:
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == ENGINE), None)


def _tree(source: Path, folder: Path) -> Path:
    """A copy of *source* whose SYCL backend finds no device; its executable."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise Missing("no C compiler, which makes a part of the peer")
    folder.mkdir()
    for path in source.iterdir():
        if path.name not in (SYCL, AMX):
            shutil.copy2(path, folder / path.name)
    code = folder / "sycl.c"
    code.write_text(_STANDS_IN)
    made = [compiler, "-shared", "-fPIC", "-o", str(folder / SYCL), str(code), f"-Wl,-soname,{SYCL}"]
    subprocess.run(made, check=True)
    program = folder / ENGINE
    program.chmod(0o755)
    return program


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise Missing(f"the peer ended with status {process.returncode}: {log.read_text(errors='replace')[-500:]}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)  # another program's start is not told to us
    raise Missing(f"the peer does not answer at {url}")
