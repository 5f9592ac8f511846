"""OpenAI's resources that are not here say so; unknown ones stay unknown."""

from __future__ import annotations

import pytest

from anyform.http import fault
from anyform.http.absent import ABSENT, missed


@pytest.mark.parametrize("path", ABSENT)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize("below", ["", "/", "/x", "/x/cancel"])
def test_it_and_all_below_it(path: str, method: str, below: str) -> None:
    refusal = missed(method, path + below)
    assert refusal is not None
    assert fault.status(refusal) == 501
    told = fault.body(refusal)["error"]
    assert (told["code"], told["type"], told["param"]) == ("not_implemented", "server_error", None)
    assert f"{method} {path}" in told["message"]
    assert fault.headers(refusal) == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/filesystem", "/v1/unknown", "/files", "/v1/chat", "/v1/models/files", "/v2/files", "/v1/responses/x"],
)
def test_others_are_unknown(path: str) -> None:
    assert missed("POST", path) is None


def test_kept_chats_are_absent_and_making_them_is_not() -> None:
    assert missed("GET", "/v1/chat/completions") is not None
    assert missed("POST", "/v1/chat/completions") is None
    for method in ("GET", "POST", "DELETE"):
        refusal = missed(method, "/v1/chat/completions/chatcmpl-1/messages")
        assert refusal is not None
        assert "/v1/responses" in refusal.hint
