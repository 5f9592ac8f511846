"""Resources of OpenAI's API that nothing here can do: each says so, and what to use instead, if anything."""

from __future__ import annotations

from starlette.websockets import WebSocket

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity
from anyform.http import fault

STATELESS = "Only responses are kept here: send the whole conversation, or previous_response_id, to /v1/responses."
LOCAL = "This server has no users, keys or bills."
ABSENT: dict[str, str] = {
    "/v1/moderations": "Use a text classifier with /v1/classify.",
    "/v1/fine_tuning": "Models are trained elsewhere; a LoRA adapter may be given when a model is loaded.",
    "/v1/fine-tunes": "Models are trained elsewhere; a LoRA adapter may be given when a model is loaded.",
    "/v1/batches": "Send the requests one by one or several at once; they wait in line.",
    "/v1/files": "Send pictures and sounds in the request itself, as data: URLs or forms.",
    "/v1/uploads": "Send pictures and sounds in the request itself, as data: URLs or forms.",
    "/v1/assistants": "Use /v1/responses or /v1/chat/completions.",
    "/v1/threads": STATELESS,
    "/v1/conversations": STATELESS,
    "/v1/chatkit": "Use /v1/responses.",
    "/v1/agents": "Use /v1/responses with tools that the client runs.",
    "/v1/vector_stores": "Make vectors with /v1/embeddings, and keep them in a database of your own.",
    "/v1/realtime": "Use /v1/audio/transcriptions, /v1/chat/completions and the socket /v1/audio/speech/stream.",
    "/v1/live": "Use /v1/audio/transcriptions, /v1/chat/completions and the socket /v1/audio/speech/stream.",
    "/v1/videos": "Pictures are made by /v1/images/generations.",
    "/v1/evals": "",
    "/v1/graders": "",
    "/v1/containers": "Code is run by the client, as a tool of its own.",
    "/v1/skills": "",
    "/v1/edits": "Use /v1/chat/completions.",
    "/v1/engines": "Models are listed by /v1/models.",
    "/v1/organization": LOCAL,
    "/v1/projects": LOCAL,
    "/v1/dashboard": LOCAL,
    "/v1/decisions": "",
    "/v1/safety": "",
    "/v1/vaults": "",
    "/v1/content_provenance_checks": "",
    "/v1/audio/voice_consents": "Voices are listed by /v1/audio/voices.",
    "/v1/responses/compact": "Use 'truncation': 'auto' of /v1/responses.",
}
"""What lies at these paths and below them, with what to do instead."""
STORED = "Chat completions are not kept: make responses with /v1/responses, which are."
SOCKETS = {
    "/v1/realtime": ABSENT["/v1/realtime"],
    "/v1/responses": "Post to /v1/responses; with 'stream': true the answer comes as events.",
}
"""WebSockets that OpenAI has at paths, with what to do instead."""
_CHATS = "/v1/chat/completions"


class NotImplementedHere(Fault):
    """A resource of OpenAI's that this server does not have."""

    code = "not_implemented"
    category, area, severity = Category.UNSUPPORTED, Area.REQUEST, Severity.INFO
    status = 501
    lasting = True


def missed(method: str, path: str) -> NotImplementedHere | None:
    """The refusal of what nothing serves, where it is a resource of OpenAI's; None: of something else."""
    path = path.rstrip("/")
    known = [absent for absent in ABSENT if path == absent or path.startswith(f"{absent}/")]
    stored = path.startswith(f"{_CHATS}/") or (path == _CHATS and method in ("GET", "HEAD"))
    if not known and not stored:
        return None
    return _refusal(f"{method} {path[:200]}", STORED if stored else ABSENT[known[0]])


async def refuse(socket: WebSocket) -> None:
    """The answer to who would open one of SOCKETS."""
    path = socket.url.path
    await socket.send_denial_response(fault.response(_refusal(f"The WebSocket {path}", SOCKETS[path])))


def _refusal(what: str, hint: str) -> NotImplementedHere:
    return NotImplementedHere(f"{what} is a resource of OpenAI's that this server does not have.", hint)
