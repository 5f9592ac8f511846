"""/v1/responses over a real server and the echo engine: raw, and by the openai package."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from anyform.contract.errors import WorkerDied
from anyform.contract.events import Done, Event, Finish, Progress, Text
from anyform.contract.jobs import Chat, Job
from anyform.contract.model import Stop

Serve = Callable[..., Any]
START = Progress(stage="prompt", total=1)
HELLO = "one two three four"
LOOK: Any = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    "strict": True,
}


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until *true*, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def events_of(text: str) -> list[Any]:
    """The events of a stream; each line says what the other does."""
    *pieces, rest = text.split("\n\n")
    assert rest == ""
    events = [json.loads(piece.split("\n")[1].removeprefix("data: ")) for piece in pieces]
    assert [piece.split("\n")[0] for piece in pieces] == [f"event: {event['type']}" for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_a_response(client: OpenAI) -> None:
    made = client.responses.create(model="owner/bird:Q4", input=HELLO)
    assert (made.output_text, made.status, made.model) == (HELLO, "completed", "owner/bird:Q4")
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens, made.usage.total_tokens) == (4, 4, 8)
    assert made.id.startswith("resp_")
    assert (made.error, made.incomplete_details, made.instructions, made.previous_response_id) == (None,) * 4


def test_the_raw_response_has_all_that_openai_requires(http: httpx.Client) -> None:
    made = http.post("/v1/responses", json={"model": "parrot", "input": HELLO}).json()
    assert made["object"] == "response"
    for name in ("error", "incomplete_details", "instructions", "temperature", "top_p"):
        assert made[name] is None
    assert (made["metadata"], made["parallel_tool_calls"], made["tool_choice"], made["tools"]) == ({}, True, "auto", [])
    [item] = made["output"]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert item["content"] == [{"type": "output_text", "text": HELLO, "annotations": [], "logprobs": []}]
    assert set(made["usage"]) >= {"input_tokens_details", "output_tokens_details"}


def test_a_stream_has_its_events_in_order(http: httpx.Client) -> None:
    answer = http.post("/v1/responses", json={"model": "parrot", "input": "a b", "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "a b"


def test_the_clients_own_stream_puts_it_together(client: OpenAI) -> None:
    with client.responses.stream(model="parrot", input=HELLO, reasoning={"effort": "high"}) as stream:
        said = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert said == final.output_text == HELLO
    assert [item.type for item in final.output] == ["reasoning", "message"]


def test_a_streamed_response_is_the_one_that_comes_whole(client: OpenAI) -> None:
    for fields in ({}, {"reasoning": {"effort": "low"}}, {"tools": [LOOK], "tool_choice": "required"}):
        *_, last = client.responses.create(model="parrot", input=HELLO, stream=True, **fields)  # type: ignore[call-overload]
        whole = client.responses.create(model="parrot", input=HELLO, **fields)  # type: ignore[call-overload]
        assert last.type == "response.completed"
        differ = {"id", "call_id", "created_at", "completed_at"}
        assert _without(last.response.model_dump(), differ) == _without(whole.model_dump(), differ)


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, names) for item in value]
    if isinstance(value, dict):
        return {name: _without(item, names) for name, item in value.items() if name not in names}
    return value


async def _asked(url: str) -> list[str]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.responses.create(model="parrot", input=HELLO)
        async with client.responses.stream(model="parrot", input=HELLO) as stream:
            return [whole.output_text, (await stream.get_final_response()).output_text]


def test_the_asynchronous_client(server: Any) -> None:
    assert asyncio.run(_asked(server.url)) == [HELLO, HELLO]


@pytest.mark.parametrize("stream", [False, True])
def test_a_round_of_a_tool(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": "parrot", "tools": [LOOK], "tool_choice": {"type": "function", "name": "look"}}
    if stream:
        *_, last = client.responses.create(input="see there", stream=True, **asked)
        made = last.response
    else:
        made = client.responses.create(input="see there", **asked)
    [call] = made.output
    assert (call.type, call.name, call.status) == ("function_call", "look", "completed")
    assert "at" in json.loads(call.arguments)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "a cat"}
    kept = client.responses.create(model="parrot", input=[result], previous_response_id=made.id)
    sent: Any = [{"role": "user", "content": "see there"}, call.model_dump(), result]
    whole = client.responses.create(model="parrot", input=sent, store=False)
    assert kept.usage is not None
    assert whole.usage is not None
    assert kept.output_text == whole.output_text
    assert kept.usage.input_tokens == whole.usage.input_tokens


def test_a_chain_of_three(client: OpenAI) -> None:
    first = client.responses.create(model="parrot", input="one", instructions="forget this")
    second = client.responses.create(model="parrot", input="two", previous_response_id=first.id)
    third = client.responses.create(model="parrot", input="three", previous_response_id=second.id, instructions="be")
    assert third.usage is not None
    assert third.usage.input_tokens == 6  # be one one two two three
    assert third.previous_response_id == second.id
    items = list(client.responses.input_items.list(third.id, order="asc", limit=2))
    said = [item.content[0].text for item in items]  # type: ignore[union-attr]
    assert said == ["one", "one", "two", "two", "three"]
    newest = client.responses.input_items.list(third.id, limit=2)
    assert (newest.has_more, newest.first_id, newest.last_id) == (True, items[-1].id, items[-2].id)
    other = client.responses.create(model="parrot", input="three", previous_response_id=first.id)
    assert other.usage is not None
    assert other.usage.input_tokens == 3
    client.responses.delete(first.id)
    again = client.responses.create(model="parrot", input="four", previous_response_id=third.id)
    assert again.usage is not None
    assert again.usage.input_tokens == 7


def test_items_that_a_client_sends_twice_are_listed_page_by_page(client: OpenAI) -> None:
    first = client.responses.create(model="parrot", input="one")
    again: Any = [{"type": "item_reference", "id": first.output[0].id}]
    named: Any = [{"role": "user", "content": text, "id": "msg_mine"} for text in ("two", "three")]
    second = client.responses.create(model="parrot", input=again + named, previous_response_id=first.id)
    listed = client.responses.input_items.list(second.id, order="asc", limit=1)
    items = list(itertools.islice(listed, 6))
    assert [item.content[0].text for item in items] == ["one", "one", "one", "two", "three"]  # type: ignore[union-attr]
    assert len({item.id for item in items}) == 5
    last: Any = [{"type": "item_reference", "id": items[-1].id}]
    assert client.responses.create(model="parrot", input=last).output_text == "three"


def test_one_is_retrieved_and_deleted(client: OpenAI, http: httpx.Client) -> None:
    made = client.responses.create(model="parrot", input="one", metadata={"a": "b"})
    found = client.responses.retrieve(made.id)
    assert found.to_dict() == made.to_dict()
    assert http.delete(f"/v1/responses/{made.id}").json() == {"id": made.id, "object": "response", "deleted": True}
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="not found"):
            ask(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.input_items.list(made.id)


def test_one_that_is_not_to_be_kept_is_not(client: OpenAI) -> None:
    made = client.responses.create(model="parrot", input="one", store=False)
    with pytest.raises(openai.NotFoundError, match="'store': false"):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="parrot", input="two", previous_response_id=made.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


def test_only_what_runs_in_the_background_can_be_cancelled(client: OpenAI, http: httpx.Client) -> None:
    made = client.responses.create(model="parrot", input="one")
    with pytest.raises(openai.BadRequestError, match="hang up"):
        client.responses.cancel(made.id)
    again = http.get(f"/v1/responses/{made.id}", params={"stream": "true"})
    assert (again.status_code, again.json()["error"]["param"]) == (400, "stream")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_at_its_limit_is_incomplete(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": "parrot", "input": HELLO, "max_output_tokens": 2}
    if stream:
        *_, last = client.responses.create(stream=True, **asked)
        assert last.type == "response.incomplete"
        made = last.response
    else:
        made = client.responses.create(**asked)
    assert (made.status, made.output_text) == ("incomplete", "one two")
    assert made.incomplete_details.reason == "max_output_tokens"
    assert made.output[0].status == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_over_the_context_is_refused_or_cut_and_told(http: httpx.Client, stream: bool) -> None:
    turns = [{"role": "user", "content": "a b c d e"}, {"role": "assistant", "content": "f"}]
    body = {"model": "small", "input": [*turns, {"role": "user", "content": "g h"}], "stream": stream}
    refused = http.post("/v1/responses", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert refused.json()["error"]["param"] == "input"
    answer = http.post("/v1/responses", json={**body, "truncation": "auto"})
    made = events_of(answer.text)[-1]["response"] if stream else answer.json()
    assert (made["output"][0]["content"][0]["text"], made["usage"]["input_tokens"]) == ("g h", 2)
    assert "oldest 2 messages were left out" in made["remarks"][0]
    one = {"model": "small", "input": "a b c d e f g h i", "truncation": "auto", "stream": stream}
    assert http.post("/v1/responses", json=one).json()["error"]["code"] == "context_length_exceeded"


def test_the_tokens_of_an_input_are_counted(client: OpenAI, http: httpx.Client) -> None:
    made = client.responses.create(model="parrot", input=HELLO, instructions="be brief")
    assert made.usage is not None
    counted = client.responses.input_tokens.count(model="parrot", input=HELLO, instructions="be brief")
    assert (counted.input_tokens, counted.object) == (made.usage.input_tokens, "response.input_tokens")
    more = client.responses.input_tokens.count(model="parrot", input="five", previous_response_id=made.id)
    assert more.input_tokens == 4 + 4 + 1
    over = http.post("/v1/responses/input_tokens", json={"model": "small", "input": "a b c d e f g h i j"})
    assert over.json() == {"object": "response.input_tokens", "input_tokens": 10}


def test_logprobs_come_where_they_are_asked_for(client: OpenAI) -> None:
    include: Any = ["message.output_text.logprobs"]
    made = client.responses.create(model="parrot", input="a b", include=include, top_logprobs=2)
    [part] = made.output[0].content  # type: ignore[union-attr]
    assert [entry.token for entry in part.logprobs] == ["a", " b"]  # type: ignore[union-attr]
    streamed = client.responses.create(model="parrot", input="a b", include=include, stream=True)
    deltas = [event for event in streamed if event.type == "response.output_text.delta"]
    assert [entry.token for event in deltas for entry in event.logprobs] == ["a", " b"]


REFUSED: list[tuple[Any, int, str | None, str]] = [
    ({"model": "absent"}, 404, "model", "model_not_found"),
    ({"model": "embedder"}, 400, None, "unsupported"),
    ({"input": None}, 400, "input", "missing_required_parameter"),
    ({"input": [{"role": "bird", "content": "x"}]}, 400, "input[0].role", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, 400, "tools[0].type", "unsupported_parameter"),
    ({"background": True}, 400, "background", "unsupported_parameter"),
    ({"max_output_tokens": 0}, 400, "max_output_tokens", "invalid_value"),
    ({"input": [{"type": "item_reference", "id": "msg_0"}]}, 404, "input[0].id", "not_found"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "status", "param", "code"), REFUSED)
def test_refusals_have_openais_form(
    http: httpx.Client, fields: Any, status: int, param: str | None, code: str, stream: bool
) -> None:
    answer = http.post("/v1/responses", json={"model": "parrot", "input": "x", "stream": stream, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/moderations", 501, "not_implemented"),
        ("GET", "/v1/files/x/content", 501, "not_implemented"),
        ("POST", "/v1/threads/t/runs", 501, "not_implemented"),
        ("GET", "/v1/chat/completions", 501, "not_implemented"),
        ("DELETE", "/v1/chat/completions/c", 501, "not_implemented"),
        ("POST", "/v1/responses/compact", 501, "not_implemented"),
        ("GET", "/v1/responses/compact/x", 501, "not_implemented"),
        ("PUT", "/v1/responses", 405, "method_not_supported"),
        ("GET", "/v1/unknown", 404, "unknown_url"),
        ("POST", "/v1/filesystem", 404, "unknown_url"),
    ],
)
def test_what_is_not_here_says_so(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/v1/realtime?model=parrot", "/v1/responses"])
def test_sockets_that_are_not_here_say_so(server: Any, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + path, open_timeout=20, proxy=None)
    assert refused.value.response.status_code == 501
    assert json.loads(refused.value.response.body)["error"]["code"] == "not_implemented"


def test_a_long_conversation_goes_on(client: OpenAI) -> None:
    """Of more than a socket to a worker holds at once."""
    long = "x" * 300_000
    made = client.responses.create(model="parrot", input=long)
    assert made.output_text == long
    more = client.responses.create(model="parrot", input="two", previous_response_id=made.id)
    assert more.usage is not None
    assert (more.output_text, more.usage.input_tokens) == ("two", 3)
    named: Any = [{"type": "item_reference", "id": made.output[0].id}, {"role": "user", "content": "three"}]
    assert client.responses.create(model="parrot", input=named).output_text == "three"


def test_a_model_stays_as_long_as_a_response_says(http: httpx.Client) -> None:
    def loaded() -> set[str]:
        return {one["model"] for one in http.get("/runtime/status").json()["models"]}

    for keep, stays in (("5m", True), (0, False)):
        asked = {"model": "chatter", "input": "a", "keep_alive": keep}
        assert http.post("/v1/responses", json=asked).json()["status"] == "completed"
        until(lambda stays=stays: ("chatter" in loaded()) is stays)  # type: ignore[misc]


def test_the_client_is_told_of_what_is_not_here_once(client: OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="classify") as refused:
        client.with_options(max_retries=3).moderations.create(input="x")
    assert refused.value.status_code == 501


def test_a_fault_in_the_middle_is_the_last_event(scripted: Serve) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield START
        yield Text(text="a")
        raise WorkerDied("it died.")

    running = scripted(script)
    events = events_of(running.http.post("/v1/responses", json={"model": "m", "input": "x", "stream": True}).text)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert (events[-2]["code"], events[-2]["message"]) == ("worker_died", "it died.")
    made = events[-1]["response"]
    assert (made["status"], made["error"]["code"]) == ("failed", "server_error")
    assert made["output"][0]["content"][0]["text"] == "a"
    assert running.openai.responses.retrieve(made["id"]).status == "failed"
    with running.openai.responses.stream(model="m", input="x") as stream:
        assert [event.type for event in stream][-1] == "response.failed"


class Endless:
    """Talks until it is stopped."""

    def __init__(self) -> None:
        self.steps = self.stopped = 0

    def __call__(self, job: Job, stop: Stop) -> Iterator[Event]:
        yield START
        while not stop.wait(0.01):
            self.steps += 1
            yield Text(text="a ")
        self.stopped += 1
        yield Done(finishes=(Finish(reason="cancelled"),))


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_stops_the_model_and_nothing_is_kept(scripted: Serve, stream: bool) -> None:
    model = Endless()
    running = scripted(model)
    body = {"model": "m", "input": "x", "stream": stream}
    if stream:
        with running.http.stream("POST", "/v1/responses", json=body) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "event: response.created"
            until(lambda: model.steps > 3)
    else:
        with pytest.raises(httpx.ReadTimeout):
            running.http.post("/v1/responses", json=body, timeout=0.3)
    until(lambda: model.stopped == 1)
    assert running.service.responses.count == 0


class Person(BaseModel):
    name: str
    age: int


def test_a_schema_reaches_the_model_and_its_answer_the_clients_type(scripted: Serve) -> None:
    seen: list[Any] = []

    def script(job: Job, stop: Stop) -> Iterator[Event]:
        assert isinstance(job, Chat)
        seen.append(job.generation.schema)
        yield START
        yield Text(text='{"name":"Tara","age":54}')
        yield Done(finishes=(Finish(),))

    client = scripted(script).openai
    made = client.responses.parse(model="m", input="x", text_format=Person)
    assert made.output_parsed == Person(name="Tara", age=54)
    with client.responses.stream(model="m", input="x", text_format=Person) as stream:
        assert stream.get_final_response().output_parsed == made.output_parsed
    assert [set(schema["properties"]) for schema in seen] == [{"name", "age"}] * 2


def test_what_is_kept_is_bounded(scripted: Serve) -> None:
    def script(job: Job, stop: Stop) -> Iterator[Event]:
        yield START
        yield Text(text="a")
        yield Done(finishes=(Finish(),))

    running = scripted(script, responses_bytes=20_000)
    ids = [running.openai.responses.create(model="m", input="x" * 3000).id for _ in range(10)]
    assert 0 < running.service.responses.bytes <= 20_000
    assert running.openai.responses.retrieve(ids[-1]).output_text == "a"
    with pytest.raises(openai.BadRequestError, match="20,000 bytes"):
        running.openai.responses.create(model="m", input="y", previous_response_id=ids[0])
