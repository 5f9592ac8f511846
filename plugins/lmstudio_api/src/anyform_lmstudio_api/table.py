"""What becomes of each field of LM Studio's."""

from __future__ import annotations

from typing import Any

from anyform.dialect import Field, Resource


def _heeded(name: str, note: str = "", example: Any = None, wrong: Any = None) -> Field:
    return Field(name=name, treatment="heeded", note=note, example=example, wrong=wrong)


def _refused(name: str, note: str, example: Any) -> Field:
    return Field(name=name, treatment="refused", note=note, example=example)


def _limit(name: str) -> Field:
    return _heeded(name, "-1, or nothing: as many as the context has room for", -1, -2)


_TTL = _heeded("ttl", "seconds that the model stays after its last use", 300, -1)
_OWN = (
    _TTL,
    Field(
        name="draft_model",
        treatment="ignored",
        note="it would change how fast an answer comes, not which: none is drafted here",
        example="some-draft",
    ),
    _refused("preset", "none are kept here: send what it says", "my-preset"),
)
_TOLD = "`stats`, `model_info` and `runtime` stand beside the answer, in a stream in the chunk with the finish_reason"
_V0 = (
    Resource(
        method="GET",
        path="/api/v0/models",
        about="Language and embedding models that are here: `compatibility_type` is the format as it is called here.",
    ),
    Resource(method="GET", path="/api/v0/models/{model}", at="/api/v0/models/{chat}", about="One of them."),
    Resource(
        method="POST",
        path="/api/v0/chat/completions",
        about=f"Answers a conversation as OpenAI does; {_TOLD}.",
        body=(("model", "{chat}"), ("messages", [{"role": "user", "content": "one two"}])),
        like="/v1/chat/completions",
        fields=(_limit("max_tokens"), _limit("max_completion_tokens"), *_OWN),
    ),
    Resource(
        method="POST",
        path="/api/v0/completions",
        about=f"Goes on with a text as OpenAI does; {_TOLD}.",
        body=(("model", "{chat}"), ("prompt", "one two")),
        like="/v1/completions",
        fields=(_limit("max_tokens"), _limit("max_completion_tokens"), *_OWN),
    ),
    Resource(
        method="POST",
        path="/api/v0/embeddings",
        about="Makes vectors as OpenAI does.",
        body=(("model", "{embedding}"), ("input", "one two")),
        like="/v1/embeddings",
        fields=(_TTL,),
    ),
)
_GGUF = "for gguf; without effect on other formats, as in LM Studio"
_STRANGERS: tuple[tuple[str, Any], ...] = (
    ("messages", [{"role": "user", "content": "a"}]), ("max_tokens", 5), ("max_completion_tokens", 5), ("n", 1),
    ("best_of", 1), ("seed", 1), ("stop", "a"), ("typical_p", 1), ("repeat_last_n", 1), ("presence_penalty", 0),
    ("frequency_penalty", 0), ("logit_bias", {}), ("ignore_eos", False), ("n_ctx", 64), ("grammar", ""),
    ("response_format", {"type": "text"}), ("json_schema", {}), ("reasoning_effort", "low"), ("enable_thinking", True),
    ("chat_template_kwargs", {}), ("keep_alive", "5m"), ("num_ctx", 64), ("typ_p", 1), ("repetition_penalty", 1),
    ("chat_template", ""),
)  # fmt: skip
"""Fields that clients know from elsewhere."""
_STRANGE = "v1 refuses all fields that it does not know, as LM Studio does; OpenAI's resources have it"
_V1 = (
    Resource(
        method="GET",
        path="/api/v1/models",
        about="Language and embedding models that are here, with those that are loaded as `loaded_instances`.",
    ),
    Resource(
        method="POST",
        path="/api/v1/models/load",
        about="Loads a model, which stays until it is unloaded, or makes room for another that needs its memory. One "
        "model has one instance, of its own name: a second load with other settings takes the place of the first; less "
        "context alone is served by what is loaded.",
        body=(("model", "{chat}"),),
        fields=(
            _heeded("model", "", wrong=5),
            _heeded("context_length", "", 64, 0),
            _heeded("parallel", "requests at once", 2, 0),
            _heeded("eval_batch_size", f"`batch` {_GGUF}", 512, 0),
            _heeded("flash_attention", _GGUF, True, "yes"),
            _heeded("offload_kv_cache_to_gpu", f"`offload_kqv` {_GGUF}", True, "yes"),
            _refused("num_experts", "the model's own number is used", 4),
            _heeded("echo_load_config", "tells the settings that it has, of those that LM Studio knows", True, "yes"),
            _heeded("ttl", "not LM Studio's: seconds that it stays unused, where it is not to stay for ever", 300, -1),
        ),
    ),
    Resource(
        method="POST",
        path="/api/v1/models/unload",
        about="Unloads a model, once its requests have ended.",
        body=(("instance_id", "{chat}"),),
        before=(("POST", "/api/v1/models/load", (("model", "{chat}"),)),),
        fields=(_heeded("instance_id", "the model's name", wrong="nothing"),),
    ),
    Resource(
        method="POST",
        path="/api/v1/models/download",
        about="Fetches a model of the Hugging Face hub, where the server may; what is here is `already_downloaded`.",
        body=(("model", "{chat}"),),
        fields=(
            _heeded("model", "`owner/repo`, `owner/repo:variant`, or the address of its page there", wrong=5),
            _heeded("quantization", "the variant", wrong=5),
        ),
    ),
    Resource(
        method="GET",
        path="/api/v1/models/download/status",
        about="All downloads of this server that run, and the last that have ended; `paused` ones were stopped, and go "
        "on when they are asked for anew. A failed one has an `error`.",
    ),
    Resource(
        method="GET",
        path="/api/v1/models/download/status/{job_id}",
        about="One of them.",
        at="/api/v1/models/download/status/job_0",
        status=404,
    ),
    Resource(
        method="POST",
        path="/api/v1/chat",
        about="One turn of a conversation, which is kept, bounded, beside the responses of `/v1/responses`. "
        "`stats.stop_reason` is not LM Studio's; `remarks` are what the model remarks on the request.",
        body=(("model", "{chat}"), ("input", "one two")),
        fields=(
            _heeded("model", "", wrong="no such model"),
            _heeded(
                "input",
                "a text, or items `message` (or `text`) with `content` and `image` with `data_url`, which make one "
                "message: texts that follow each other are lines of it",
                [{"type": "message", "content": "a"}, {"type": "text", "content": "b"}],
                [],
            ),
            _heeded(
                "system_prompt", "the conversation's, until another takes its place", "be brief", 5
            ),
            _refused("integrations", "no MCP servers and plugins run here", ["mcp/playwright"]),
            _heeded("stream", "`model_load` events come once the model is loaded and has taken the prompt", True, 5),
            _heeded("temperature", "0 to 2", 0.5, 2.5),
            _heeded("top_p", "", 0.9, 1.5),
            _heeded("top_k", "", 40, "many"),
            _heeded("min_p", "", 0.05, 1.5),
            _heeded("repeat_penalty", "", 1.1, -1),
            _heeded("max_output_tokens", "", 5, 0),
            _heeded(
                "reasoning",
                "`low`, `medium`, `high` go to the model's template, which may not tell them apart; all but `off` are "
                "refused for a model that does not reason",
                "on",
                "most",
            ),
            _heeded("context_length", "the context that it needs: with less the model is loaded anew", 64, 0),
            _heeded("store", "false: not kept, and no `response_id`", False, 5),
            _heeded("previous_response_id", "one that is kept, of `/v1/responses` too", wrong="resp_0"),
            _heeded("ttl", "not LM Studio's: seconds that the model stays after this use", 300, -1),
            *(_refused(name, _STRANGE, example) for name, example in _STRANGERS),
        ),
    ),
)  # fmt: skip
RESOURCES: tuple[Resource, ...] = (*_V0, *_V1)
