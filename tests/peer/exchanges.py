"""What both servers are asked, in order: each exchange may rest on what earlier ones created or deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

CHATML = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
TOOLED = (
    "{{- if .System }}{{ .System }}\n{{ end }}{{- if .Tools }}Tools: {{ .Tools }}\n{{ end }}"
    "{{- range .Messages }}{{ .Role }}: {{ .Content }}"
    '{{- range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}'
    "</tool_call>{{ end }}\n{{ end }}assistant: "
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
GREEDY = {"temperature": 0, "num_predict": 8, "seed": 1}
HELLO = [{"role": "user", "content": "Once upon a time"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request. *body*: JSON, or bytes sent as they are."""

    name: str
    method: str = "POST"
    path: str = "/"
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        """The body on the wire."""
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def every(chat: str, embedder: str, digest: str, file: bytes) -> Iterator[Exchange]:
    """All exchanges. *chat*, *embedder*: names of models that both have. *digest*, *file*: of a small GGUF."""
    yield from _server()
    yield from _models(chat)
    yield from _generate(chat)
    yield from _chat(chat)
    yield from _vectors(chat, embedder)
    yield from _make(chat, digest, file)
    yield from _bad(chat)


def _get(name: str, path: str, **more: Any) -> Exchange:
    return Exchange(name=name, method="GET", path=path, **more)


def _server() -> Iterator[Exchange]:
    yield _get("root", "/")
    yield Exchange(name="root-head", method="HEAD", path="/")
    yield _get("version", "/api/version")
    yield Exchange(name="version-head", method="HEAD", path="/api/version")
    yield _get("unknown-route", "/api/nothing")
    yield Exchange(name="unknown-route-post", path="/nothing", body={})
    yield _get("wrong-method-generate", "/api/generate")
    yield Exchange(name="wrong-method-tags", path="/api/tags", body={})
    yield Exchange(name="wrong-method-delete", path="/api/delete", body={"model": "nothing"})
    yield _get("trailing-slash", "/api/tags/")


def _models(chat: str) -> Iterator[Exchange]:
    yield _get("tags", "/api/tags")
    yield Exchange(name="tags-head", method="HEAD", path="/api/tags")
    yield _get("ps-none", "/api/ps")
    yield Exchange(name="show", path="/api/show", body={"model": chat})
    yield Exchange(name="show-name", path="/api/show", body={"name": chat})
    yield Exchange(name="show-latest", path="/api/show", body={"model": f"{chat}:latest"})
    yield Exchange(name="show-verbose", path="/api/show", body={"model": chat, "verbose": True})
    yield Exchange(name="show-options", path="/api/show", body={"model": chat, "options": {"num_ctx": 99}})
    yield Exchange(name="show-system", path="/api/show", body={"model": chat, "system": "Be kind."})
    yield Exchange(name="show-unknown", path="/api/show", body={"model": "nothing"})
    yield Exchange(name="show-unknown-tag", path="/api/show", body={"model": f"{chat}:other"})
    yield Exchange(name="show-empty", path="/api/show", body={})
    yield Exchange(name="show-no-body", path="/api/show")
    yield Exchange(name="show-bad-name", path="/api/show", body={"model": "../../etc/passwd"})
    yield Exchange(name="show-bad-json", path="/api/show", body=b"{")
    yield Exchange(name="show-wrong-type", path="/api/show", body={"model": 3})


