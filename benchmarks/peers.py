"""The servers that are compared: how each is got, and started with flags alike.

llama.cpp's `llama-server` is built from the sources inside the llama-cpp-python sdist of the version that is installed,
so both sides run the same commit with the same default build flags. `llama_cpp.server` lives in an environment of its
own, since its requirements are not ours. All of it goes to .bench; each is made once. Needs a C++ compiler.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent / ".bench"
BUILD = BENCH / "llama.cpp"
VENV = BENCH / "venv"
CMAKE_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
WITHOUT_EXTRA_BUFFERS = """
import runpy, sys
import llama_cpp.llama_cpp as engine
default = engine.llama_model_default_params
def reduced():
    params = default()
    params.use_extra_bufts = False
    return params
engine.llama_model_default_params = reduced
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Flags:
    """What all servers are told alike. `context` is tokens per request."""

    model: Path
    port: int
    clients: int
    context: int
    threads: int
    server: str = "anyform"
    """Of SERVERS."""

    @property
    def name(self) -> str:
        """What the server calls the model."""
        if self.server.startswith("transformers"):
            return str(self.model)
        return self.model.stem if self.model.is_file() else self.model.name


def amx() -> bool:
    """Whether this CPU has AMX tiles, on which llama.cpp crashes unless it leaves weights as they are."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "amx_tile" in cpuinfo.read_text()


def anyform(flags: Flags) -> list[str]:
    """Our own server, as a user starts it."""
    return [
        *(sys.executable, "-m", "anyform", "serve", str(flags.model), "--port", str(flags.port)),
        *("--context", str(flags.context), "--parallel", str(flags.clients)),
        *("--option", f"threads={flags.threads}"),
    ]


def anyform_preferring(*engines: str) -> Callable[[Flags], list[str]]:
    """Our own server, told which engines to take."""
    return lambda flags: [*anyform(flags), *(part for engine in engines for part in ("--prefer", engine))]


def transformers_serve(flags: Flags) -> list[str]:
    """Transformers' own server, as it comes: one request after another."""
    return [
        *(str(Path(sys.executable).with_name("transformers")), "serve", str(flags.model)),
        *("--host", "127.0.0.1", "--port", str(flags.port), "--device", "cpu"),
    ]


def transformers_serve_continuous(flags: Flags) -> list[str]:
    """The same with its continuous batching, its memory sized for the clients: left to itself it takes all there is."""
    page = 32
    pages = -(-flags.context // page) * (flags.clients + 1)
    return [
        *(*transformers_serve(flags), "--continuous-batching", "--cb-block-size", str(page)),
        *("--cb-num-blocks", str(pages), "--cb-max-batch-tokens", "512"),
    ]


def llama_server(flags: Flags) -> list[str]:
    """llama.cpp's server. Its cache of prompts that left their slot is off: no prompt comes twice here."""
    return [
        *(str(built_llama_server()), "--model", str(flags.model), "--host", "127.0.0.1", "--port", str(flags.port)),
        *("--parallel", str(flags.clients), "--ctx-size", str(flags.clients * flags.context)),
        *("--threads", str(flags.threads), "--cache-ram", "0"),
        *(["--no-repack"] if amx() else []),
    ]


def llama_cpp_server(flags: Flags) -> list[str]:
    """llama-cpp-python's server, which has one sequence: `context` is all it needs."""
    python = str(server_python())
    start = [python, "-c", WITHOUT_EXTRA_BUFFERS] if amx() else [python, "-m", "llama_cpp.server"]
    return [
        *(*start, "--model", str(flags.model), "--host", "127.0.0.1", "--port", str(flags.port)),
        *("--n_ctx", str(flags.context), "--n_threads", str(flags.threads), "--n_threads_batch", str(flags.threads)),
        *("--verbose", "false"),
    ]


def llama_cpp_server_queueing(flags: Flags) -> list[str]:
    """The same, told not to cut a running stream when a new request comes."""
    return [*llama_cpp_server(flags), "--interrupt_requests", "false"]


SERVERS: dict[str, Callable[[Flags], list[str]]] = {
    "anyform": anyform,
    "anyform-genai": anyform_preferring("onnxruntime_genai"),
    "anyform-onnxruntime": anyform_preferring("onnxruntime"),
    "anyform-transformers": anyform_preferring("transformers"),
    "llama-server": llama_server,
    "llama_cpp.server": llama_cpp_server,
    "llama_cpp.server-queueing": llama_cpp_server_queueing,
    "transformers-serve": transformers_serve,
    "transformers-serve-continuous": transformers_serve_continuous,
}


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a process group of its own; whatever happens, nothing of it is left afterwards.

    What it printed is shown if the block raises.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=BENCH.parent,  # not here, where transformers.py would be taken for the package
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            yield process
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read()[-3000:].decode(errors="replace"))
            raise
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def built_llama_server() -> Path:
    """`llama-server` of the installed llama-cpp-python's commit; built if it is not there (minutes)."""
    binary, stamp, wanted = BUILD / "bin" / "llama-server", BUILD / "built-from", version("llama-cpp-python")
    if binary.exists() and stamp.exists() and stamp.read_text().strip() == wanted:
        return binary
    source = _sources(wanted)
    print(f"building llama-server of llama-cpp-python {wanted} in {BUILD}; this takes some minutes", file=sys.stderr)
    cmake, ninja = _tool("cmake"), _tool("ninja")
    shutil.rmtree(BUILD, ignore_errors=True)
    _do(cmake, "-S", source, "-B", BUILD, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", *CMAKE_FLAGS)
    _do(cmake, "--build", BUILD, "--target", "llama-server", "-j", os.cpu_count() or 2)
    stamp.write_text(wanted)
    return binary


def server_python() -> Path:
    """The Python of the environment that has `llama_cpp.server`; made if it is not there."""
    python, stamp, wanted = VENV / "bin" / "python", VENV / "built-from", version("llama-cpp-python")
    if not (stamp.exists() and stamp.read_text().strip() == wanted):
        _environment()
        _do(python, "-m", "pip", "install", "--quiet", f"llama-cpp-python[server]=={wanted}")
        stamp.write_text(wanted)
    return python


def _sources(wanted: str) -> Path:
    folder = BENCH / f"llama_cpp_python-{wanted}"
    if not folder.exists():
        BENCH.mkdir(exist_ok=True)
        package = f"llama-cpp-python=={wanted}"
        with tempfile.TemporaryDirectory(dir=BENCH) as work:
            source_only = ("--no-deps", "--no-binary=llama-cpp-python")
            _do(sys.executable, "-m", "pip", "download", "--quiet", *source_only, "--dest", work, package)
            with tarfile.open(next(Path(work).glob("*.tar.gz"))) as archive:
                archive.extractall(BENCH, filter="data")
    return folder / "vendor" / "llama.cpp"


def _tool(name: str) -> str:
    """A build tool from the path, else from the registry."""
    found = shutil.which(name)
    if not found:
        _environment()
        _do(VENV / "bin" / "python", "-m", "pip", "install", "--quiet", name)
        found = str(VENV / "bin" / name)
    return found


def _environment() -> None:
    if not (VENV / "bin" / "python").exists():
        _do(sys.executable, "-m", "venv", VENV)


def _do(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(built_llama_server())
    print(server_python())
