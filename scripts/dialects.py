"""Writes docs/dialects.md from the tables of all dialects: python scripts/dialects.py."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from anyform.dialect.table import Field, Resource

PAGE = Path(__file__).parents[1] / "docs" / "dialects.md"
TABLES = {
    "OpenAI": "anyform.dialect.openai",
    "Ollama": "anyform_ollama_api.table",
    "LM Studio": "anyform_lmstudio_api.table",
    "Anthropic": "anyform_anthropic_api.table",
}
"""Where each dialect's RESOURCES are."""
INTRODUCTION = """# What each dialect takes

Written by `scripts/dialects.py` from the tables that a test walks over HTTP: each field is sent, and each that the code
looks at is in its table.

- **heeded**: it does what its own documentation says; the note says where it does otherwise.
- **ignored**: it is taken and changes nothing.
- **refused**: a request with it is answered 4xx, and the answer names it, since to ignore it would change what the
  answer means.

Fields that are in no table are not looked at. `options.seed` is the field `seed` in `options`, `messages[].images` the
field `images` of each message, `?after` a parameter of the query.
"""


def page() -> str:
    """All of it."""
    parts = [INTRODUCTION]
    for title, module in TABLES.items():
        parts.append(f"\n## {title}\n")
        for resource in import_module(module).RESOURCES:
            parts.append("\n" + "\n".join(_resource(resource)) + "\n")
    return "".join(parts)


def _resource(resource: Resource) -> Iterator[str]:
    yield f"### `{resource.method} {resource.path}`"
    yield ""
    yield resource.about if resource.about.endswith(".") else f"{resource.about}."
    if resource.fields:
        yield ""
        yield "| field | | |"
        yield "|---|---|---|"
        yield from map(_field, resource.fields)
    if resource.like:
        yield ""
        yield f"What `{resource.like}` takes besides is taken here too."


def _field(field: Field) -> str:
    note = field.note.replace("|", "\\|")
    return f"| `{field.name}` | {field.treatment} | {note} |".replace("|  |", "| |")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
