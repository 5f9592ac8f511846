"""The sample models as a newcomer meets them: found, run, served with nothing configured, and asked by real clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "scripts" / "demo.py"
DOCUMENTS = {
    "How many tokens may a request use?": (
        "Loading: --context N sets how many tokens one request may use, prompt and answer together."
    ),
    "What happens when the engine crashes?": (
        "A worker that dies while it loads is started again with the reduced settings that the plugin names."
    ),
    "Can a web page talk to the server?": (
        "The server answers on loopback only: a web page that you visit cannot talk to it."
    ),
    "How do I see which plugins are installed?": (
        "anyform plugins shows what is installed, from which distribution, and what is broken and why."
    ),
}
LIGHT = ("turn_on_light", "Turns on a light", {"room": "string"})
MESSAGE = ("send_message", "Sends a message", {"to": "string", "text": "string"})
TIMER = ("set_timer", "Sets a timer", {"minutes": "integer"})
WEATHER = ("get_weather", "The weather in a city", {"city": "string"})


def tools(*described: tuple[str, str, Mapping[str, str]]) -> Any:
    """OpenAI's form of tools: name, description, parameters with their types."""
    return [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": description,
                "parameters": {
                    "type": "object",
                    "properties": {key: {"type": kind} for key, kind in parameters.items()},
                    "required": list(parameters),
                },
            },
        }
        for name, description, parameters in described
    ]


