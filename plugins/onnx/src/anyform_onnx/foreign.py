"""ONNX files that are other plugins' models: Piper and Kokoro, which speak, the parts of diffusers' pipelines, and what
RKLLM models see with.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from anyform.contract.facts import ModelFiles
from anyform.onnx.graph import Model
from anyform.pretrained.layout import CONFIG, above, at, folder_of
from anyform_onnx.layout import BELOW, PIPELINE

PIPER_KEYS = ("audio", "phoneme_id_map", "espeak", "num_symbols")
"""Two of them make the JSON beside a graph a Piper voice's."""
PIPER = re.compile(r"[a-z]{2,3}_[A-Z]{2}-.+-(x_low|low|medium|high)")
"""What those voices are called: language, region, name, quality."""
PIPER_INPUTS = frozenset({"input_lengths", "scales"})
KOKORO, KOKORO_KIND = "kokoro", "style_text_to_speech_2"
"""In the name of a graph, and in config.json's model_type."""
KOKORO_INPUTS = frozenset({"style", "speed"})
RKLLM = ".rkllm"
EYES = re.compile(r"vision|visual|(?<![a-z])(vit|clip|siglip|mmproj)(?![a-z])", re.IGNORECASE)
"""In the name of a graph."""
VOICES = re.compile(r"voices[^/]*\.(bin|npz)|voices/[^/]+\.bin")


def in_pipeline(files: ModelFiles, folder: str) -> bool:
    """Whether a folder lies in one of diffusers'."""
    return any(at(place, PIPELINE) in files.files for place in above(folder))


def speaks(files: ModelFiles, name: str) -> bool:
    """Whether a graph is a voice, by what it is called and the JSON that is called after it."""
    last = PurePosixPath(name).name
    if KOKORO in last.lower() or PIPER.fullmatch(PurePosixPath(name).stem):
        return True
    beside = f"{name}.json"
    said = files.json(beside) if beside in files.files else {"": ""}
    return not said or sum(key in said for key in PIPER_KEYS) >= 2


def sees(files: ModelFiles, name: str) -> bool:
    """Whether a graph is the encoder of pictures of an RKLLM model that lies beside it, by what it is called."""
    beside = (other for other in files.files if folder_of(other) == folder_of(name))
    return EYES.search(PurePosixPath(name).stem) is not None and any(other.lower().endswith(RKLLM) for other in beside)


def is_voice(found: Model) -> bool:
    """Whether a graph is a voice, by its inputs."""
    given = {one.name for one in found.inputs}
    return given >= PIPER_INPUTS or given >= KOKORO_INPUTS


def has_voices(files: ModelFiles, folder: str) -> bool:
    """Whether a Kokoro's voices lie beside the graphs of *folder*, or beside that where it is one for graphs."""
    below = PurePosixPath(folder).name.lower().startswith(BELOW)
    return any(_are_there(files, place) for place in ((folder, folder_of(folder)) if below else (folder,)))


def _are_there(files: ModelFiles, folder: str) -> bool:
    if at(folder, CONFIG) in files.files and files.json(at(folder, CONFIG)).get("model_type") == KOKORO_KIND:
        return True
    prefix = "" if folder == "." else f"{folder}/"
    return any(name.startswith(prefix) and VOICES.fullmatch(name[len(prefix) :]) for name in files.files)
