"""What translating costs: python benchmarks/translation.py.

Reading a request and writing its answer, in every dialect, as the server itself does it, beside /v1/chat/completions;
no model, no socket. In processor time, the least of many runs. It ends with 1 where a request takes more than 1 ms, or
a token more than 20 µs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from anyform.assembly import start
from anyform.contract.events import Done, Event, Finish, Progress, Text, Usage
from anyform.http import body, reply
from anyform.http.app import create
from anyform.http.config import HttpConfig
from anyform.http.media import Media
from anyform.testing.echo import write_echo

MODEL = "parrot"
TOKENS = 256
ROUNDS, EACH = 40, 25
REQUEST_S, TOKEN_S = 1e-3, 20e-6
PEER = "/v1/chat/completions"
SYSTEM = "You answer questions about files. Be brief, and say what you do not know."
ASKED = [f"Question {number}: what does the file number {number} hold, and who wrote it?" for number in range(3)]
PARAMETERS = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}},
    "required": ["path"],
}
ABOUT = {"name": "read_file", "description": "Reads lines of a file"}
TURNS = [
    {"role": role, "content": text}
    for text in ASKED
    for role, text in (("user", text), ("assistant", "It holds a table."))
][:-1]
TOOLS = [{"type": "function", "function": {**ABOUT, "parameters": PARAMETERS}}]
CHAT = {"messages": [{"role": "system", "content": SYSTEM}, *TURNS]}
BODIES: Mapping[str, dict[str, Any]] = {
    PEER: {**CHAT, "tools": TOOLS, "temperature": 0.5, "max_tokens": 500},
    "/v1/responses": {
        "instructions": SYSTEM,
        "input": TURNS,
        "tools": [{"type": "function", **ABOUT, "parameters": PARAMETERS}],
        "temperature": 0.5,
        "max_output_tokens": 500,
    },
    "/v1/messages": {
        "system": SYSTEM,
        "messages": TURNS,
        "tools": [{**ABOUT, "input_schema": PARAMETERS}],
        "temperature": 0.5,
        "max_tokens": 500,
    },
    "/api/chat": {**CHAT, "tools": TOOLS, "options": {"temperature": 0.5, "num_predict": 500}},
    "/api/generate": {
        "system": SYSTEM,
        "prompt": " ".join(ASKED),
        "options": {"temperature": 0.5, "num_predict": 500},
    },
    "/api/v0/chat/completions": {**CHAT, "tools": TOOLS, "temperature": 0.5, "max_tokens": 500},
    "/api/v1/chat": {
        "system_prompt": SYSTEM,
        "input": " ".join(ASKED),
        "temperature": 0.5,
        "max_output_tokens": 500,
    },
}
Read = Callable[[Mapping[str, Any], Media], reply.Ask]


@dataclass(frozen=True)
class Cost:
    """Processor seconds: of a request with its answer's frame, and of each token, streamed and whole."""

    request_s: float
    streamed_s: float
    whole_s: float


def events(tokens: int) -> list[Event]:
    """A scripted answer."""
    usage = Usage(prompt_tokens=100, completion_tokens=tokens)
    texts = [Text(text=f" word{number}") for number in range(tokens)]
    return [Progress(stage="prompt", total=100), *texts, Done(finishes=(Finish(),), usage=usage)]


def least(work: Callable[[], Any]) -> float:
    """Processor seconds that one call takes, in the quickest round."""
    took = []
    for _ in range(ROUNDS):
        before = time.thread_time()
        for _ in range(EACH):
            work()
        took.append((time.thread_time() - before) / EACH)
    return min(took)


def translate(data: bytes, read: Read, values: Mapping[str, Any], scripted: Sequence[Event]) -> bytes:
    """From the body of a request to that of its answer. *values*: what the server gave to *read*."""
    body.parse(data)
    ask = read(values, Media(2**20))
    writer = ask.writer(reply.head(ask.model))
    return b"".join([writer.write(event, 0) for event in scripted]) + writer.end()


def cost(data: bytes, read: Read, values: Mapping[str, Any]) -> Cost:
    short, long = events(0), events(TOKENS)

    def took(stream: bool, scripted: Sequence[Event]) -> float:
        wanted = {**values, "stream": stream}
        return least(lambda: translate(data, read, wanted, scripted))

    streamed, whole = took(True, short), took(False, short)
    return Cost(max(streamed, whole), (took(True, long) - streamed) / TOKENS, (took(False, long) - whole) / TOKENS)


async def readers(app: Any) -> dict[str, tuple[bytes, Read, Mapping[str, Any]]]:
    """What the server itself reads each request with: body, reader, and the values that it is given."""
    service = app.state.service
    inner, found = service._read, {}
    last: list[tuple[Mapping[str, Any], Read]] = []

    async def noted(values: Mapping[str, Any], read: Read, large: bool) -> Any:
        last.append((values, read))
        return await inner(values, read, large)

    service._read = noted
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:11540") as client:
        for path, wanted in BODIES.items():
            data = json.dumps({"model": MODEL, **wanted, "stream": True}).encode()
            response = await client.post(path, content=data)
            assert response.status_code == 200, (path, response.text)
            values, read = last[-1]
            found[path] = (data, read, values)
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        write_echo(Path(folder) / f"{MODEL}.echo")
        runtime = start(folders=[folder], where="here")
        try:
            found = asyncio.run(readers(create(runtime, HttpConfig())))
            costs = {path: cost(*one) for path, one in found.items()}
        finally:
            runtime.close()
    return told(costs)


def told(costs: Mapping[str, Cost]) -> int:
    """Print them; 1 if one is over its limit."""
    peer = costs[PEER]
    print(f"{'':26}{'request':>18}{'token, streamed':>20}{'token, whole':>18}")
    for path, one in costs.items():
        print(
            f"{path:26}{one.request_s * 1e6:8.0f} µs {one.request_s / peer.request_s:5.2f} x"
            f"{one.streamed_s * 1e6:10.2f} µs {one.streamed_s / peer.streamed_s:5.2f} x"
            f"{one.whole_s * 1e6:8.2f} µs {one.whole_s / peer.whole_s:5.2f} x"
        )
    over = [
        path
        for path, one in costs.items()
        if one.request_s > REQUEST_S or one.streamed_s > TOKEN_S or one.whole_s > TOKEN_S
    ]
    print(f"over 1 ms a request or 20 µs a token: {', '.join(over) or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
