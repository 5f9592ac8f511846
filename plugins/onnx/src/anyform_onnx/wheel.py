"""The wheels of the engines: one for each kind of accelerator, all with the same module, so that one alone may be
installed. Which one it is, metadata say; no engine is imported.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution

from anyform.contract.facts import BackendInfo

WHEELS = {
    "onnxruntime": (
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-migraphx",
        "onnxruntime-rocm",
    ),
    "onnxruntime-genai": ("onnxruntime-genai-cuda", "onnxruntime-genai-directml"),
}
"""The usual distribution, which has the CPU alone (on macOS also CoreML) -> those that take its place."""


def settled(info: BackendInfo) -> BackendInfo:
    """*info* with the wheels that are installed here in the place of the usual ones, in its command to install, too."""
    taken = {usual: found for usual in WHEELS if usual in info.engine and (found := installed(usual))}
    engine = tuple(name for usual in info.engine for name in taken.get(usual, (usual,)))
    command = " ".join(taken.get(word, (word,))[0] for word in info.install.split())
    return replace(info, engine=engine, install=command)


def installed(usual: str) -> tuple[str, ...]:
    """Those of *usual*'s that are installed, accelerators' first; several overwrite each other, as `doctor` tells."""
    return tuple(name for name in (*WHEELS[usual], usual) if _there(name))


def _there(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