def _generate(chat: str) -> Iterator[Exchange]:
    def ask(name: str, **fields: Any) -> Exchange:
        return Exchange(name=f"generate-{name}", path="/api/generate", body={"model": chat, **fields})

    once = {"prompt": "Once upon a time", "options": GREEDY}
    yield ask("load")
    yield ask("load-whole", stream=False)
    yield ask("load-null-keep", keep_alive=None)
    yield _get("ps-one", "/api/ps")
    yield ask("stream", **once)
    yield ask("whole", **once, stream=False)
    yield ask("latest", **once, stream=False, model=f"{chat}:latest")
    yield ask("upper", **once, stream=False, model=chat.upper())
    yield ask("context", **once, stream=False, context=[403, 407, 261])
    yield ask("system", **once, stream=False, system="You are kind.")
    yield ask("template", **once, stream=False, template="{{ .System }} Q: {{ .Prompt }} A:")
    yield ask("template-bad", **once, stream=False, template="{{ .Prompt")
    yield ask("template-unknown-field", **once, stream=False, template="{{ .Nothing }}")
    yield ask("template-unknown-function", **once, stream=False, template="{{ shout .Prompt }}")
    yield ask("raw", **once, stream=False, raw=True)
    yield ask("raw-stream", **once, raw=True)
    yield ask("raw-system", **once, stream=False, raw=True, system="You are kind.")
    yield ask("raw-template", **once, stream=False, raw=True, template="{{ .Prompt }}")
    yield ask("raw-context", **once, stream=False, raw=True, context=[1])
    yield ask("suffix", **once, stream=False, suffix="The end.")
    yield ask("images", **once, stream=False, images=[PIXEL])
    yield ask("images-bad", **once, stream=False, images=["%%%"])
    yield ask("images-type", **once, stream=False, images=PIXEL)
    yield ask("think", **once, stream=False, think=True)
    yield ask("think-false", **once, stream=False, think=False)
    yield ask("think-bad", **once, stream=False, think="much")
    yield ask("format-json", prompt="Once", options={**GREEDY, "num_predict": 4}, stream=False, format="json")
    yield ask("format-empty", **once, stream=False, format="")
    yield ask("format-null", **once, stream=False, format=None)
    yield ask("format-schema", prompt="Once", options=GREEDY, stream=False, format={"type": "integer"})
    yield ask("format-word", **once, stream=False, format="xml")
    yield ask("format-number", **once, stream=False, format=3)
    yield ask("format-schema-bad", **once, stream=False, format={"type": "nothing"})
    yield ask("stop", prompt="Once upon a time", options={**GREEDY, "num_predict": 30, "stop": ["."]}, stream=False)
    yield ask("stop-stream", prompt="Once upon a time", options={**GREEDY, "num_predict": 30, "stop": ["."]})
    yield ask("stop-text", prompt="Once", options={**GREEDY, "stop": "."}, stream=False)
    yield ask("option-unknown", prompt="Once", options={**GREEDY, "nothing": 1}, stream=False)
    yield ask("option-type", prompt="Once", options={**GREEDY, "temperature": "hot"}, stream=False)
    yield ask("option-int-as-float", prompt="Once", options={**GREEDY, "num_predict": 4.0}, stream=False)
    yield ask("option-fraction", prompt="Once", options={**GREEDY, "num_predict": 4.5}, stream=False)
    yield ask("option-negative-temperature", prompt="Once", options={**GREEDY, "temperature": -1}, stream=False)
    yield ask("option-top-p", prompt="Once", options={**GREEDY, "temperature": 1, "top_p": 7}, stream=False)
    yield ask("options-type", prompt="Once", options=[1], stream=False)
    yield ask("options-null", prompt="Once", options=None, stream=False, keep_alive=0, model="nothing")
    yield ask("long", prompt="Once upon a time. " * 300, options=GREEDY, stream=False)
    yield ask("prompt-type", prompt=3)
    yield ask("stream-type", prompt="Once", stream="yes")
    yield ask("unknown-field", **once, stream=False, nothing=True)
    yield ask("unknown-model", **once, model="nothing")
    yield ask("unknown-model-whole", **once, model="nothing", stream=False)
    yield ask("unknown-model-path", **once, model="../../etc/passwd")
    yield ask("no-model", **once, model="")
    yield ask("null-model", **once, model=None)
    yield ask("keep-text", **once, stream=False, keep_alive="10m")
    yield ask("keep-bad", **once, stream=False, keep_alive="soon")
    yield ask("keep-list", **once, stream=False, keep_alive=[1])
    yield ask("keep-plain-digits", **once, stream=False, keep_alive="10")
    yield ask("keep-forever", **once, stream=False, keep_alive=-1)
    yield _get("ps-forever", "/api/ps")
    yield ask("unload", keep_alive=0)
    yield ask("unload-whole", keep_alive=0, stream=False)
    yield _get("ps-unloaded", "/api/ps")
    yield Exchange(name="generate-no-body", path="/api/generate")
    yield Exchange(name="generate-bad-json", path="/api/generate", body=b'{"model": ')
    yield Exchange(name="generate-list", path="/api/generate", body=[1])
    yield Exchange(name="generate-text", path="/api/generate", body=b"hello")
    yield Exchange(name="generate-bad-utf8", path="/api/generate", body=b'{"model": "\xff"}')
    yield Exchange(
        name="generate-form-type",
        path="/api/generate",
        body={"model": chat, **once, "stream": False},
        headers={"content-type": "application/x-www-form-urlencoded"},
    )


