"""`make demo`: the sample models, found, explained, served, and asked through the `openai` client.

Ends by itself; with an error if a step does not give what it is there to show.
"""

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

from openai import OpenAI

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".demo"
START_S = 60
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
DOCUMENTS = (
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "The server answers on loopback only: a web page that you visit cannot talk to it.",
    "anyform plugins shows what is installed, from which distribution, and what is broken and why.",
)


def main() -> None:
    """Run each step as a user would type it."""
    began = time.monotonic()
    _leave_settings_aside()
    _say("Which models are there? The sample comes with a package of its own.")
    _run("list")
    _say("Which backend will run it, and why?")
    _run("explain", "sample")
    _say("Ask it in the terminal:")
    _run("run", "sample", "How do I serve a folder of models?")
    _say("Serve it, with nothing configured:")
    with _served() as url:
        client = OpenAI(base_url=f"{url}/v1", api_key="unused")
        _stream(client, "Which command shows what a server has loaded?", "anyform ps")
        _call(client, "What is the weather in Chicago?", {"city": "Chicago"})
        _fill(client, "Tara is 54 years old and lives in Shanghai", {"name": "Tara", "age": 54, "city": "Shanghai"})
        _search(client, "What happens when the engine crashes?", DOCUMENTS[0])
        _run("ps", "--url", url)
    _say(f"That was all, in {time.monotonic() - began:.0f} s. README.md shows a first real use; or chat at once:")
    print(f"  {os.path.relpath(Path(sys.executable).with_name('anyform'))} run sample")


def _leave_settings_aside() -> None:
    """The sample alone, whatever this machine has and its settings say."""
    for name in [name for name in os.environ if name.startswith("ANYFORM_")]:
        del os.environ[name]
    os.environ["ANYFORM_CONFIG"] = os.devnull
    os.environ["ANYFORM_STATE"] = str(WORK / "state")
    os.environ["ANYFORM_MODELS_SOURCES"] = "plugins"


def _stream(client: OpenAI, question: str, words: str) -> None:
    _say("A chat answer, streamed to the openai client:")
    print(f"user: {question}\nassistant: ", end="", flush=True)
    said = ""
    chunks = client.chat.completions.create(
        model="sample", messages=[{"role": "user", "content": question}], temperature=0, stream=True
    )
    for chunk in chunks:
        piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
        said += piece
        print(piece, end="", flush=True)
    print("\n", flush=True)
    _need(words in said, f"the answer does not name `{words}`")


def _call(client: OpenAI, question: str, arguments: dict[str, str]) -> None:
    _say("A tool call, and the answer made of its result:")
    messages: list[Any] = [{"role": "user", "content": question}]
    first = client.chat.completions.create(model="sample", messages=messages, tools=[WEATHER], temperature=0)
    said = first.choices[0].message
    print(f"user: {question}", flush=True)
    _need(bool(said.tool_calls), f"the model called no tool, but said {said.content!r}")
    call: Any = (said.tool_calls or [None])[0]
    print(f"assistant calls: {call.function.name}({call.function.arguments})", flush=True)
    _need(json.loads(call.function.arguments) == arguments, f"the call's arguments are not {arguments}")
    result = "sunny, 21 degrees"
    messages += [said.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": result}]
    second = client.chat.completions.create(model="sample", messages=messages, tools=[WEATHER], temperature=0)
    told = second.choices[0].message.content or ""
    print(f"tool: {result}\nassistant: {told}\n", flush=True)
    _need(result in told, "the answer does not tell the tool's result")


def _fill(client: OpenAI, sentence: str, wanted: dict[str, object]) -> None:
    _say("An answer that follows a JSON schema:")
    prompt = f"Give me JSON with the keys {', '.join(wanted)}: {sentence}"
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = client.chat.completions.create(
        model="sample", messages=[{"role": "user", "content": prompt}], response_format=form, temperature=0
    )
    filled = answer.choices[0].message.content or ""
    print(f"user: {prompt}\nassistant: {filled}\n", flush=True)
    _need(json.loads(filled) == wanted, f"the answer is not {wanted}")


def _search(client: OpenAI, question: str, answer: str) -> None:
    _say("Embeddings that find the right document:")
    made = client.embeddings.create(model="sample-embed", input=[question, *DOCUMENTS])
    asked, *documents = (item.embedding for item in made.data)
    scores = [sum(x * y for x, y in zip(asked, each, strict=True)) for each in documents]
    found = sorted(zip(scores, DOCUMENTS, strict=True), reverse=True)
    print(f"question: {question}")
    for score, text in found:
        print(f"  {score:5.2f}  {text}")
    print(flush=True)
    _need(found[0][1] == answer, "another document than the right one comes first")


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"the demo failed: {otherwise}")


@contextlib.contextmanager
def _served() -> Iterator[str]:
    url = f"http://127.0.0.1:{_free_port()}"
    command = ("serve", "--port", url.rpartition(":")[2])
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


def _run(*arguments: str) -> None:
    _show(*arguments)
    if code := subprocess.run(_anyform(*arguments)).returncode:
        raise SystemExit(f"`anyform {arguments[0]}` failed with {code}")
    print(flush=True)


def _show(*arguments: str) -> None:
    print("$ anyform", *(f'"{word}"' if " " in word else word for word in arguments), flush=True)


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
