"""`make demo`: shows a small model being recognised, explained, run in the terminal and served. Ends by itself."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".demo"
SAMPLE = ROOT.parent / "shared" / "models" / "stories260K-gguf"
START_S = 60
PROMPT = "Once upon a time"
REQUEST = {"prompt": PROMPT, "max_tokens": 60, "temperature": 0, "stream": True}


def main() -> None:
    """Run each step as a user would type it."""
    os.environ["ANYFORM_STATE"] = str(WORK / "state")
    model = _model()
    _say("Which models are there?")
    _run("list", "--models", str(model.parent))
    _say("What does this one say of itself?")
    _run("show", str(model))
    _say("Which backend will run it, and why?")
    _run("explain", str(model))
    _say("It continues a text, in the terminal:")
    _run("run", str(model), "--raw", "--max-tokens", "60", "--temperature", "0", PROMPT)
    _say("It is served as OpenAI serves its models:")
    with _served(model) as url:
        _stream(f"{url}/v1/completions", {"model": model.stem, **REQUEST})
        _run("ps", "--url", url)
    _say("That was all. README.md shows a first real use.")


def _model() -> Path:
    """The sample model, else a tiny one with random weights."""
    if SAMPLE.is_dir():
        return sorted(SAMPLE.glob("*.gguf"))[-1]
    from anyform.testing.gguf import write_llama

    folder = WORK / "models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny-random.gguf"
    write_llama(path)
    _say(f"There is no sample model here, so {path.name} was written. Its weights are random: it talks nonsense.")
    return path


@contextlib.contextmanager
def _served(model: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{_free_port()}"
    command = ("serve", str(model), "--port", url.rpartition(":")[2])
    _show(*command)
    WORK.mkdir(exist_ok=True)
    with (WORK / "server.log").open("w") as log:
        server = subprocess.Popen(_anyform(*command), stderr=log)
    try:
        _wait(server, f"{url}/health")
        print(flush=True)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start; see {WORK / 'server.log'}") from None
            time.sleep(0.05)
        else:
            return


def _stream(url: str, body: dict[str, Any]) -> None:
    """Ask as curl would; print each piece as it comes."""
    payload = json.dumps(body)
    print(f"$ curl {url} -H 'Content-Type: application/json' -d '{payload}'", flush=True)
    request = urllib.request.Request(url, payload.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_S) as response:
        print(PROMPT, end="", flush=True)
        for line in response:
            if line.startswith(b"data: {"):
                choices = json.loads(line[6:])["choices"]
                print(choices[0]["text"] if choices else "", end="", flush=True)
    print("\n")


def _run(*arguments: str) -> None:
    _show(*arguments)
    if code := subprocess.run(_anyform(*arguments)).returncode:
        raise SystemExit(f"`anyform {arguments[0]}` failed with {code}")
    print(flush=True)


def _show(*arguments: str) -> None:
    words = (f'"{word}"' if " " in word else word for word in arguments)
    print(
        "$ anyform",
        *(os.path.relpath(word) if word.startswith(str(ROOT.parent)) else word for word in words),
        flush=True,
    )


def _anyform(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "anyform", *arguments]


def _say(text: str) -> None:
    print(f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else f"== {text}", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
