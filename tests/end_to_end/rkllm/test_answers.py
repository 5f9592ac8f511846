"""What OpenAI's client gets of models on the stand-in library, ABI 1.3; the answers tell what the library was given."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest

from anyform.testing.picture import png
from anyform.testing.rkllm import MARKERS

from .house import LIMIT_S, Served, user

pytestmark = pytest.mark.engine

WORDS = "Grüße, 日本語, 👩‍👩‍👧 und ż."
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


def rendered(*turns: tuple[str, str]) -> str:
    """A conversation in the models' chat template, up to where the answer begins."""
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"


def tokens(text: str) -> str:
    """The tokens of the models' tokenizer, as the stand-in writes them: bytes, and MARKERS behind them."""
    numbers: list[int] = []
    while text:
        mark = next((mark for mark in MARKERS if text.startswith(mark)), "")
        numbers += [256 + MARKERS.index(mark)] if mark else text[0].encode()
        text = text[len(mark) or 1 :]
    return " ".join(map(str, numbers))


def test_what_it_runs_on_is_said(served: Served) -> None:
    names = [model.id for model in served.openai.models.list()]
    assert {"chat", "other", "bare", "far"} <= set(names)
    served.said("!say hello")
    assert "stand-in" in served.loaded()["runs_on"]
    [first, *_] = served.http.get("/runtime/explain/chat").json()["verdicts"]
    assert first["backend"] == "rkllm"
    assert "stand-in" in str(first["reasons"])


def test_what_is_streamed_is_what_comes_whole(served: Served) -> None:
    messages: Any = [user(f"!say {WORDS}")]
    whole = served.openai.chat.completions.create(model="chat", messages=messages)
    assert whole.choices[0].message.content == WORDS
    assert whole.choices[0].finish_reason == "stop"
    stream = served.openai.chat.completions.create(
        model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == WORDS
    assert not any("\ufffd" in text for text in texts)
    assert chunks[-1].usage == whole.usage


def test_a_conversation_is_put_into_the_models_own_template(served: Served) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "What did I say?")]
    messages: Any = [{"role": role, "content": text} for role, text in turns]
    told = served.openai.chat.completions.create(model="chat", messages=messages)
    assert f"|{tokens(rendered(*turns))}|" in str(told.choices[0].message.content)
    assert told.usage
    assert told.usage.prompt_tokens == len(tokens(rendered(*turns)).split())


def test_nothing_of_one_request_is_in_the_next(served: Served) -> None:
    first = served.said("What is that?")
    served.said("My name is Karl.")
    assert served.said("What is that?") == first
    assert "h=0" in first


def test_sampling_reaches_the_library(served: Served) -> None:
    told = served.said("Hi", temperature=0.31, top_p=0.62, extra={"x": 1}, top_k=7)
    assert "k=7 p=0.62 t=0.31" in told


def test_max_tokens_ends_it(served: Served) -> None:
    answer = served.ask("!count 100", max_tokens=5).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert "1 2 3 4".startswith(answer["choices"][0]["message"]["content"].strip()[:5])


def test_most_tokens_that_are_more_than_the_context_leaves(served: Served) -> None:
    for model in ("chat", "bare"):
        answer = served.ask("!count 3", model, max_tokens=4096).json()
        assert answer["choices"][0]["message"]["content"].strip() == "1 2 3"
        assert answer["choices"][0]["finish_reason"] == "stop"


def test_stop_strings_end_it_and_are_left_out(served: Served) -> None:
    answer = served.ask("!count 100000", stop=[" 7"]).json()
    assert answer["choices"][0]["message"]["content"] == "1 2 3 4 5 6"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_thinking_is_told_apart(served: Served) -> None:
    message = served.ask("!say <think>I must add.</think>4").json()["choices"][0]["message"]
    assert message["reasoning_content"] == "I must add."
    assert message["content"].strip() == "4"


def test_a_tool_is_called_and_its_answer_read(served: Served) -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    messages: list[Any] = [user(f"!say {call}")]
    asked = served.openai.chat.completions.create(model="chat", messages=messages, tools=[ADD])  # type: ignore[list-item]
    assert asked.choices[0].finish_reason == "tool_calls"
    [made] = asked.choices[0].message.tool_calls or []
    assert made.type == "function"
    assert (made.function.name, json.loads(made.function.arguments)) == ("add", {"a": 1, "b": 2})
    messages += [
        asked.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": made.id, "content": "3"},
        user("!say three"),
    ]
    told = served.openai.chat.completions.create(model="chat", messages=messages, tools=[ADD])  # type: ignore[list-item]
    assert told.choices[0].message.content == "three"


