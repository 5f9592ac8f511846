"""`anyform serve` in a process of its own, and what is asked of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

COMMAND = [sys.executable, "-m", "anyform"]
LIMIT_S = 60
TOLD = ("ANYFORM_", "HF_", "HUGGINGFACE_", "RKLLM_")
HOMES = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


class House:
    """A folder with a settings file and models, and the commands that are run in it."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder = folder
        (folder / "anyform.toml").write_text(settings, encoding="utf-8")

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The test's own, without what would configure anyform or name this machine's models."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(TOLD)}
        (self.folder / "home").mkdir(exist_ok=True)
        home = dict.fromkeys(HOMES, str(self.folder / "home"))
        return {**kept, **home, "OLLAMA_MODELS": str(self.folder / "home"), **(extra or {})}

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            cwd=self.folder,
            env=self.environment(env),
            timeout=LIMIT_S,
            check=False,
        )

    def json(self, *words: str | Path) -> Any:
        """What a command prints with --json, whatever it ends with."""
        done = self.run(*words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def serve(self, *words: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
        log = self.folder / "log"
        command = [*COMMAND, "serve", "--port", "0", *words]
        with log.open("w") as told:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=told, text=True, cwd=self.folder, env=self.environment(env)
            )
        try:
            yield Served(process, log)
        finally:
            process.terminate()
            process.communicate(timeout=30)


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        greeting = process.stdout.readline() if process.stdout else ""
        assert greeting.startswith("anyform serves http://"), log.read_text()
        self.url = greeting.split()[2].removesuffix("/v1")
        self.log = log
        self.http = httpx.Client(base_url=self.url, timeout=LIMIT_S)
        self.openai = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=LIMIT_S)

    def loaded(self, model: str = "chat") -> dict[str, Any]:
        """What the server says of a model that it runs."""
        [found] = [one for one in self.http.get("/runtime/status").json()["models"] if one["model"] == model]
        return found

    def domain(self, pid: int) -> str:
        """The memory domain that the library of a worker was told, by the server's log."""
        return re.findall(rf"worker {pid}: .*base_domain_id=(\d+)", self.log.read_text())[-1]

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def ask(self, text: str, model: str = "chat", **fields: Any) -> httpx.Response:
        """One turn of a chat, as the wire has it."""
        return self.post("/v1/chat/completions", model=model, messages=[user(text)], **fields)

    def said(self, text: str, model: str = "chat", **fields: Any) -> str:
        """The answer's text."""
        answer = self.ask(text, model, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["choices"][0]["message"]["content"])

    @contextmanager
    def stream(self, text: str, model: str = "chat", **fields: Any) -> Iterator[Iterator[str]]:
        """The pieces of an answer as they come; to leave the block is to hang up."""
        body = {"model": model, "messages": [user(text)], "stream": True, **fields}
        with (
            httpx.Client(base_url=self.url, timeout=LIMIT_S) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as answer,
        ):
            assert answer.status_code == 200, answer.read()
            yield pieces(answer)

    @contextmanager
    def begun(self, text: str, model: str = "chat") -> Iterator[None]:
        """A request of which nothing is read; to leave the block is to hang up."""
        body = json.dumps({"model": model, "messages": [user(text)], "stream": True}).encode()
        at = httpx.URL(self.url)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {at.netloc.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((at.host, at.port or 80), LIMIT_S) as sock:
            sock.sendall(head.encode() + body)
            yield

    def until(self, present: int, model: str = "chat") -> None:
        """Wait until so many requests for *model* run or wait. The server is asked again and again."""
        end = time.monotonic() + LIMIT_S
        while (now := self.http.get("/runtime/status").json()["requests"].get(model, 0)) != present:
            assert time.monotonic() < end, f"{now} requests run or wait, not {present}"


class BrokenError(Exception):
    """A stream ended with an error: its message."""


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def pieces(answer: httpx.Response) -> Iterator[str]:
    """The texts of a streamed chat. Raises BrokenError for an error in it."""
    for line in answer.iter_lines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise BrokenError(event["error"]["message"])
            for choice in event["choices"]:
                if content := choice["delta"].get("content"):
                    yield content


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What *calls* return, all of them begun at once, each in a thread of its own."""
    found: dict[int, Any] = {}
    gate = threading.Barrier(len(calls))

    def run(place: int) -> None:
        gate.wait(LIMIT_S)
        found[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    return [found[place] for place in range(len(calls))]
