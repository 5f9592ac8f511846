"""The three older ABIs, in short: the same over HTTP, and what they cannot do is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from anyform_rkllm.layout import Era

from .house import Served

pytestmark = pytest.mark.engine

WORDS = "Grüße, 日本語 und 👩‍👩‍👧."
SAMPLED = ("temperature", "top_p", "top_k")


@pytest.fixture(scope="module", params=[Era.V121, Era.V120, Era.V11], ids=lambda era: era.name)
def served(request: pytest.FixtureRequest, serve: Callable[..., Served]) -> Served:
    return serve(request.param)


def test_an_older_library_answers_and_what_it_cannot_is_said(served: Served) -> None:
    messages: Any = [{"role": "user", "content": f"!say {WORDS}"}]
    whole = served.openai.chat.completions.create(model="chat", messages=messages)
    assert whole.choices[0].message.content == WORDS
    chunks = served.openai.chat.completions.create(model="chat", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == WORDS
    assert served.said(f"!say {WORDS}", "bare") == WORDS
    told = served.ask("Hi", temperature=0.31, top_p=0.62, top_k=7).json()
    assert "k=40 p=0.80 t=0.70" in told["choices"][0]["message"]["content"]
    [remark] = [text for text in told["remarks"] if "temperature" in text]
    assert all(name in remark for name in SAMPLED)
    limited = served.ask("!count 100", max_tokens=3).json()
    assert limited["choices"][0]["finish_reason"] == "length"
    vector = served.openai.embeddings.create(model="chat", input="a boat", encoding_format="float").data[0].embedding
    assert sum(number * number for number in vector) == pytest.approx(1)


def test_an_older_library_lets_go_fails_and_dies_the_same_way(served: Served) -> None:
    served.said("!say hello")
    pid = served.loaded()["pid"]
    with served.stream("!slow 25 !count 20000") as answer:
        next(answer)
    assert served.ask("!error").status_code >= 500
    assert served.said("!say next") == "next"
    assert served.loaded()["pid"] == pid
    assert served.ask("!crash").status_code >= 500
    assert served.said("!say again") == "again"
    assert served.loaded()["pid"] != pid
