"""Rules of the design that hold for every module."""

from __future__ import annotations

import ast
import re

import pytest

from .source import ALL, CORE, Module

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "handler", "impl", "universal"}
VAGUE |= {"enhanced", "smart", "advanced", "new", "v2", "core", "stuff"}
FORMATS = re.compile(r"gguf|safetensors|onnx|rkllm|llama|ggml|whisper|kokoro|diffusers|transformers", re.IGNORECASE)
ENVIRONMENT = {"environ", "environb", "getenv", "putenv"}
LINES = 400


def code_lines(module: Module) -> int:
    """Lines with code: no blanks, no comments, no docstrings."""
    silent = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            silent |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(module.text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in silent for number, line in lines
    )


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.name)
def test_every_module_says_what_it_owns(module: Module) -> None:
    said = ast.get_docstring(module.tree)
    assert said, f"{module.name} has no docstring"


def test_names_say_what_they_hold() -> None:
    assert [module.name for module in ALL if set(module.name.split(".")) & VAGUE] == []


def test_modules_stay_small() -> None:
    assert {module.name: code_lines(module) for module in ALL if code_lines(module) > LINES} == {}


def test_contract_and_kernel_stay_near_two_thousand_lines() -> None:
    assert sum(code_lines(module) for module in CORE if module.within("anyform.contract", "anyform.kernel")) < 2200


def test_the_environment_is_read_by_the_configuration_only() -> None:
    found = [
        module.name
        for module in ALL
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and ast.unparse(node.value) == "os")
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and ENVIRONMENT & {name.name for name in node.names}
        )
    ]
    assert set(found) <= {"anyform.config", "anyform.configfile"}


def test_the_kernel_and_the_workers_name_no_format_and_no_engine() -> None:
    found = [
        f"{module.name}:{node.lineno} {node.value!r}"
        for module in CORE
        if module.within("anyform.kernel", "anyform.workers", "anyform.assembly", "anyform.http")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FORMATS.search(node.value)
        if not _is_docstring(module, node)
    ]
    assert found == []


def _is_docstring(module: Module, constant: ast.Constant) -> bool:
    return any(isinstance(node, ast.Expr) and node.value is constant for node in ast.walk(module.tree))


def test_public_names_are_sorted() -> None:
    for module in ALL:
        for node in module.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                constants_first = sorted(names, key=lambda name: (not name.isupper(), name))
                assert names in (sorted(names), constants_first), f"{module.name}.__all__ is not sorted"


def test_the_contract_takes_no_open_ended_arguments() -> None:
    """Growth is by fields with defaults, so that nothing crosses the contract unnamed (Fault.details aside)."""
    for module in CORE:
        if module.within("anyform.contract") and module.name != "anyform.contract.errors":
            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef) and node.name not in ("add_api_route", "include_router"):
                    assert node.args.kwarg is None, f"{module.name}.{node.name} takes **{node.args.kwarg}"


def test_no_pickle_and_no_fork() -> None:
    banned = {"pickle", "marshal", "shelve", "multiprocessing"}
    assert [module.name for module in ALL if banned & {name.partition(".")[0] for name in module.imports()}] == []
