"""What a real Ollama 0.9.3 answers otherwise, and why ours is meant so."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

OURS_SAYS_MORE = "the same words, and then what to do"
NO_GO = "the client may not know the types of a server in Go: said as everywhere else here"
KNOWN_BEFORE = "a fault that is known before the work begins is an HTTP status, also where the answer would be a stream"
CLIENTS_FAULT = "the request is at fault, not the server: 400, not 500"
NOT_SILENT = "what cannot be done is refused, not left out or guessed"


@dataclass(frozen=True, slots=True)
class Difference:
    """Exchanges and parts of their answers, both as patterns: several are parted by spaces."""

    exchanges: str
    part: str
    why: str

    def covers(self, exchange: str, part: str) -> bool:
        """Whether this is about *part* of the answer to *exchange*."""
        names = any(fnmatchcase(exchange, pattern) for pattern in self.exchanges.split())
        return names and any(fnmatchcase(part, pattern.replace("[]", "[[]]")) for pattern in self.part.split())


DIFFERENCES = (
    Difference("*", "charset", "JSON is UTF-8 in any case (RFC 8259), and plain text here says that it is"),
    Difference("*", "first.error+", OURS_SAYS_MORE),
    Difference("*-bad-json generate-text generate-list nan deep-json", "first.error", f"JSON: {NO_GO}"),
    Difference(
        "show-wrong-type *-type *-number generate-think-bad generate-keep-list chat-content-list "
        "chat-tool-text-arguments",
        "first.error",
        f"types: {NO_GO}",
    ),
    Difference("*-no-body", "first.error", "no body is an empty object here: what is missing in it is said"),
    Difference(
        "chat-unknown-model embed-unknown-model embeddings-unknown-model copy-unknown",
        "first.error",
        "in the words that generate has, with the models that there are",
    ),
    Difference("generate-suffix generate-think chat-think", "first.error", "without the registry's long name"),
    Difference("generate-images-bad", "first.error", "which picture it is, is said"),
    Difference("embed-long-refuse", "first.error", "how many tokens there are, and how many there may be, is said"),
    Difference("generate-embedder chat-embedder", "first.error", "what it does is said, and which models do the other"),
    Difference("create-template-bad", "first.error", "with the line"),
    Difference("create-bad-name copy-bad-destination", "first.error", "how a name is written is said"),
    Difference("create-adapter-unknown", "first.error", "no path of the server is told"),
    Difference("trailing-slash", "status", "no path has two spellings"),
    Difference("show*", "first.license", "the licence that the file itself names is told as well"),
    Difference("show*", "first.parameters", "a chat template in the file is used as it is, and needs no stop strings"),
    Difference(
        "show*", "first.model_info.*", "what the kernel has read of the file; lists of tokens are not kept in memory"
    ),
    Difference("show*", "first.tensors*", "the list of tensors is nothing that a client uses; anyform validate has it"),
    Difference("show-bad-name", "status", "a name that is none is not found"),
    Difference("ps-*", "first.models[].context_length", "newer Ollamas say it, and clients ask for it"),
    Difference(
        "generate-* chat-*",
        "*.prompt_eval_cached_count",
        "prompt_eval_count has all tokens: these were computed before",
    ),
    Difference(
        "generate-context", "status", "token ids of another server mean nothing here, so that context is not read"
    ),
    Difference("generate-template-bad generate-template-unknown-function", "status", CLIENTS_FAULT),
    Difference("generate-template-unknown-field", "status", "'<no value>' in a prompt is nobody's wish"),
    Difference("*-format-word *-format-number generate-format-schema-bad", "status", CLIENTS_FAULT),
    Difference("generate-images chat-images", "status", f"a model that does not see: {NOT_SILENT}"),
    Difference("generate-stop-text", "status", "one stop string may stand without a list, as everywhere else here"),
    Difference("generate-option-type", "status", CLIENTS_FAULT),
    Difference("generate-option-fraction", "status", f"half a token: {NOT_SILENT}"),
    Difference("generate-option-negative-temperature generate-option-top-p", "status", f"out of range: {NOT_SILENT}"),
    Difference("generate-long chat-long", "status", "no prompt is cut unless `truncate` asks for it"),
    Difference("embed-long", "status", "no text is cut unless `truncate` asks for it"),
    Difference("embed-long-truncate", "first.truncated first.remarks*", "what was cut is reported"),
    Difference("embed-chat-model", "status", "a chat model's states are no embeddings"),
    Difference("generate-no-model generate-null-model", "status", "a name that is missing is not one that is unknown"),
    Difference("generate-keep-plain-digits", "status", '"10" is ten seconds, as 10 is'),
    Difference("generate-bad-utf8", "status", "what is not UTF-8 is not repaired"),
    Difference("chat-role-unknown chat-role-missing", "status", f"a role that no template has: {NOT_SILENT}"),
    Difference("chat-tools-unable", "status", "tools are described in words to a model whose template has none"),
    Difference("blob-head-none", "type", "an answer without a body has no type"),
    Difference(
        "create-template-bad-stream create-nothing create-blob-unknown create-from-unknown", "status", KNOWN_BEFORE
    ),
    Difference(
        "create-parameter-unknown create-parameter-type create-role-unknown",
        "status",
        f"Ollama fails later, when the model is used: {NOT_SILENT}",
    ),
    Difference("create-from-path", "status", "no path of a request is read: that is forbidden, not mistaken"),
    Difference("create-files-bad-digest create-quantize-bad", "status", CLIENTS_FAULT),
    Difference("create-modelfile", "status", "older clients send a Modelfile; it is read"),
    Difference("tags-made", "first.models[].details.families*", "a copy of a model has its base's families"),
    Difference("push push-unknown", "status", "nothing is published from here: 501; what is unknown is 404"),
    Difference("surrogate", "status", CLIENTS_FAULT),
    Difference("cors-preflight", "status", "pages of other origins are let in by cors_origins alone"),
    Difference("cors-foreign host-foreign", "type first.error", "a refusal here has a body that says why"),
)
