"""Writes docs/contract.md from the docstrings of the contract: `python -m anyform.testing.contract_page`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from types import ModuleType

from anyform.contract import errors, events, facts, hooks, jobs, model
from anyform.kernel.plugins import hook_names

HEAD = """# The contract

Everything that a plugin may import lies in `anyform.contract`. This page is generated from its docstrings by
`python -m anyform.testing.contract_page > docs/contract.md`, and a test keeps it up to date. The tutorial is
[plugins.md](plugins.md).

Sizes are in bytes and times in seconds. Facts, jobs and events are frozen, keyword-only dataclasses that cross the wire
as JSON and raw bytes; fields typed `Mapping` hold JSON values only. A plugin's module states
`ANYFORM_CONTRACT = {version}`. A new hook argument or a field with a default is no new contract; anything else raises
that number.
"""

PARTS = (
    (model, "A loaded model", "one object with one method"),
    (facts, "Facts", "what plugins state and the kernel decides by"),
    (jobs, "Jobs", "what a loaded model is asked to do, one class a task"),
    (events, "Events", "what a loaded model yields; the last is always one Done"),
)


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD.format(version=hooks.CONTRACT), *_hooks(), "## What hooks give and are given\n", *_classes(hooks)]
    for module, title, what in PARTS:
        parts += [f"## {title}: {what}\n\n`{module.__name__}`\n", *_classes(module)]
    return "\n".join([*parts, _faults()])


def _hooks() -> Iterator[str]:
    yield "## Hooks: ten questions\n\n`anyform.contract.hooks`. An implementation may take fewer arguments.\n"
    table = ["| hook | kind | may import the engine | returns |", "|---|---|---|---|"]
    order = sorted(hook_names(), key=lambda name: inspect.getsourcelines(getattr(hooks, name))[1])
    for name in order:
        said = four_lines(name)
        kind = said["When and where"].partition(",")[0].partition(":")[0].split()[0]
        engine = "**yes**" if said["Engine"].startswith("imported") else "no"
        table.append(f"| [`{name}`](#{name}) | {kind} | {engine} | `{_returns(name)}` |")
    yield "\n".join(table) + "\n"
    for name in order:
        lines = [f"- **{label}:** {text}" for label, text in four_lines(name).items()]
        yield f"### `{name}`\n\n```python\n{_signature(name)}\n```\n\n" + "\n".join(lines) + "\n"


def four_lines(name: str) -> dict[str, str]:
    """The fixed lines of a hook's docstring: label -> sentence."""
    text = inspect.getdoc(getattr(hooks, name)) or ""
    return dict(re.findall(r"^(Asks|When and where|Engine|Empty means): (.+)$", text, re.M))


def _node(name: str) -> ast.FunctionDef:
    return next(node for node in _tree(hooks).body if isinstance(node, ast.FunctionDef) and node.name == name)


def _signature(name: str) -> str:
    node = _node(name)
    return f"def {name}({ast.unparse(node.args)}) -> {_returns(name)}"


def _returns(name: str) -> str:
    returns = _node(name).returns
    return ast.unparse(returns) if returns else "None"


def _classes(module: ModuleType) -> Iterator[str]:
    yield from (_class(node) for node in _tree(module).body if isinstance(node, ast.ClassDef))


def _class(node: ast.ClassDef) -> str:
    items = [*_fields(node), *_methods(node)]
    return "\n".join([f"### {node.name}\n", (ast.get_docstring(node) or "") + "\n", *items, *([""] if items else [])])


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            returns = f" -> {ast.unparse(item.returns)}" if item.returns else ""
            arguments = ast.unparse(item.args).removeprefix("self").removeprefix(", ")
            plain = any(isinstance(mark, ast.Name) and mark.id == "property" for mark in item.decorator_list)
            shown = f"{item.name}{returns.replace(' ->', ':')}" if plain else f"{item.name}({arguments}){returns}"
            yield f"- `{shown}` {_flat(ast.get_docstring(item))}".rstrip()


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """One item a field, with the string that stands below it in the source."""
    for item, below in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant):
            yield f"- `{ast.unparse(item)}` {_said(below)}".rstrip()
        if isinstance(item, ast.AnnAssign):
            yield f"- `{_field(item)}` {_said(below)}".rstrip()


def _field(item: ast.AnnAssign) -> str:
    text = f"{ast.unparse(item.target)}: {ast.unparse(item.annotation)}"
    if item.value is None:
        return text
    default = ast.unparse(item.value)
    return f"{text} = {'{}' if 'default_factory=dict' in default else default}"


def _said(node: ast.stmt | None) -> str:
    said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return _flat(node.value.value) if said else ""  # type: ignore[union-attr]


def _flat(text: str | None) -> str:
    return " ".join((text or "").split())


def _faults() -> str:
    lines = [
        "## Faults: a closed family",
        "",
        "`anyform.contract.errors`",
        "",
        "| class | code | category | area | severity | when |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for name, member in vars(errors).items():
        if isinstance(member, type) and issubclass(member, errors.Fault):
            kind = f"{member.category.value} | {member.area.value} | {member.severity.name}"
            lines.append(f"| `{name}` | `{member.code}` | {kind} | {_flat(member.__doc__)} |")
    return "\n".join([*lines, ""])


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


if __name__ == "__main__":
    sys.stdout.write(page())
