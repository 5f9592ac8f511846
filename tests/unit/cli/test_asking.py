"""What a rule of the settings says of requests, under what the command line says."""

from __future__ import annotations

from typing import Any

from anyform.cli.asking import completed
from anyform.contract.jobs import Generation, Sampling

RULE: dict[str, Any] = {
    "temperature": 0.5,
    "top_k": 7,
    "max_tokens": 9,
    "stop": ["x"],
    "n": 3,
    "grammar": 'root ::= "a"',
    "steps": 20,
}


def test_what_the_command_line_leaves_out_comes_from_the_rule() -> None:
    sampling = Sampling(temperature=0.5, top_k=7)
    wanted = Generation(sampling=sampling, max_tokens=9, stop=("x",), grammar='root ::= "a"')
    assert completed(Generation(), RULE) == wanted
    assert completed(Generation(), {}) == Generation()


def test_what_the_command_line_says_stays() -> None:
    asked = Generation(sampling=Sampling(temperature=0.0), max_tokens=2, stop=("y",), schema={"type": "object"})
    found = completed(asked, RULE)
    assert (found.sampling.temperature, found.sampling.top_k, found.max_tokens, found.stop) == (0.0, 7, 2, ("y",))
    assert (found.schema, found.grammar) == ({"type": "object"}, "")
