"""What becomes of each field of the requests that have a model work."""

from __future__ import annotations

from typing import Any

from anyform.dialect import Field, Resource
from anyform_ollama_api.options import OPTIONS

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A picture of one pixel, as PNG in base64."""
SAID = [{"role": "user", "content": "Hello"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
PAINTING = "Of models that paint, which /v1/images/generations asks."
LAST = "In the last object's `truncated` and `remarks`."
UNASKED = (
    "Ollama does so unasked; here it is as the model's rule has it where it is left out, else false, and such a "
    "request is refused."
)

MODEL = Field(
    name="model", treatment="heeded", note="Any name of it; `:latest` may be left out.", example="{chat}", wrong=3
)
EMBEDDER = Field(name="model", treatment="heeded", note="As of /api/chat.", example="{embedding}", wrong=3)
STREAM = Field(name="stream", treatment="heeded", note="True where it is left out.", example=False, wrong="yes")
STAY = Field(
    name="keep_alive",
    treatment="heeded",
    note="Seconds, or a time such as `5m`; negative: for ever. 0 unloads the model afterwards.",
    example="5m",
    wrong="soon",
)
THINK = Field(
    name="think",
    treatment="heeded",
    note="A model that does not think refuses all but false. An effort goes to the model's template.",
    example=False,
    wrong="much",
)
FORM = Field(
    name="format",
    treatment="heeded",
    note="`json`, or a JSON schema, which the answer follows at any temperature. Engines that follow none refuse it.",
    example="",
    wrong="xml",
)
SHIFT = Field(
    name="shift", treatment="ignored", note="A full context ends the answer: `done_reason` is `length`.", example=True
)
DEBUG = Field(name="_debug_render_only", treatment="ignored", note="The answer is made.", example=False)
LIKELIHOODS = (
    Field(name="logprobs", treatment="heeded", note="As the engine can.", example=True, wrong="yes"),
    Field(
        name="top_logprobs",
        treatment="heeded",
        note="0 to 20; only beside `logprobs`.",
        example=2,
        wrong=21,
        beside=(("logprobs", True),),
    ),
)
TRUNCATE = Field(
    name="truncate",
    treatment="heeded",
    note="Whether the oldest turns may be left out where all is over the context; the last one never. It is then "
    f"reported. {LAST} {UNASKED}",
    example=True,
    wrong="yes",
)
ALL_OPTIONS = (
    Field(name="options", treatment="heeded", note="Those that are not listed are ignored.", example={}, wrong=[1]),
    *(
        Field(
            name=f"options.{option.name}",
            treatment="heeded" if option.heeded else "ignored",
            note=option.note,
            example=option.example,
            wrong=option.wrong,
        )
        for option in OPTIONS
    ),
)
EMBEDDING_OPTIONS = Field(
    name="options", treatment="ignored", note="Their types are checked as those of /api/chat.", example={}, wrong=[1]
)

CHAT = Resource(
    method="POST",
    path="/api/chat",
    about="Answers a conversation. Without messages it loads the model, or unloads it with `keep_alive: 0`.",
    fields=(
        MODEL,
        Field(
            name="messages",
            treatment="heeded",
            note="Each with `role` (`system`, `user`, `assistant`, `tool`), and, as it needs them, `content` (text),"
            " `images` (base64 each), of the assistant `thinking` and `tool_calls` (`arguments` an object), of a tool"
            " `tool_name` or `name`, and `tool_call_id`: where that is missing, the oldest call of the tool is meant.",
            example=SAID,
            wrong="Hello",
        ),
        Field(
            name="tools",
            treatment="heeded",
            note="Calls come whole, each in an object of its own.",
            example=[WEATHER],
            wrong="weather",
        ),
        Field(
            name="functions", treatment="refused", note="OpenAI's older form of `tools`.", example=[WEATHER["function"]]
        ),
        THINK,
        FORM,
        *ALL_OPTIONS,
        STREAM,
        STAY,
        TRUNCATE,
        *LIKELIHOODS,
        SHIFT,
        DEBUG,
    ),
    body=(("model", "{chat}"), ("messages", SAID)),
)
GENERATE = Resource(
    method="POST",
    path="/api/generate",
    about="Answers a prompt, or goes on from it. Without one it loads the model, or unloads it with `keep_alive: 0`.",
    fields=(
        MODEL,
        Field(name="prompt", treatment="heeded", example="Hello", wrong=3),
        Field(
            name="suffix",
            treatment="heeded",
            note="What follows the answer, of models that were taught to fill holes; others refuse it.",
            example="The end.",
            wrong=3,
        ),
        Field(
            name="images",
            treatment="heeded",
            note="Base64 each; models without vision refuse them.",
            example=[],
            wrong="%",
        ),
        Field(name="system", treatment="heeded", note="Instead of the model's own.", example="Be kind.", wrong=3),
        Field(
            name="template",
            treatment="heeded",
            note="In Go's template language, instead of the model's own.",
            example="{{ .System }} {{ .Prompt }}",
            wrong="{{ .Prompt",
        ),
        Field(
            name="context",
            treatment="heeded",
            note="What an earlier answer of this server had there: the texts of the conversation, without pictures and"
            " thoughts. Token ids of an Ollama are refused.",
            example=[],
            wrong=[403, 407, 261],
        ),
        Field(
            name="raw",
            treatment="heeded",
            note="The prompt as it is; not beside `system`, `template`, `context`, `images` and `think`.",
            example=True,
            wrong="yes",
        ),
        THINK,
        FORM,
        *ALL_OPTIONS,
        STREAM,
        STAY,
        TRUNCATE,
        *LIKELIHOODS,
        *(Field(name=name, treatment="ignored", note=PAINTING, example=8) for name in ("width", "height", "steps")),
        SHIFT,
        DEBUG,
    ),
    body=(("model", "{chat}"), ("prompt", "Hello")),
)
EMBED = Resource(
    method="POST",
    path="/api/embed",
    about="Embeds texts, at length 1. Without any it loads the model, or unloads it with `keep_alive: 0`.",
    fields=(
        EMBEDDER,
        Field(name="input", treatment="heeded", note="A text, or a list of texts.", example=["Hello"], wrong=3),
        Field(
            name="truncate",
            treatment="heeded",
            note=f"Whether texts over the context may be cut. It is then reported. {LAST} {UNASKED}",
            example=True,
            wrong="yes",
        ),
        Field(
            name="dimensions",
            treatment="heeded",
            note="So many numbers of each, at length 1 again.",
            example=4,
            wrong="few",
        ),
        EMBEDDING_OPTIONS,
        STAY,
    ),
    body=(("model", "{embedding}"), ("input", "Hello")),
)
EMBEDDINGS = Resource(
    method="POST",
    path="/api/embeddings",
    about="Embeds one text: the older form of /api/embed. Here too at length 1, which Ollama leaves as it is.",
    fields=(
        EMBEDDER,
        Field(name="prompt", treatment="heeded", note="An empty one gives an empty vector.", example="Hello", wrong=3),
        EMBEDDING_OPTIONS,
        STAY,
    ),
    body=(("model", "{embedding}"), ("prompt", "Hello")),
)
RESOURCES = (CHAT, GENERATE, EMBED, EMBEDDINGS)
