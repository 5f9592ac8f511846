"""What a request leaves out and the model's rule says: a system prompt, sampling; and which model it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from anyform.contract.errors import Fault, ModelNotFound
from anyform.http import able
from anyform.http.fields import Missing
from anyform.kernel.rule import Rule
from anyform.sources.library import recipes_of

if TYPE_CHECKING:
    from anyform.http.bridge import Threads
    from anyform.kernel.runtime import Runtime

KNOWN = 10_000
"""Spellings of model names whose rules are remembered."""
SYSTEM = ("system", "developer")
SAME = (
    ("size", "width", "height"),
    ("num_inference_steps", "steps", "quality"),
    ("guidance_scale", "guidance"),
    ("output_format", "output_compression"),
)
"""Fields that say one thing: who says one of them means none of the others that a rule has."""
OPEN = ("auto", "standard")
"""In these, words of OpenAI's that leave it to the server."""


class Defaults:
    """The rules of one runtime, by the names that requests use."""

    def __init__(self, runtime: Runtime, threads: Threads, model: str = "") -> None:
        """*model*: for requests that name none; empty: they are refused."""
        self._runtime, self._threads, self._model = runtime, threads, model
        self._rules: dict[str, Rule] = {}
        self._recipes = recipes_of(runtime.library)
        self._stamp = ""
        """Of the recipes, as they were when rules were last looked up."""

    async def over(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """*body*, completed. A name that means nothing is left for the reader of the body to refuse."""
        return completed(*await self.beside(body))

    async def beside(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], Rule]:
        """*body* with its model's name, and that model's rule; an empty one where the name means nothing."""
        model = body.get("model")
        if model in (None, "") and self._model:
            model = self._model
        if not isinstance(model, str):
            return dict(body), Rule()
        rule = self._rules.get(model)
        if rule is None or self._is_stale():
            rule = await self._threads.quick(self._rule, model)
        return {**body, "model": model}, rule

    def _is_stale(self) -> bool:
        """Whether another process may have changed recipes; looking a name up tells then. One call of the system."""
        return self._recipes is not None and (not self._stamp or self._stamp != self._recipes.stamp())

    def _rule(self, model: str) -> Rule:
        """Of a name that means nothing, which may change, an empty one; others are remembered."""
        rules, stamp = self._rules, self._recipes.stamp() if self._recipes is not None else ""
        try:
            rule = self._runtime.rule(self._runtime.find(model))
        except Fault:
            return Rule()
        self._stamp = stamp
        if len(rules) < KNOWN:
            rules[model] = rule
        return rule

    def forget(self) -> None:
        """Names may mean other models now. Who reads a rule just now puts it where nobody looks any more."""
        self._rules = {}


def usual(runtime: Runtime, default: str, task: str) -> str:
    """The model of who names none: *default*, if it does *task*, or the only one that does. Raises Missing."""
    names = [entry.name for entry, _ in able.doing(runtime, task)]
    if default:
        with suppress(ModelNotFound):
            if runtime.find(default).name in names:
                return default
    if len(names) == 1:
        return names[0]
    shown = ", ".join(names[: able.SHOWN]) + (", ..." if len(names) > able.SHOWN else "")
    verb, _, what = able.VERBS.get(task, task).partition(" ")
    some, none = f"Models here that {verb} {what}".rstrip(), f"No model here {verb}s {what}".rstrip()
    hint = f"{some}: {shown}." if names else f"{none}."
    raise Missing("Missing required parameter: 'model'.", hint, param="model")


def completed(body: dict[str, Any], rule: Rule) -> dict[str, Any]:
    """*body* with what the rule says where it says nothing itself; null counts as nothing."""
    said = {name for name, value in body.items() if value is not None}
    for names in SAME:
        there = {name for name in names if name in said and body[name] not in OPEN}
        said = said.difference(names) | set(names if there else ())
    full = {**body, **{name: value for name, value in rule.request.items() if name not in said}}
    messages = body.get("messages")
    if isinstance(messages, list) and (rule.system or rule.messages):
        full["messages"] = begun(messages, rule)
    return full


def begun(messages: Sequence[Any], rule: Rule) -> list[Any]:
    """*messages* with the rule's own before them; its system prompt only where they have none. Those of the system that
    they begin with stay at the beginning, as templates want it.
    """
    count = next((at for at, message in enumerate(messages) if not _is_system(message)), len(messages))
    first, rest = messages[:count], messages[count:]
    if rule.system and not any(_is_system(message) for message in messages):
        first = [{"role": "system", "content": rule.system}]
    return [*first, *rule.messages, *rest]


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in SYSTEM
