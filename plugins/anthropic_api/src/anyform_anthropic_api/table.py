"""What becomes of each field of Anthropic's."""

from __future__ import annotations

from anyform.dialect import Field, Resource

HELLO = [{"role": "user", "content": "hello there"}]
TOOLS = [{"name": "look", "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}]
LEAST = (("model", "{chat}"), ("max_tokens", 16), ("messages", HELLO))
_BLOCKS = (
    "Roles user, assistant and, in between, system; a string or blocks. Heeded: text, image (base64; url as far as the "
    "server fetches), document (text, or content with blocks of text), search_result, tool_use, tool_result (is_error "
    "puts 'Error: ' before it; pictures come behind it), thinking. redacted_thinking is dropped: nobody here can read "
    "it. Refused: files, PDFs, citations, blocks of server tools, a result without its call, and a last message of the "
    "assistant (prefill). Messages of one role make one turn. cache_control in a block is ignored."
)
_TOOLS = (
    "Custom tools, with strict. Tools that Anthropic runs or has taught its models are refused by name. cache_control, "
    "defer_loading, eager_input_streaming and input_examples are ignored; allowed_callers must have 'direct'."
)
_THINKING = (
    "enabled: thinks, with any budget_tokens of 1024 and more below max_tokens, which no model here is held to; "
    "adaptive: as the model's template has it; disabled, or left out: does not, where the model can be without. "
    "display 'omitted' leaves the text out. Signatures are empty. A model that was not taught to think "
    "answers without, and nothing tells it."
)
ASKED = (
    Field(name="model", treatment="heeded", note="a name of this server's", example="{chat}", wrong=5),
    Field(name="messages", treatment="heeded", note=_BLOCKS, example=HELLO, wrong=[]),
    Field(name="system", treatment="heeded", note="a string or blocks of text", example="Be short.", wrong=5),
    Field(name="tools", treatment="heeded", note=_TOOLS, example=TOOLS, wrong=[{"name": "look"}]),
    Field(
        name="tool_choice",
        treatment="heeded",
        note="auto, any, tool, none; disable_parallel_tool_use",
        example={"type": "auto", "disable_parallel_tool_use": True},
        wrong={"type": "most"},
        beside=(("tools", TOOLS),),
    ),
    Field(name="thinking", treatment="heeded", note=_THINKING, example={"type": "adaptive"}, wrong={"type": "deep"}),
    Field(
        name="output_config.effort",
        treatment="heeded",
        note="goes to the model's template as reasoning_effort, which few models know",
        example="low",
        wrong="most",
    ),
    Field(
        name="output_config.format",
        treatment="heeded",
        note="json_schema: the decoder is held to it",
        wrong={"type": "yaml"},
    ),
    Field(name="output_format", treatment="heeded", note="the older name of output_config.format", wrong={"type": "x"}),
    Field(
        name="cache_control",
        treatment="ignored",
        note="prompts are cached without being asked; cache_read_input_tokens tells how much of one was",
        example={"type": "ephemeral"},
    ),
    Field(
        name="context_management",
        treatment="ignored",
        note="the conversation is read as it is sent; one that is over the context is refused, never cut",
        example={"edits": []},
    ),
    Field(name="container", treatment="refused", note="no code runs here", example="container_1"),
    Field(
        name="mcp_servers",
        treatment="refused",
        note="this server calls no others",
        example=[{"type": "url", "url": "https://example.com", "name": "x"}],
    ),
    Field(
        name="thread",
        treatment="refused",
        note="conversations are not kept here; the error's code tells Anthropic's tool runner to send the whole one",
        example={"type": "create"},
        wrong="t",
    ),
    Field(name="speed", treatment="ignored", example="fast"),
    Field(name="user_profile_id", treatment="ignored", example="profile_1"),
    Field(name="keep_alive", treatment="heeded", note="not Anthropic's: as in other dialects", example="5m", wrong="x"),
)
GENERATED = (
    Field(
        name="max_tokens",
        treatment="heeded",
        note="required; 0 reads the prompt into the cache and answers with nothing",
        example=8,
        wrong=-1,
    ),
    Field(name="stream", treatment="heeded", example=False, wrong="yes"),
    Field(name="stop_sequences", treatment="heeded", example=["xyz"], wrong=[""]),
    Field(name="temperature", treatment="heeded", note="0 to 1", example=0.5, wrong=1.5),
    Field(name="top_p", treatment="heeded", example=0.9, wrong=2),
    Field(name="top_k", treatment="heeded", example=40, wrong=-5),
    Field(name="seed", treatment="heeded", note="not Anthropic's: as in other dialects", example=1, wrong="x"),
    Field(name="metadata", treatment="ignored", note="kept nowhere", example={"user_id": "u"}),
    Field(name="service_tier", treatment="ignored", note="told as standard", example="auto"),
    Field(name="inference_geo", treatment="ignored", note="it stays on this machine", example="us"),
    Field(name="diagnostics", treatment="ignored", example={"previous_message_id": None}),
    Field(name="compaction", treatment="refused", note="ask for a summary in words", example={"type": "summarize"}),
    Field(
        name="fallbacks", treatment="ignored", note="no model here declines by a policy", example=[{"model": "other"}]
    ),
    Field(name="billing_policy", treatment="ignored", example={"type": "any"}),
)
RESOURCES = (
    Resource(
        method="POST",
        path="/v1/messages",
        about="Answers a conversation, whole or as events. Headers of versions, betas and keys are not required.",
        body=LEAST,
        fields=(*GENERATED, *ASKED),
    ),
    Resource(
        method="POST",
        path="/v1/messages/count_tokens",
        about="Counts the tokens of a conversation as its model would, also of one that is over the context.",
        body=(("model", "{chat}"), ("messages", HELLO)),
        fields=(*ASKED[:-1], Field(name="compaction", treatment="ignored", example={"type": "summarize"})),
        like="/v1/messages",
    ),
    Resource(
        method="GET",
        path="/v1/models",
        about="Lists models as Anthropic does, on a listener without OpenAI; elsewhere it is OpenAI's list.",
        fields=(
            Field(name="?limit", treatment="heeded", note="1 to 1000; 20 where it is left out", example=5, wrong=0),
            Field(name="?after_id", treatment="heeded", note="the models behind that name", example="a"),
            Field(name="?before_id", treatment="heeded", note="the models before that name", example="z"),
        ),
    ),
    Resource(method="GET", path="/v1/models/{model}", at="/v1/models/{chat}", about="One of them, likewise."),
    Resource(method="POST", path="/v1/messages/batches", about="404: there are no batches here.", status=404),
)
