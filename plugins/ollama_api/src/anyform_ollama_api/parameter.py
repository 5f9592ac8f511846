"""Parameters of a made model: Ollama's names, what they become here, and how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anyform.contract.errors import Invalid
from anyform.contract.facts import Settings
from anyform.dialect import Fields, Rule, read_generation
from anyform_ollama_api import options

PLAIN = (
    "temperature", "seed", "top_k", "top_p", "min_p", "typical_p", "repeat_last_n", "repeat_penalty",
    "presence_penalty", "frequency_penalty", "stop",
)  # fmt: skip
"""What the HTTP interface calls by the same name."""
LONGEST, CONTEXT = "num_predict", "num_ctx"
KNOWN = tuple(option.name for option in options.OPTIONS)
WIDTH = 30
"""Letters of a name where parameters are shown."""


def checked(given: Mapping[str, Any], where: str = "parameters.") -> dict[str, Any]:
    """*given* without what is null, `stop` as a list. Raises Invalid for what there is not, a wrong type or range."""
    said = {name: value for name, value in given.items() if value is not None}
    if isinstance(said.get("stop"), str):
        said["stop"] = [said["stop"]]
    for name in said:
        if name not in KNOWN:
            raise Invalid(f"unknown parameter '{name[:100]}'.", f"Known are {', '.join(sorted(KNOWN))}.", param=name)
    options.read(Fields({"options": said}))
    fields = Fields({name: value for name, value in said.items() if name in PLAIN}, where)
    read_generation(fields, max_tokens=None)
    Fields(said, where).integer(CONTEXT, low=1)
    return said


def request(said: Mapping[str, Any]) -> dict[str, Any]:
    """What requests that leave something out mean therefore, by the names of the HTTP interface."""
    made = {name: said[name] for name in PLAIN if name in said}
    if LONGEST in said:
        made["max_tokens"] = int(said[LONGEST]) if said[LONGEST] > 0 else None
    return made


def settings(said: Mapping[str, Any]) -> Settings:
    """How the model is loaded therefore."""
    return Settings(context=int(said[CONTEXT])) if CONTEXT in said else Settings()


def of(rule: Rule) -> dict[str, Any]:
    """What *rule* says, as parameters."""
    made = {name: rule.request[name] for name in PLAIN if rule.request.get(name) is not None}
    if isinstance(made.get("stop"), str):
        made["stop"] = [made["stop"]]
    longest = rule.request.get("max_completion_tokens", rule.request.get("max_tokens"))
    if longest is not None:
        made[LONGEST] = longest
    if rule.settings.context is not None:
        made[CONTEXT] = rule.settings.context
    return made


def lines(said: Mapping[str, Any]) -> str:
    """One line for each value, as `ollama show` has them."""
    return "\n".join(
        f"{name:<{WIDTH}} {_shown(one)}"
        for name in sorted(said)
        for one in (said[name] if isinstance(said[name], list | tuple) else [said[name]])
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
