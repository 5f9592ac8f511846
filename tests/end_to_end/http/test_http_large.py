"""Sounds as large as OpenAI's clients may send them, and larger ones: those are a 413 that the client can read."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from anyform.http.config import HttpConfig

LIMIT = HttpConfig().media_bytes


def sound(size_bytes: int) -> bytes:
    """One long word, to echo's ears."""
    return b"a" * size_bytes


def test_openais_own_limit_is_taken_in_a_form_and_as_base64(client: OpenAI, http: httpx.Client) -> None:
    assert LIMIT >= 25_000_000
    whole = sound(LIMIT)
    assert len(client.audio.transcriptions.create(model="hearer", file=("a.wav", whole)).text) == LIMIT
    body = {"model": "hearer", "file": b64encode(whole).decode()}
    answer = http.post("/v1/audio/transcriptions", json=body)
    assert (answer.status_code, len(answer.json()["text"])) == (200, LIMIT)


@pytest.mark.parametrize("size_bytes", [LIMIT + 1, 100_000_000])
def test_more_is_a_413_and_no_lost_connection(client: OpenAI, size_bytes: int) -> None:
    once: Any = client.with_options(max_retries=0).audio.transcriptions
    with pytest.raises(openai.APIStatusError) as refused:
        once.create(model="hearer", file=("a.wav", sound(size_bytes)))
    assert (refused.value.status_code, refused.value.code) == (413, "too_large")
    assert "more than" in refused.value.message or "larger than" in refused.value.message
    assert client.audio.transcriptions.create(model="hearer", file=("a.wav", b"still here")).text == "still here"