def _chat(chat: str) -> Iterator[Exchange]:
    def ask(name: str, **fields: Any) -> Exchange:
        return Exchange(name=f"chat-{name}", path="/api/chat", body={"model": chat, **fields})

    once = {"messages": HELLO, "options": GREEDY}
    yield ask("load")
    yield ask("load-empty", messages=[], stream=False)
    yield ask("stream", **once)
    yield ask("whole", **once, stream=False)
    yield ask("roles", options=GREEDY, stream=False, messages=[{"role": "system", "content": "Kind."}, *HELLO])
    yield ask("assistant-last", options=GREEDY, stream=False, messages=[*HELLO, {"role": "assistant", "content": "A"}])
    yield ask("role-unknown", options=GREEDY, stream=False, messages=[{"role": "robot", "content": "Hi"}])
    yield ask("role-missing", options=GREEDY, stream=False, messages=[{"content": "Hi"}])
    yield ask("role-upper", options=GREEDY, stream=False, messages=[{"role": "User", "content": "Hi"}])
    yield ask("content-missing", options=GREEDY, stream=False, messages=[{"role": "user"}])
    yield ask("content-null", options=GREEDY, stream=False, messages=[{"role": "user", "content": None}])
    yield ask("content-list", stream=False, messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}])
    yield ask("messages-type", stream=False, messages="hello")
    yield ask("message-type", stream=False, messages=["hello"])
    yield ask("images", **{**once, "messages": [{**HELLO[0], "images": [PIXEL]}]}, stream=False)
    yield ask("tools-unable", **once, stream=False, tools=[WEATHER])
    yield ask("tools-empty", **once, stream=False, tools=[])
    yield ask("tools-type", **once, stream=False, tools="weather")
    yield ask("think", **once, stream=False, think=True)
    yield ask("format-json", **once, stream=False, format="json")
    yield ask("format-word", **once, stream=False, format="xml")
    yield ask("long", options=GREEDY, stream=False, messages=[{"role": "user", "content": "Once upon a time. " * 300}])
    yield ask("unknown-model", **once, model="nothing")
    yield ask("no-model", **once, model="")
    yield ask("bad-keep", **once, keep_alive="soon")
    yield ask("unload", messages=[], keep_alive=0)
    yield Exchange(name="chat-no-body", path="/api/chat")
    yield Exchange(name="chat-bad-json", path="/api/chat", body=b"[")


def _vectors(chat: str, embedder: str) -> Iterator[Exchange]:
    def ask(name: str, **fields: Any) -> Exchange:
        return Exchange(name=f"embed-{name}", path="/api/embed", body={"model": embedder, **fields})

    yield ask("text", input="the sky is blue")
    yield ask("list", input=["the sky", "is blue"])
    yield ask("empty-list", input=[])
    yield ask("empty-text", input="")
    yield ask("empty-in-list", input=["", "a"])
    yield ask("none")
    yield ask("null", input=None)
    yield ask("number", input=3)
    yield ask("numbers", input=[1, 2])
    yield ask("long", input="sky " * 3000)
    yield ask("long-truncate", input="sky " * 3000, truncate=True)
    yield ask("long-refuse", input="sky " * 3000, truncate=False)
    yield ask("dimensions", input="sky", dimensions=8)
    yield ask("keep", input="sky", keep_alive="5m", options={"num_ctx": 256})
    yield ask("unknown-model", input="sky", model="nothing")
    yield ask("chat-model", input="Once", model=chat)
    yield ask("unload", input=[], keep_alive=0)
    yield Exchange(name="embed-bad-json", path="/api/embed", body=b"{")
    yield Exchange(name="embed-no-body", path="/api/embed")
    old = "/api/embeddings"
    yield Exchange(name="embeddings", path=old, body={"model": embedder, "prompt": "the sky is blue"})
    yield Exchange(name="embeddings-empty", path=old, body={"model": embedder, "prompt": ""})
    yield Exchange(name="embeddings-none", path=old, body={"model": embedder})
    yield Exchange(name="embeddings-unknown-model", path=old, body={"model": "nothing", "prompt": "a"})
    yield Exchange(name="embeddings-number", path=old, body={"model": embedder, "prompt": 3})
    yield Exchange(name="embeddings-no-body", path=old)
    yield Exchange(name="generate-embedder", path="/api/generate", body={"model": embedder, "prompt": "a"})
    yield Exchange(name="chat-embedder", path="/api/chat", body={"model": embedder, "messages": HELLO, "stream": False})


