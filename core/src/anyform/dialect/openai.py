"""What OpenAI's resources, which the server has itself, make of each field of a request."""

from __future__ import annotations

from anyform.dialect import openaimedia
from anyform.dialect.field import heeded, ignored, refused
from anyform.dialect.table import Resource

_MODEL = heeded("model", "a name of `GET /v1/models`", wrong="no such model")
_KEEP = heeded("keep_alive", "how long the model stays afterwards; not OpenAI's", "5m", "soon")
_STREAM = heeded("stream", "", True, "yes")
_SAMPLING = (
    heeded("temperature", "0 to 2", 0.5, 2.5),
    heeded("top_p", "0 to 1", 0.9, 1.5),
    heeded("top_k", "not OpenAI's", 40, "many"),
    heeded("min_p", "not OpenAI's", 0.05, 1.5),
    heeded("typical_p", "not OpenAI's", 0.95, 1.5),
    heeded("typ_p", "`typical_p`", 0.95, 1.5),
    heeded("repeat_penalty", "not OpenAI's", 1.1, -1),
    heeded("repetition_penalty", "`repeat_penalty`", 1.1, -1),
    heeded("repeat_last_n", "not OpenAI's", 64, -2),
    heeded("presence_penalty", "-2 to 2", 0.5, 3),
    heeded("frequency_penalty", "-2 to 2", 0.5, -3),
    heeded("logit_bias", "by token ids", {"5": 1.0}, 5),
    heeded("seed", "-1: a random one", 7, 1.5),
    heeded("stop", "a string or several", ["zzz"], 5),
    heeded("ignore_eos", "not OpenAI's", False, "no"),
    heeded("n_ctx", "the context that it needs; not OpenAI's", 64, 0),
    heeded("num_ctx", "`n_ctx`", 64, 0),
)
_GRAMMAR = heeded("grammar", "GBNF; not OpenAI's", wrong=5)
_FORMS = (
    heeded(
        "response_format", "`text`, `json_object`, `json_schema`; the decoder keeps to it", {"type": "text"}, "json"
    ),
    heeded("json_schema", "a schema alone; not OpenAI's", wrong=5),
    _GRAMMAR,
)
_THINKS = (
    "`none`: no thinking; others: thinking, as the template has it; a model that was not taught to think answers "
    "without, and nothing tells it"
)
_EFFORT = heeded("reasoning_effort", _THINKS, "low", "hard")
_TEMPLATE = (
    heeded("chat_template", "Jinja, in the place of the model's own; not OpenAI's", "{{ messages }}", 5),
    heeded("chat_template_kwargs", "variables of the chat template; not OpenAI's", {"a": 1}, 5),
    heeded("enable_thinking", "not OpenAI's", False, "no"),
)
_ANSWERS = (heeded("n", "1 to 128", 2, 0), heeded("best_of", "must be `n`", 1, 5), *_FORMS)
_COUNTED = heeded("stream_options.include_usage", "", True, "yes", stream=True)
_NOBODY = "nothing here is told apart by it"
_PEOPLE = (
    ignored("user", _NOBODY, "someone"),
    ignored("safety_identifier", _NOBODY, "someone"),
    ignored("prompt_cache_key", "what was computed for an earlier prompt is reused by itself", "k"),
    ignored("prompt_cache_retention", "", "24h"),
    ignored("service_tier", "there is one", "auto"),
)
_SAY = (("model", "{chat}"), ("messages", [{"role": "user", "content": "one two"}]))
_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
_FLAT = {"type": "function", "name": "look", "parameters": {"type": "object"}}

