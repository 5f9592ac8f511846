"""Answers that must follow a JSON schema: whatever the engine and however it is sampled, they parse and validate."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
from openai import BadRequestError, OpenAI
from tests.end_to_end.engines.schema import SCHEMAS

pytestmark = pytest.mark.engine


def filled(client: OpenAI, name: str, **fields: Any) -> Any:
    """The answer's choice."""
    question, schema = SCHEMAS[name]
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    messages: Any = [{"role": "user", "content": question}]
    made = client.chat.completions.create(
        model="sample", messages=messages, response_format=form, max_tokens=400, **fields
    )
    return made.choices[0]


def test_there_are_fifty() -> None:
    assert len(SCHEMAS) == 50
    for _, schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 1.5, "seed": 7}], ids=["greedy", "hot"])
def test_every_answer_parses_and_validates(client: OpenAI, fields: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = threads.map(lambda name: (name, filled(client, name, **fields)), SCHEMAS)
        wrong = {name: problem for name, choice in made if (problem := problem_of(name, choice))}
    assert not wrong, "\n".join(f"{name}: {problem}" for name, problem in wrong.items())


def problem_of(name: str, choice: Any) -> str:
    """What is wrong with an answer; empty: nothing."""
    said = choice.message.content
    if choice.finish_reason != "stop":
        return f"{choice.finish_reason}: {said}"
    try:
        jsonschema.Draft202012Validator(SCHEMAS[name][1]).validate(json.loads(said))
    except (ValueError, jsonschema.ValidationError) as error:
        return f"{error}: {said}"
    return ""


def test_what_was_said_fills_the_schema(client: OpenAI) -> None:
    said = json.loads(filled(client, "person", temperature=0).message.content)
    assert said == {"name": "Tara", "age": 54, "city": "Shanghai"}
    assert json.loads(filled(client, "order", temperature=0).message.content) == {
        "item": "rope", "quantity": 24, "customer": "Peter",
    }  # fmt: skip


@pytest.mark.parametrize("schema", [{"type": "strange"}, {"$ref": "#/$defs/absent"}, {"pattern": "("}, {"anyOf": 3}])
def test_a_schema_that_cannot_be_compiled_is_refused(client: OpenAI, schema: dict[str, Any]) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    with pytest.raises(BadRequestError) as refused:
        client.chat.completions.create(
            model="sample", messages=[{"role": "user", "content": "x"}], response_format=form, max_tokens=5
        )
    assert "schema" in refused.value.message
