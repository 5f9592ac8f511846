"""Who may import whom: the contracts of import-linter, and what they cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from .source import ALL, CORE, PLUGINS, ROOT, Module

ENGINES = {
    "llama_cpp", "torch", "transformers", "diffusers", "onnxruntime", "onnxruntime_genai", "optimum", "faster_whisper",
    "ctranslate2", "kokoro", "kokoro_onnx", "piper", "phonemizer", "espeakng_loader", "av", "rkllm", "rkllm_api",
    "rkllmruntime", "vllm", "tensorflow", "mlx", "PIL",
}  # fmt: skip
DIALECTS = ("anyform_anthropic_api", "anyform_lmstudio_api", "anyform_ollama_api")
WEB = {"fastapi", "starlette", "uvicorn", "pydantic", "httptools"}


def outside(module: Module) -> set[str]:
    """Top-level modules that it imports beyond the standard library and this project."""
    tops = {name.partition(".")[0] for name in module.imports()}
    return {top for top in tops - sys.stdlib_module_names if not top.startswith("anyform")}


def test_import_linter_keeps_its_contracts() -> None:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("anyform.contract", {"pluggy"}),
        ("anyform.kernel", {"pluggy"}),
        ("anyform.workers", set()),
        ("anyform.builtin", set()),
        ("anyform.testing", {"pytest"}),
        ("anyform.text", {"jinja2", "llguidance", "numpy", "tokenizers"}),
        ("anyform.sound", {"av", "numpy"}),
        ("anyform.onnx", set()),
        ("anyform.pretrained", set()),
        ("anyform.picture", {"PIL", "numpy"}),
        ("anyform.sources", {"huggingface_hub"}),
    ],
)
def test_what_packages_import_from_outside(package: str, allowed: set[str]) -> None:
    found = {module.name: outside(module) - allowed for module in CORE if module.within(package)}
    assert found
    assert {name: tops for name, tops in found.items() if tops} == {}


def test_engines_are_imported_in_backend_modules_only() -> None:
    found = [module.name for module in ALL if outside(module) & ENGINES and module.path.name != "backend.py"]
    assert found == []


def test_web_frameworks_are_imported_by_http_dialects_and_the_configuration_only() -> None:
    at_home = ("anyform.http", "anyform.dialect", "anyform.config", "anyform.configfile", *DIALECTS)
    assert [module.name for module in ALL if outside(module) & WEB and not module.within(*at_home)] == []


def test_pluggy_is_touched_by_two_modules() -> None:
    found = [module.name for module in ALL if "pluggy" in outside(module)]
    assert found == ["anyform.contract.hooks", "anyform.kernel.plugins"]


def test_plugin_modules_import_the_standard_library_and_the_contract() -> None:
    entry = [module for module in PLUGINS if module.path.name == "plugin.py"]
    assert entry
    assert {module.name: outside(module) for module in entry if outside(module)} == {}


def test_the_hooks_of_a_dialect_import_the_contract_alone_until_they_are_called() -> None:
    """Every worker imports them, and has no web framework."""
    entry = [module for module in PLUGINS if module.within(*DIALECTS) and module.path.name == "plugin.py"]
    assert len(entry) == len(DIALECTS)
    for module in entry:
        at_once = {name for node in module.tree.body for name in imported(node)}
        assert {name for name in at_once if not allowed(name, "anyform.contract")} == set(), module.name


def test_a_dialect_imports_what_its_toolkit_exports() -> None:
    from anyform import dialect

    for module in [module for module in PLUGINS if module.within(*DIALECTS)]:
        own = module.name.partition(".")[0]
        named = {name for name in module.imports() if not allowed(name, "anyform.contract", "anyform.dialect", own)}
        assert named <= {"starlette", "fastapi"} | {name for name in named if name.startswith("starlette.")}, (
            module.name
        )
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anyform.dialect"):
                strange = {alias.name for alias in node.names} - set(dialect.__all__)
                assert node.module == "anyform.dialect", f"{module.name} imports {node.module}"
                assert not strange, f"{module.name} imports {strange}, which the toolkit does not export"


def imported(node: ast.stmt) -> list[str]:
    """The modules that a statement imports by itself."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def allowed(name: str, *packages: str) -> bool:
    """Whether a module is of the standard library or in one of *packages*."""
    known = name.partition(".")[0] in sys.stdlib_module_names
    return known or any(name == package or name.startswith(f"{package}.") for package in packages)


def test_only_http_is_asynchronous() -> None:
    for module in CORE:
        tasks = [node for node in ast.walk(module.tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
        if not module.within("anyform.http", "anyform.dialect"):
            assert not tasks, f"{module.name}:{tasks[0].lineno} is asynchronous"
            assert "asyncio" not in set(module.imports()), f"{module.name} imports asyncio"