_CHAT = Resource(
    method="POST",
    path="/v1/chat/completions",
    about="Answers a conversation, whole or streamed.",
    body=_SAY,
    fields=(
        _MODEL,
        heeded(
            "messages",
            "`system`, `developer`, `user`, `assistant`, `tool`; parts `text`, `refusal`, `image_url`, `input_audio`",
            [{"role": "developer", "content": [{"type": "text", "text": "hi"}]}, {"role": "user", "content": "a"}],
            [],
        ),
        _STREAM,
        _COUNTED,
        ignored("stream_options.include_obfuscation", "nothing is padded", False, stream=True),
        heeded("max_completion_tokens", "1 or more", 5, 0),
        heeded("max_tokens", "the same, older", 5, 0),
        *_SAMPLING,
        *_ANSWERS,
        heeded("logprobs", "", True, "yes"),
        heeded("top_logprobs", "0 to 20", 2, 21, logprobs=True),
        heeded("tools", "functions", [_TOOL], [{"type": "web_search"}]),
        heeded(
            "tool_choice",
            "`none`, `auto`, `required`, or a function by its name",
            {"type": "function", "function": {"name": "look"}},
            "any",
            tools=[_TOOL],
        ),
        heeded("parallel_tool_calls", "", False, "no"),
        refused("functions", "use `tools`", [{"name": "look"}]),
        _EFFORT,
        *_TEMPLATE,
        _KEEP,
        *_PEOPLE,
        ignored("metadata", "chat completions are not kept", {"a": "b"}),
        ignored("store", "chat completions are not kept", True),
        ignored("verbosity", "", "low"),
        ignored("prediction", "", {"type": "content", "content": "a"}),
        ignored("modalities", "the answer is text", ["text"]),
        ignored("audio", "the answer is text", {"voice": "alloy", "format": "wav"}),
        ignored("web_search_options", "nothing is searched", {}),
    ),
)
_COMPLETION = Resource(
    method="POST",
    path="/v1/completions",
    about="Goes on with a text.",
    body=(("model", "{complete}"), ("prompt", "one two")),
    fields=(
        _MODEL,
        heeded("prompt", "a text, several, or token ids", ["a", "b"], []),
        heeded("suffix", "what follows the hole", "b", 5),
        heeded("echo", "", True, "yes"),
        _STREAM,
        _COUNTED,
        heeded("max_tokens", "16 where nothing is said", 5, -1),
        heeded("max_completion_tokens", "`max_tokens`", 5, -1),
        heeded("logprobs", "how many alternatives, 0 to 20", 2, 21),
        *_SAMPLING,
        *_ANSWERS,
        _KEEP,
        *_PEOPLE,
    ),
)
_EMBEDDING = Resource(
    method="POST",
    path="/v1/embeddings",
    about="Makes vectors of texts, token ids or pictures.",
    body=(("model", "{embedding}"), ("input", "one two")),
    fields=(
        _MODEL,
        heeded("input", "a text, several, token ids, or objects with a picture; 2,048 at the most", ["a", "b"], []),
        heeded("encoding_format", "`float` or `base64`", "base64", "hex"),
        heeded("dimensions", "the first so many numbers, made to length one again", 4, 0),
        heeded("truncate", "cut what is too long, instead of refusing it; not OpenAI's", True, "yes"),
        _KEEP,
        ignored("user", _NOBODY, "someone"),
    ),
)
_RERANK = Resource(
    method="POST",
    path="/v1/rerank",
    about="Orders documents by their relevance to a query; also at `/rerank`.",
    body=(("model", "{rerank}"), ("query", "one"), ("documents", ["one", "two"])),
    fields=(
        _MODEL,
        heeded("query", "", "two", 5),
        heeded("documents", "texts, or objects with `text`; 2,048 at the most", [{"text": "a"}, "b"], []),
        heeded("top_n", "", 1, 0),
        heeded("return_documents", "", True, "yes"),
        _KEEP,
    ),
)
_NOT_HERE = "nothing here searches, runs code or asks other servers"
_RESPONSE = Resource(
    method="POST",
    path="/v1/responses",
    about="Answers a conversation, whole or as numbered events; the answer is kept for a while, to go on from.",
    body=(("model", "{chat}"), ("input", "one two")),
    fields=(
        _MODEL,
        heeded(
            "input",
            "a text, or items: messages with parts `input_text`, `output_text`, `refusal`, `input_image` (a URL), "
            "`input_audio`; `function_call`, `function_call_output`, `reasoning`, `item_reference`; others and "
            "`input_file` are refused",
            [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}],
            [],
        ),
        heeded("instructions", "a system message, of this response alone", "be brief", 5),
        heeded("previous_response_id", "one that is kept; kept responses are bounded", wrong="resp_0"),
        heeded("store", "false: not kept", False, "no"),
        _STREAM,
        ignored("stream_options.include_obfuscation", "nothing is padded", False, "no", stream=True),
        heeded("max_output_tokens", "1 or more", 5, 0),
        heeded("max_completion_tokens", "`max_output_tokens`, where that is not said", 5, 0),
        heeded("max_tokens", "the same", 5, 0),
        *_SAMPLING,
        *_FORMS,
        heeded("n", "1 alone", 1, 2),
        heeded("best_of", "1 alone", 1, 2),
        heeded(
            "include",
            "`message.output_text.logprobs`; OpenAI's others are taken and mean nothing here",
            ["message.output_text.logprobs", "reasoning.encrypted_content"],
            ["x"],
        ),
        heeded("top_logprobs", "0 to 20", 2, 21),
        heeded(
            "text.format", "`text`, `json_object`, `json_schema`; the decoder keeps to it", {"type": "text"}, "json"
        ),
        ignored("text.verbosity", "", "low", "loud"),
        heeded("tools", f"functions; {_NOT_HERE}", [_FLAT], [{"type": "web_search"}]),
        heeded(
            "tool_choice",
            "`none`, `auto`, `required`, a function by its name, or `allowed_tools`",
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
            "any",
            tools=[_FLAT],
        ),
        heeded("parallel_tool_calls", "", False, "no"),
        ignored("max_tool_calls", "it counts calls of tools that the server runs, and there are none", 3, -1),
        heeded("reasoning.effort", _THINKS, "low", "hard"),
        ignored("reasoning.summary", "what was thought comes in full", "auto", "long"),
        ignored("reasoning.generate_summary", "the same, older", "auto", "long"),
        heeded("reasoning_effort", "`reasoning.effort`, where that is not said", "low", "hard"),
        *_TEMPLATE,
        heeded("truncation", "`auto`: the oldest turns are left out, and that is told in `remarks`", "auto", "left"),
        heeded("metadata", "16 pairs of short texts, given back", {"a": "b"}, {"a": 1}),
        ignored("user", f"given back; {_NOBODY}", "someone", 5),
        ignored("safety_identifier", f"given back; {_NOBODY}", "someone", 5),
        ignored("prompt_cache_key", "given back", "k", 5),
        ignored("prompt_cache_retention", "", "24h"),
        ignored("service_tier", "there is one: `default`", "auto", 5),
        _KEEP,
        refused("background", "stream the answer instead", True),
        refused("conversation", "use `previous_response_id`", "conv_1"),
        refused("prompt", "templates are not kept here", {"id": "pmpt_1"}),
        refused("context_management", "use `truncation`", [{"type": "compaction"}]),
        refused("moderation", "nothing here moderates", {"model": "omni-moderation-latest"}),
    ),
)
_COUNT = Resource(
    method="POST",
    path="/v1/responses/input_tokens",
    about="Counts the tokens of the input that `/v1/responses` would have, in the same fields.",
    body=(("model", "{chat}"), ("input", "one two")),
    like="/v1/responses",
)
_KEPT = (("POST", "/v1/responses", (("model", "{chat}"), ("input", "one two"))),)
RESOURCES: tuple[Resource, ...] = (
    _CHAT,
    _COMPLETION,
    _EMBEDDING,
    _RERANK,
    _RESPONSE,
    _COUNT,
    Resource(
        method="GET",
        path="/v1/responses/{id}",
        about="A response that is kept.",
        before=_KEPT,
        fields=(refused("?stream", "a response that is kept is not streamed again", True),),
    ),
    Resource(
        method="DELETE",
        path="/v1/responses/{id}",
        about="Forgets a response; what went on from it still works.",
        before=_KEPT,
    ),
    Resource(
        method="GET",
        path="/v1/responses/{id}/input_items",
        about="What the model was given for a response, the items of earlier ones that it went on from included.",
        before=_KEPT,
        fields=(
            heeded("?limit", "1 to 100; 20 where nothing is said", 5, 0),
            heeded("?order", "`asc` or `desc`, which is the usual", "asc", "up"),
            heeded("?after", "the id of an item", wrong="msg_0"),
            ignored("?include", "all is shown", "message.input_image.image_url"),
        ),
    ),
    Resource(
        method="POST",
        path="/v1/responses/{id}/cancel",
        about="Refused: only responses made in the background can be cancelled. To stop one, hang up.",
        before=_KEPT,
        status=400,
    ),
    *openaimedia.RESOURCES,
)
