"""Request bodies -> jobs: what is understood, and what is refused under which name."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyform.contract.errors import Fault, Invalid
from anyform.contract.jobs import (
    Call,
    Chat,
    Complete,
    Embed,
    Generation,
    Message,
    Picture,
    Rerank,
    Sampling,
    Sound,
    Text,
    Tool,
)
from anyform.http import chat, classification, completion, embedding, multimodal, rerank
from anyform.http.media import Media

LIMIT = 1000
USER = [{"role": "user", "content": "hi"}]
PNG = b64encode(b"\x89PNG....").decode()


def chatted(**fields: Any) -> Chat:
    (job,) = chat.read({"model": "m", "messages": USER, **fields}, Media(LIMIT)).jobs
    assert isinstance(job, Chat)
    return job


def completed(**fields: Any) -> tuple[Complete, ...]:
    return completion.read({"model": "m", "prompt": "p", **fields}).jobs  # type: ignore[return-value]


def test_the_least_chat() -> None:
    ask = chat.read({"model": "a/b:Q8_0", "messages": USER}, Media(LIMIT))
    assert ask.model == "a/b:Q8_0"
    assert ask.stream is False
    assert ask.jobs == (Chat(messages=(Message(role="user", parts=(Text(text="hi"),)),)),)


def test_every_sampling_field_arrives_under_openai_and_llama_cpp_names() -> None:
    job = chatted(
        temperature=0.5,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        typical_p=0.95,
        repeat_penalty=1.1,
        repeat_last_n=64,
        presence_penalty=-2,
        frequency_penalty=2,
        logit_bias={"50256": -100, "7": 1.5},
        seed=42,
    )
    assert job.generation.sampling == Sampling(
        temperature=0.5,
        top_k=40,
        top_p=0.9,
        min_p=0.05,
        typical_p=0.95,
        repeat_penalty=1.1,
        repeat_last_n=64,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        logit_bias={50256: -100.0, 7: 1.5},
        seed=42,
    )


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("repetition_penalty", 1.2, "repeat_penalty", 1.2),
        ("typ_p", 0.5, "typical_p", 0.5),
        ("seed", -1, "seed", None),
        ("temperature", 0, "temperature", 0.0),
        ("top_k", -1, "top_k", -1),
        ("logit_bias", {"3": 0}, "logit_bias", {3: 0.0}),
    ],
)
def test_other_spellings_of_sampling(field: str, value: object, attribute: str, expected: object) -> None:
    assert getattr(chatted(**{field: value}).generation.sampling, attribute) == expected


@pytest.mark.parametrize(
    ("fields", "attribute", "expected"),
    [
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_completion_tokens": 6}, "max_tokens", 6),
        ({"max_completion_tokens": 6, "max_tokens": 5}, "max_tokens", 6),
        ({}, "max_tokens", None),
        ({"stop": "END"}, "stop", ("END",)),
        ({"stop": ["a", "b", ""]}, "stop", ("a", "b")),
        ({"stop": None}, "stop", ()),
        ({"n": 128}, "n", 128),
        ({"n": 2, "best_of": 2}, "n", 2),
        ({"logprobs": True}, "logprobs", True),
        ({"logprobs": True, "top_logprobs": 20}, "top_logprobs", 20),
        ({"logprobs": False, "top_logprobs": 0}, "logprobs", False),
        ({"grammar": 'root ::= "a"'}, "grammar", 'root ::= "a"'),
        ({"response_format": {"type": "text"}}, "schema", None),
        ({"response_format": {"type": "json_object"}}, "schema", {"type": "object"}),
        ({"response_format": {"type": "json_object", "schema": {"type": "array"}}}, "schema", {"type": "array"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1]}}}},
            "schema",
            {"enum": [1]},
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "schema", {}),
        ({"json_schema": {"type": "string"}}, "schema", {"type": "string"}),
        ({"ignore_eos": True}, "ignore_eos", True),
        ({"n_ctx": 4096}, "context", 4096),
        ({"num_ctx": 2048}, "context", 2048),
    ],
)
def test_generation_fields(fields: dict[str, Any], attribute: str, expected: object) -> None:
    assert getattr(chatted(**fields).generation, attribute) == expected


@pytest.mark.parametrize(
    ("fields", "thinking", "options"),
    [
        ({}, None, {}),
        ({"reasoning_effort": "none"}, False, {}),
        ({"reasoning_effort": "high"}, True, {"reasoning_effort": "high"}),
        ({"enable_thinking": False}, False, {}),
        ({"chat_template_kwargs": {"enable_thinking": True, "x": 1}}, True, {"x": 1}),
        ({"chat_template_kwargs": {"thinking": False}}, False, {}),
        ({"enable_thinking": True, "reasoning_effort": "none"}, True, {}),
        ({"chat_template": "{{ x }}"}, None, {"chat_template": "{{ x }}"}),
        ({"chat_template": "", "chat_template_kwargs": {"x": 1}}, None, {"x": 1}),
    ],
)
def test_thinking(fields: dict[str, Any], thinking: bool | None, options: dict[str, Any]) -> None:
    job = chatted(**fields)
    assert (job.thinking, dict(job.template_options)) == (thinking, options)


def test_a_whole_conversation() -> None:
    job = chatted(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "now?"}],
                "name": "Bo",
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": {"at": 2}}},
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        ]
    )
    assert job.messages == (
        Message(role="system", parts=(Text(text="Be brief."),)),
        Message(role="user", parts=(Text(text="What "), Text(text="now?")), name="Bo"),
        Message(
            role="assistant",
            reasoning="Hm.",
            calls=(
                Call(id="c1", name="look", arguments='{"at": 1}'),
                Call(id="c2", name="look", arguments='{"at": 2}'),
            ),
        ),
        Message(role="tool", parts=(Text(text="a cat"),), call_id="c1"),
        Message(role="assistant"),
        Message(role="assistant", parts=(Text(text="No."),)),
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            Picture(data=b"\x89PNG....", media_type="image/png"),
        ),
        ({"type": "image_url", "image_url": f"data:;base64,{PNG}"}, Picture(data=b"\x89PNG....")),
        (
            {"type": "image_url", "image_url": {"url": "DATA:Image/JPEG;x=y;base64,-_-_"}},
            Picture(data=b"\xfb\xff\xbf", media_type="image/jpeg"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            Sound(data=b"\0\0\0", media_type="audio/wav"),
        ),
    ],
)
def test_media_come_as_data(part: dict[str, Any], expected: object) -> None:
    job = chatted(messages=[{"role": "user", "content": [part]}])
    assert job.messages[0].parts == (expected,)


def _image(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.png",
        "https://example.com/x.png",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "ftp://h/x",
    ],
)
def test_no_picture_is_ever_fetched(url: str) -> None:
    with pytest.raises(Invalid, match="Send it as a data: URL") as caught:
        chatted(**_image(url))
    assert caught.value.details["param"] == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("data:image/png,abc", "not base64"),
        ("data:image/png;base64", "not base64"),
        ("data:image/png;base64,@@@@", "it is not base64"),
        ("data:image/png;base64,A", "it is not base64"),
        ("data:image/png;base64,", "it is empty"),
        ("data:image/png;base64," + "A" * 1400, "more than 1000 bytes"),
    ],
)
def test_a_broken_or_large_picture_is_refused(url: str, words: str) -> None:
    with pytest.raises(Fault, match=words):
        chatted(**_image(url))


def test_tools_and_tool_choice() -> None:
    function = {"name": "look", "description": "d", "parameters": {"type": "object"}, "strict": True}
    job = chatted(
        tools=[{"type": "function", "function": function}, {"function": {"name": "go"}}],
        tool_choice={"type": "function", "function": {"name": "go"}},
        parallel_tool_calls=False,
    )
    assert job.tools == (
        Tool(name="look", description="d", parameters={"type": "object"}, strict=True),
        Tool(name="go"),
    )
    assert (job.tool_choice, job.parallel_calls) == ("go", False)
    assert chatted(tool_choice="none").tool_choice == "none"


UNDERSTOOD_ELSEWHERE = {
    "metadata": {"a": "b"},
    "store": True,
    "user": "u",
    "service_tier": "auto",
    "nonsense": [1],
    "parallel_tool_calls": None,
    "temperature": None,
    "tools": None,
    "functions": None,
    "stream_options": None,
}


def test_unknown_and_null_fields_are_ignored() -> None:
    assert chatted(**UNDERSTOOD_ELSEWHERE) == chatted()


CHAT_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
        "messages[0].tool_calls[0].function",
    ),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_p": -1}, "top_p"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"logit_bias": {"a": 1}}, "logit_bias.a"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 2, "best_of": 3}, "best_of"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"logprobs": 5}, "logprobs"),
    ({"top_logprobs": 5}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": 1}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": "json"}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
        "response_format.json_schema.schema",
    ),
    ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name"),
    ({"tools": [{"function": {"name": "x", "parameters": []}}]}, "tools[0].function.parameters"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": 1}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
    ({"functions": [{"name": "x"}]}, "functions"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"chat_template_kwargs": []}, "chat_template_kwargs"),
    ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs.chat_template"),
    ({"chat_template": 5}, "chat_template"),
    ({"chat_template": "x" * 65_537}, "chat_template"),
    ({"n_ctx": 0}, "n_ctx"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**64}, "seed"),
]


@pytest.mark.parametrize(("fields", "param"), CHAT_REFUSALS, ids=[f"{f}"[:60] for f, _ in CHAT_REFUSALS])
def test_chat_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        chatted(**fields)
    assert caught.value.details["param"] == param
    assert caught.value.category.value in ("invalid", "unsupported")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "model messages prompt input documents query stream stream_options tools tool_choice response_format logit_bias "
    "stop n best_of temperature logprobs top_logprobs max_tokens seed grammar chat_template_kwargs suffix echo "
    "dimensions encoding_format top_n image images image_url labels candidate_labels multi_label question max_length"
)
READS = (
    lambda body: chat.read(body, Media(LIMIT)),
    completion.read,
    lambda body: embedding.read(body, Media(LIMIT)),
    rerank.read,
    lambda body: classification.read(body, Media(LIMIT)),
    lambda body: classification.read_pictures(body, Media(LIMIT)),
    lambda body: classification.read_clip(body, Media(LIMIT)),
    lambda body: multimodal.read_caption(body, Media(LIMIT)),
    lambda body: multimodal.read_answer(body, Media(LIMIT)),
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS.split()), JSON, max_size=6))
def test_any_body_is_an_ask_or_a_fault_that_names_a_field(body: dict[str, Any]) -> None:
    for read in READS:
        param = _refused(read, {"model": "m", "messages": USER, "prompt": "p", "input": "i", **body})
        assert param is None or isinstance(param, str)


def _refused(read: Any, body: dict[str, Any]) -> object:
    """What a fault says is to blame; None when the body was understood."""
    try:
        assert read(body).jobs
    except Fault as fault:
        return fault.details["param"]
    return None


def test_the_least_completion() -> None:
    assert completed() == (Complete(prompt="p", generation=Generation(max_tokens=16)),)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [""]),
        ("text", ["text"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        (["a", [1]], ["a", (1,)]),
    ],
)
def test_prompts(prompt: object, expected: list[object]) -> None:
    assert [job.prompt for job in completed(prompt=prompt)] == expected


def test_a_completion_that_says_no_number_has_as_many_tokens_as_its_dialect_has_it() -> None:
    body = {"model": "m", "prompt": "p"}
    for usual in (7, None):
        (job,) = completion.read(body, usual).jobs
        assert isinstance(job, Complete)
        assert job.generation.max_tokens == usual
    (job,) = completion.read({**body, "max_tokens": 3}, None).jobs
    assert isinstance(job, Complete)
    assert job.generation.max_tokens == 3


def test_completion_fields() -> None:
    (job,) = completed(suffix="s", echo=True, logprobs=3, max_tokens=0, n=2)
    assert (job.suffix, job.echo) == ("s", True)
    assert job.generation == Generation(logprobs=True, top_logprobs=3, max_tokens=0, n=2)
    (job,) = completed(logprobs=0)
    assert (job.generation.logprobs, job.generation.top_logprobs) == (True, 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt[0]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [[True]]}, "prompt[0][0]"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"echo": "yes"}, "echo"),
    ],
)
def test_completion_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        completed(**fields)
    assert caught.value.details["param"] == param


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        (["a"] * 2048, ("a",) * 2048),
        ({"image": PNG}, (Picture(data=b"\x89PNG...."),)),
        (
            [{"text": "a"}, {"image": f"data:image/png;base64,{PNG}"}],
            ("a", Picture(data=b"\x89PNG....", media_type="image/png")),
        ),
        (
            [{"type": "image_url", "image_url": {"url": f"data:;base64,{PNG}"}}, [1], "a"],
            (Picture(data=b"\x89PNG...."), (1,), "a"),
        ),
        (f"data:image/png;base64,{PNG}", (Picture(data=b"\x89PNG....", media_type="image/png"),)),
        ("data: image", ("data: image",)),
    ],
)
def test_embedding_inputs(value: object, expected: object) -> None:
    ask = embedding.read({"model": "m", "input": value, "dimensions": 4}, Media(LIMIT))
    assert ask.jobs == (Embed(inputs=expected, dimensions=4),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": 3}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {}}, "input.image"),
        ({"input": [{"text": ""}]}, "input[0].text"),
        ({"input": [{"text": "a", "image": PNG}]}, "input[0]"),
        ({"input": [{"image": "@"}]}, "input[0].image"),
        ({"input": [{"image": "http://127.0.0.1/"}]}, "input[0].image"),
        ({"input": [{"image": PNG}] * 257}, "input[256].image"),
        ({"input": ["a", True]}, "input[1]"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"model": None}, "model"),
    ],
)
def test_embedding_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        embedding.read({"model": "m", "input": "a", **fields}, Media(LIMIT))
    assert caught.value.details["param"] == param


def test_rerank_documents_are_texts_or_objects() -> None:
    ask = rerank.read({"model": "m", "query": "q", "documents": ["a", {"text": "b"}]})
    assert ask.jobs == (Rerank(query="q", documents=("a", "b")),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": None}, "query"),
        ({"documents": None}, "documents"),
        ({"documents": []}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"top_n": 0}, "top_n"),
    ],
)
def test_rerank_refuses(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Fault) as caught:
        rerank.read({"model": "m", "query": "q", "documents": ["a"], **fields})
    assert caught.value.details["param"] == param