def test_a_model_without_a_template_is_asked_by_the_librarys(served: Served) -> None:
    assert served.said(f"!say {WORDS}", "bare") == WORDS
    first: list[Any] = [user("Hi"), {"role": "assistant", "content": served.said("Hi", "bare")}]
    assert first[1]["content"].startswith("user|0|prompt|Hi|")
    goes_on = served.post("/v1/chat/completions", model="bare", messages=[*first, user("!recall")]).json()
    assert goes_on["choices"][0]["message"]["content"] == "Hi"  # the library's history holds it
    assert "remarks" not in goes_on
    served.said("Something else", "bare")
    retold = served.post("/v1/chat/completions", model="bare", messages=[*first, user("And?")]).json()
    assert "User: Hi" in retold["choices"][0]["message"]["content"]
    assert "one text" in retold["remarks"][0]


def test_what_the_librarys_template_cannot_do_is_refused_or_goes_to_the_library(served: Served) -> None:
    """It has functions of its own for tools, and no way round its template for raw text."""
    told = served.said("Hi", "bare", tools=[ADD])
    assert "~tool_response|" in told
    assert '"name": "add"' in told
    for path, asked in (("completions", {"prompt": "Hi"}), ("embeddings", {"input": "Hi"})):
        refused = served.post(f"/v1/{path}", model="bare", **asked)
        assert refused.status_code == 400
        assert "bare does chat" in refused.json()["error"]["message"]


def test_what_no_library_can_is_refused_or_remarked(served: Served) -> None:
    refused = served.ask("Hi", response_format={"type": "json_object"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format")
    [remark] = served.ask("Hi", seed=7, min_p=0.1).json()["remarks"]
    assert "seed" in remark
    assert "min_p" in remark


def test_a_raw_completion(served: Served) -> None:
    told = served.openai.completions.create(model="chat", prompt="!count 3", max_tokens=50)
    assert told.choices[0].text.strip() == "1 2 3"
    chunks = served.openai.completions.create(model="chat", prompt="!count 3", max_tokens=50, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == told.choices[0].text


def test_embeddings(served: Served) -> None:
    made = served.openai.embeddings.create(model="chat", input=["a boat", "the sea", "a boat"], encoding_format="float")
    one, other, same = (item.embedding for item in made.data)
    assert one == same != other
    assert len(one) == 8
    assert sum(number * number for number in one) == pytest.approx(1)
    assert served.openai.embeddings.create(model="chat", input="a boat").data[0].embedding == pytest.approx(one)
    assert len(served.openai.embeddings.create(model="chat", input="a boat", dimensions=4).data[0].embedding) == 4


def test_what_is_over_the_context_is_refused_before_anything_runs(served: Served) -> None:
    answer = served.ask("word " * 5000)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    streamed = served.ask("word " * 5000, stream=True)
    assert streamed.status_code == 400


def shown(served: Served, seed: int, model: str = "sees") -> httpx.Response:
    """What is said of a picture."""
    url = f"data:image/png;base64,{b64encode(png(8, 8, seed)).decode()}"
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return served.post("/v1/chat/completions", model=model, messages=[{"role": "user", "content": parts}])


def test_a_picture_is_encoded_and_reaches_the_library(served: Served) -> None:
    pytest.importorskip("onnxruntime")
    answers = [shown(served, seed) for seed in (1, 2, 1)]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    one, other, again = (answer.json()["choices"][0]["message"]["content"] for answer in answers)
    assert "|img=1*4 8x8 " in one
    assert one == again != other


def test_a_picture_for_a_model_that_sees_none_is_refused(served: Served) -> None:
    answer = shown(served, 1, "chat")
    assert answer.status_code == 400, answer.text
    assert "reads no pictures" in answer.json()["error"]["message"]


def test_options_of_a_load(served: Served) -> None:
    answer = served.post("/runtime/load/other", no_such_option=1)
    assert answer.status_code == 400, answer.text
    assert "no_such_option" in answer.json()["error"]["message"]
    local = served.post("/runtime/load/other", library="/etc/passwd")
    assert local.status_code == 403, local.text


def test_each_model_has_a_process_and_a_domain_of_its_own_until_it_is_unloaded(served: Served) -> None:
    served.said("!say one")
    served.said("!say two", "other")
    one, two = served.loaded(), served.loaded("other")
    assert one["pid"] != two["pid"]
    assert served.domain(one["pid"]) != served.domain(two["pid"])
    assert served.http.post("/runtime/unload/other", timeout=LIMIT_S).status_code == 200
    assert [
        model["model"] for model in served.http.get("/runtime/status").json()["models"] if model["model"] == "other"
    ] == []
    assert served.said("!say still here") == "still here"
    assert served.loaded()["pid"] == one["pid"]


def test_a_model_of_another_chip_is_refused_with_the_reason(served: Served) -> None:
    for answer in (served.ask("Hi", "far"), served.post("/runtime/load/far")):
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["code"] == "rkllm.not_for_this_board"
        assert "is made for RK3576, and this is RK3588: its library refuses it." in error["message"]
        assert "sound" not in error["message"]
    assert "far" not in [model["model"] for model in served.http.get("/runtime/status").json()["models"]]