@pytest.fixture(scope="module")
def environment(sample: Path, sample_embed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of someone who has just installed anyform and the samples: no settings, no other models."""
    home = str(tmp_path_factory.mktemp("home"))
    told = ("ANYFORM_", "HF_", "HUGGINGFACE_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    return {**kept, **dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "OLLAMA_MODELS"), home)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("anywhere")


def run(environment: Mapping[str, str], folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """*command* of this Python, to its end."""
    words = [sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, timeout=180, check=False)


def anyform(environment: Mapping[str, str], folder: Path, *arguments: str) -> str:
    done = run(environment, folder, "-m", "anyform", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def client(environment: dict[str, str], folder: Path) -> Iterator[OpenAI]:
    """Of a server that was started with no more than a port."""
    command = [sys.executable, "-m", "anyform", "serve", "--port", "0"]
    pipe = subprocess.PIPE
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(command, stdout=pipe, stderr=log, text=True, env=environment, cwd=folder) as server,
    ):
        greeting = server.stdout.readline() if server.stdout else ""
        assert greeting.startswith("anyform serves http://"), (folder / "server.log").read_text()
        yield OpenAI(base_url=greeting.split()[2], api_key="unused", max_retries=0, timeout=60)
        server.terminate()
        server.communicate(timeout=30)


def asked(client: OpenAI, question: str, **fields: Any) -> Any:
    """What the model says to *question*, as a message."""
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="sample", messages=messages, **fields).choices[0].message


def test_the_samples_are_found_with_nothing_configured(environment: dict[str, str], folder: Path) -> None:
    found = {entry["name"]: entry for entry in json.loads(anyform(environment, folder, "list", "--json"))}
    assert {found[name]["source"] for name in ("sample", "sample-embed")} == {"samples"}
    assert "chat" in found["sample"]["metadata"]["tasks"]
    assert found["sample-embed"]["metadata"]["tasks"] == ["embed"]
    assert "gguf_llamacpp" in anyform(environment, folder, "explain", "sample").splitlines()[0]


def test_run_sample_answers(environment: dict[str, str], folder: Path) -> None:
    said = anyform(environment, folder, "run", "sample", "How do I serve a folder of models?")
    assert "`anyform serve --models DIR`" in said


def test_the_server_lists_them(client: OpenAI) -> None:
    assert {"sample", "sample-embed"} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How do I list models?", "`anyform list`"),
        ("Which command shows what a server has loaded?", "`anyform ps`"),
        ("How do I get embeddings?", "/v1/embeddings"),
        ("How do I chat with a model?", "`anyform run MODEL`"),
        ("Which port does the server use?", "11540"),
        ("How many days has February?", "28"),
        ("What is 7 times 8?", "7 x 8 = 56"),
        ("3 km in m", "3000 m"),
        ("Why is the sky blue?", "tiny sample model"),
    ],
)
def test_a_streamed_answer_says_what_is_true(client: OpenAI, question: str, words: str) -> None:
    messages: Any = [{"role": "user", "content": question}]
    chunks = list(client.chat.completions.create(model="sample", messages=messages, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert words in said
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert said == asked(client, question).content


@pytest.mark.parametrize(
    ("question", "offered", "name", "arguments"),
    [
        ("What is the weather in Chicago?", (WEATHER,), "get_weather", {"city": "Chicago"}),
        ("Is it raining in Shanghai?", (TIMER, WEATHER), "get_weather", {"city": "Shanghai"}),
        ("Set a timer for 58 minutes.", (WEATHER, TIMER, MESSAGE), "set_timer", {"minutes": 58}),
        ("Turn on the light in the kitchen.", (LIGHT, TIMER), "turn_on_light", {"room": "kitchen"}),
        ('Tell Tara "see you Boston".', (MESSAGE, WEATHER), "send_message", {"to": "Tara", "text": "see you Boston"}),
    ],
)
def test_the_tool_that_fits_is_called_with_what_was_said(
    client: OpenAI, question: str, offered: Any, name: str, arguments: Any
) -> None:
    said = asked(client, question, tools=tools(*offered))
    assert said.tool_calls, said.content
    [call] = said.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)


def test_a_tools_result_is_told(client: OpenAI) -> None:
    question = "What is the weather in Chicago?"
    said = asked(client, question, tools=tools(WEATHER))
    messages: Any = [
        {"role": "user", "content": question},
        said.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "fog, 17 degrees"},
    ]
    told = client.chat.completions.create(model="sample", messages=messages, tools=tools(WEATHER)).choices[0].message
    assert "Chicago" in told.content
    assert "fog, 17 degrees" in told.content


def test_no_tool_is_called_where_none_fits(client: OpenAI) -> None:
    said = asked(client, "How do I list models?", tools=tools(TIMER, LIGHT))
    assert not said.tool_calls
    assert "`anyform list`" in said.content


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("Tara is 54 years old and lives in Shanghai", {"name": "Tara", "age": 54, "city": "Shanghai"}),
        ("Carlos is 26 years old and lives in Chicago", {"name": "Carlos", "age": 26, "city": "Chicago"}),
        ("Peter buys 24 pieces of rope", {"item": "rope", "quantity": 24, "customer": "Peter"}),
        ("Bella buys 24 pieces of towel", {"item": "towel", "quantity": 24, "customer": "Bella"}),
    ],
)
def test_a_schema_is_filled_from_the_sentence(client: OpenAI, sentence: str, wanted: dict[str, Any]) -> None:
    kinds = {key: {"type": "integer" if isinstance(value, int) else "string"} for key, value in wanted.items()}
    schema = {"type": "object", "properties": kinds, "required": list(wanted), "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "filled", "schema": schema}}
    said = asked(client, f"Give me JSON with the keys {', '.join(wanted)}: {sentence}", response_format=form)
    assert json.loads(said.content) == wanted


def test_what_was_told_is_remembered(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "My name is Bella."}]
    for question in ("What is 2 + 3?", "What is my name?"):
        said = client.chat.completions.create(model="sample", messages=messages).choices[0].message
        messages += [{"role": "assistant", "content": said.content}, {"role": "user", "content": question}]
    answer = client.chat.completions.create(model="sample", messages=messages).choices[0].message.content or ""
    assert "Bella" in answer


@pytest.mark.parametrize("question", DOCUMENTS)
def test_embeddings_find_the_document_that_answers(client: OpenAI, question: str) -> None:
    texts = list(DOCUMENTS.values())
    made = client.embeddings.create(model="sample-embed", input=[question, *texts])
    wanted, *vectors = (item.embedding for item in made.data)
    nearness = [sum(x * y for x, y in zip(wanted, vector, strict=True)) for vector in vectors]
    assert texts[nearness.index(max(nearness))] == DOCUMENTS[question]


def test_the_demo_shows_all_of_it(environment: dict[str, str], folder: Path) -> None:
    done = run(environment, folder, DEMO)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("anyform run sample", "anyform ps", 'get_weather({"city": "Chicago"})', '"age": 54', "That was all"):
        assert words in done.stdout


def test_the_demo_fails_where_a_step_does(environment: dict[str, str], tmp_path: Path) -> None:
    """A copy that waits for other words, as if the model had said the wrong ones."""
    spoilt = tmp_path / "scripts" / "demo.py"
    spoilt.parent.mkdir()
    spoilt.write_text(DEMO.read_text("utf-8").replace('"anyform ps")', '"anyform top")'), "utf-8")
    done = run(environment, tmp_path, spoilt)
    assert done.returncode == 1
    assert "the demo failed: the answer does not name `anyform top`" in done.stderr
    assert "tool call" not in done.stdout
