"""A server of OpenAI's API in a few lines of standard library, for the command backend's tests.

Usage: fake_openai_server.py PORT [ready-after-s] [child-pid-file]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SEEN: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    """Answers each chat with the words of its last message; `slow` never ends, `die` ends the process."""

    def do_GET(self) -> None:
        if self.path == "/seen":
            self._json(200, {"seen": SEEN})
        elif self.path == "/pid":
            self._json(200, {"pid": os.getpid()})
        elif self.path == "/v1/models":
            self._json(200, {"data": [{"id": "the-fake"}]})
        else:
            self._json(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        SEEN.append(body)
        if self.path == "/v1/embeddings":
            data = [{"index": i, "embedding": [float(len(text)), 0.5]} for i, text in enumerate(body["input"])]
            self._json(200, {"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        elif self.path == "/v1/rerank":
            results = [{"index": i, "relevance_score": i / 10} for i, _ in enumerate(body["documents"])]
            self._json(200, {"results": results[::-1], "usage": {"total_tokens": 9}})
        elif self.path == "/v1/completions":
            self._stream([{"index": 0, "text": body["prompt"]}, {"index": 0, "text": "", "finish_reason": "length"}])
        else:
            self._chat(body)

    def _chat(self, body: dict[str, Any]) -> None:
        text = body["messages"][-1]["content"]
        if not isinstance(text, str):
            self._json(400, {"error": {"message": "this model reads text only", "type": "invalid_request_error"}})
        elif text == "long":
            error = {"message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 99, "n_ctx": 10}
            self._json(400, {"error": error})
        elif text == "busy":
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.end_headers()
        elif text == "slow":
            self._stream([{"index": 0, "delta": {"content": "x"}}] * 100000, wait_s=0.01)
        elif text == "die":
            sys.stderr.write("out of cheese\n")
            sys.stderr.flush()
            os._exit(3)
        elif body.get("tools"):
            call = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a":1}'}}
            self._stream([{"index": 0, "delta": {"tool_calls": [call]}}, {"index": 0, "finish_reason": "tool_calls"}])
        else:
            words = [{"index": 0, "delta": {"content": word + " "}} for word in text.split()]
            thought = {"index": 0, "delta": {"reasoning_content": "hm"}}
            self._stream([thought, *words, {"index": 0, "delta": {}, "finish_reason": "stop"}])

    def _stream(self, choices: list[dict[str, Any]], wait_s: float = 0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        for chunk in [*({"choices": [choice]} for choice in choices), {"choices": [], "usage": usage}]:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            time.sleep(wait_s)
        self.wfile.write(b"data: [DONE]\n\n")

    def _json(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0)
    if len(sys.argv) > 3:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(sys.argv[3]).write_text(str(child.pid))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
