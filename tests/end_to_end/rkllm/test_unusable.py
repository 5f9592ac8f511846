"""Where nothing can run, everything says why; and no variable makes a stand-in count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .house import House

pytestmark = pytest.mark.engine

TRIED = dict.fromkeys(("STAND_IN", "RKLLM_STAND_IN", "RKLLM_LIB", "ANYFORM_RKLLM_STAND_IN"), "true")
"""Variables that are no settings."""


def test_a_stand_in_counts_where_the_settings_file_says_so_alone(house: Callable[..., House]) -> None:
    plain = house(stand_in=False)
    with plain.serve(env=TRIED) as served:
        verdicts = served.http.get("/runtime/explain/chat").json()["verdicts"]
        [why] = [verdict["refusal"] for verdict in verdicts if verdict["backend"] == "rkllm"]
        answer = served.ask("Hi")
        option = served.post("/runtime/load/chat", stand_in=True)
    assert "stand-in" in why
    assert answer.status_code >= 400
    assert "stand-in" in answer.json()["error"]["message"]
    assert option.status_code == 403
    done = plain.run("run", "chat", "Hi", "--option", "stand_in=true", env=TRIED)
    assert done.returncode == 1
    assert "stand-in" in done.stderr