def _make(chat: str, digest: str, file: bytes) -> Iterator[Exchange]:
    def make(title: str, **fields: Any) -> Exchange:
        return Exchange(name=f"create-{title}", path="/api/create", body=fields)

    yield Exchange(name="blob-head-none", method="HEAD", path=f"/api/blobs/{EMPTY}")
    yield Exchange(name="blob-head-bad", method="HEAD", path="/api/blobs/sha256:abc")
    yield Exchange(name="blob-head-path", method="HEAD", path="/api/blobs/..%2f..%2fetc")
    yield Exchange(name="blob-post-mismatch", path=f"/api/blobs/{EMPTY}", body=b"hello")
    yield Exchange(name="blob-post-bad", path="/api/blobs/nothing", body=b"hello")
    yield Exchange(name="blob-post", path=f"/api/blobs/{digest}", body=file)
    yield Exchange(name="blob-post-again", path=f"/api/blobs/{digest}", body=file)
    yield Exchange(name="blob-head", method="HEAD", path=f"/api/blobs/{digest}")
    yield make("files", model="made", files={"made.gguf": digest})
    yield make("files-whole", model="made", files={"made.gguf": digest}, stream=False)
    yield make("from", model="tale", **{"from": chat}, system="Tell a tale.", parameters={"temperature": 0, "seed": 3})
    yield make(
        "all",
        model="whole",
        stream=False,
        **{"from": chat},
        system="Tell a tale.",
        template=TOOLED,
        license=["MIT", "Other"],
        parameters={"temperature": 0, "stop": ["zzzz", "yyyy"], "num_ctx": 512, "num_predict": 6},
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    )
    yield make("template", model="chatml", stream=False, template=CHATML, **{"from": chat})
    yield make("name-field", name="named", stream=False, **{"from": chat})
    yield make("template-bad", model="broken", stream=False, template="{{ .Prompt", **{"from": chat})
    yield make("template-bad-stream", model="broken", template="{{ .Prompt", **{"from": chat})
    yield make("parameter-unknown", model="broken", stream=False, parameters={"nothing": 1}, **{"from": chat})
    yield make("parameter-type", model="broken", stream=False, parameters={"temperature": "hot"}, **{"from": chat})
    yield make("role-unknown", model="broken", stream=False, messages=[{"role": "x", "content": "y"}], **{"from": chat})
    yield make("from-unknown", model="broken", **{"from": "nothing-at-all-here"})
    yield make("from-path", model="broken", stream=False, **{"from": "/etc/passwd"})
    yield make("nothing", model="broken")
    yield make("nothing-whole", model="broken", stream=False)
    yield make("no-name", **{"from": chat})
    yield make("bad-name", model="a/b/c/d/e", **{"from": chat})
    yield make("blob-unknown", model="broken", files={"a.gguf": EMPTY})
    yield make("files-bad-digest", model="broken", stream=False, files={"a.gguf": "nothing"})
    yield make("files-escape", model="broken", stream=False, files={"../a.gguf": digest})
    yield make("quantize-bad", model="broken", stream=False, quantize="Q9_9", **{"from": chat})
    yield make("adapter-unknown", model="broken", stream=False, adapters={"a.gguf": EMPTY}, **{"from": chat})
    yield make("modelfile", model="broken", stream=False, modelfile=f"FROM {chat}")
    yield Exchange(name="create-no-body", path="/api/create")
    yield Exchange(name="create-bad-json", path="/api/create", body=b"{")
    for name in ("tale", "whole", "chatml", "named"):
        yield Exchange(name=f"show-{name}", path="/api/show", body={"model": name})
    yield _get("tags-made", "/api/tags")
    yield Exchange(
        name="generate-made",
        path="/api/generate",
        body={"model": "tale", "prompt": "Once", "options": GREEDY, "stream": False},
    )
    yield Exchange(
        name="generate-made-system",
        path="/api/generate",
        body={"model": "tale", "prompt": "Once", "system": "No.", "options": GREEDY, "stream": False},
    )
    yield Exchange(name="chat-made", path="/api/chat", body={"model": "whole", "messages": HELLO, "stream": False})
    yield Exchange(
        name="chat-template",
        path="/api/chat",
        body={"model": "chatml", "messages": HELLO, "stream": False, "options": GREEDY},
    )
    tooled = {"model": "whole", "messages": HELLO, "tools": [WEATHER], "options": GREEDY}
    yield Exchange(name="chat-tools", path="/api/chat", body=tooled)
    yield Exchange(name="chat-tools-whole", path="/api/chat", body={**tooled, "stream": False})
    call = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
    round_ = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
    ]
    yield Exchange(name="chat-tool-round", path="/api/chat", body={**tooled, "messages": round_, "stream": False})
    text = {"function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    bad = [*HELLO, {"role": "assistant", "tool_calls": [text]}]
    yield Exchange(name="chat-tool-text-arguments", path="/api/chat", body={**tooled, "messages": bad, "stream": False})
    yield Exchange(name="copy", path="/api/copy", body={"source": "tale", "destination": "copied"})
    yield Exchange(name="copy-over", path="/api/copy", body={"source": "tale", "destination": "copied"})
    yield Exchange(name="copy-unknown", path="/api/copy", body={"source": "nothing", "destination": "other"})
    yield Exchange(name="copy-bad-source", path="/api/copy", body={"source": "../a", "destination": "other"})
    yield Exchange(name="copy-bad-destination", path="/api/copy", body={"source": "tale", "destination": "a/b/c/d/e"})
    yield Exchange(name="copy-empty", path="/api/copy", body={})
    yield Exchange(name="copy-no-body", path="/api/copy")
    yield Exchange(name="copy-bad-json", path="/api/copy", body=b"{")
    yield Exchange(name="show-copied", path="/api/show", body={"model": "copied"})
    for name in ("copied", "tale", "whole", "chatml", "named", "made"):
        yield Exchange(name=f"delete-{name}", method="DELETE", path="/api/delete", body={"model": name})
    yield Exchange(name="delete-again", method="DELETE", path="/api/delete", body={"name": "copied"})
    yield Exchange(name="delete-empty", method="DELETE", path="/api/delete", body={})
    yield Exchange(name="delete-no-body", method="DELETE", path="/api/delete")
    yield Exchange(name="delete-bad-name", method="DELETE", path="/api/delete", body={"model": "../a"})
    yield Exchange(name="delete-bad-json", method="DELETE", path="/api/delete", body=b"{")


def _bad(chat: str) -> Iterator[Exchange]:
    yield Exchange(name="pull-bad-name", path="/api/pull", body={"model": "a/b/c/d/e"})
    yield Exchange(name="pull-empty", path="/api/pull", body={})
    yield Exchange(name="pull-no-body", path="/api/pull")
    yield Exchange(name="pull-bad-json", path="/api/pull", body=b"{")
    yield Exchange(name="push-empty", path="/api/push", body={})
    yield Exchange(name="push-no-body", path="/api/push")
    yield Exchange(name="push-unknown", path="/api/push", body={"model": "nothing", "stream": False})
    yield Exchange(name="push", path="/api/push", body={"model": chat, "stream": False, "insecure": True})
    yield Exchange(name="deep-json", path="/api/generate", body=b'{"model": ' + b"[" * 20000 + b"]" * 20000 + b"}")
    yield Exchange(name="nan", path="/api/generate", body=b'{"model": "x", "options": {"temperature": NaN}}')
    yield Exchange(name="surrogate", path="/api/show", body=b'{"model": "\\ud800"}')
    yield Exchange(
        name="cors-preflight",
        method="OPTIONS",
        path="/api/chat",
        headers={"origin": "http://localhost:3000", "access-control-request-method": "POST"},
    )
    yield _get("cors-get", "/api/version", headers={"origin": "http://localhost:3000"})
    yield _get("cors-foreign", "/api/version", headers={"origin": "http://example.com"})
    yield _get("host-foreign", "/api/version", headers={"host": "example.com"})
