"""Whether a Kokoro is sound: its graph, its voices, and that they belong together."""

from __future__ import annotations

from collections.abc import Iterator

from anyform.contract.facts import Finding, FormatMatch, ModelFiles
from anyform.finding import condensed
from anyform.onnx import graph, inspection
from anyform_audio.finding import AGAIN, critical, warning
from anyform_audio.speech.kokoro import layout, voice

ZIP_MAGIC = b"PK\x03\x04"
INPUTS = (
    (layout.TOKENS, inspection.WHOLE, (1, -1)),
    (("style",), inspection.FLOATS, (1, voice.WIDTH)),
    (("speed",), (*inspection.FLOATS, *inspection.WHOLE), (1,)),
)
"""kokoro-onnx 0.6 gives these, in the types that the graph states."""
ONNX_FORM = (
    "Get the ONNX form: onnx-community/Kokoro-82M-v1.0-ONNX:fp32, or kokoro-v1.0.onnx and voices-v1.0.bin of"
    " kokoro-onnx."
)


def validate(files: ModelFiles, match: FormatMatch) -> list[Finding]:
    """Findings for all files of *match*. Bounded: no weights are read, and of voices only checksums made."""
    return list(condensed(_torch(files, match) if match.format == layout.TORCH else _model(files, match)))


def _model(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    damage = list(inspection.check(files, match.entry, "kokoro"))
    yield from damage
    found = graph.read(files, match.entry)
    if found.whole and not found.troubles:
        wrong = inspection.takes(found, INPUTS)
        if wrong:
            text = f"{match.entry} is called a Kokoro, and is none that can be run: {wrong}. Get another export."
            yield critical("kokoro.bad_inputs", text)
    names = layout.voices(files, match.entry)
    if not names:
        text = f"there are no voices beside {match.entry}: voices-v1.0.bin, or a folder voices with .bin files."
        yield critical("kokoro.missing_voices", f"{text} Fetch them into the same folder.")
        return
    yield from voice.check(files, names)


def _torch(files: ModelFiles, match: FormatMatch) -> Iterator[Finding]:
    name = match.entry
    if files.head(name, len(ZIP_MAGIC)) != ZIP_MAGIC:
        yield critical("kokoro_torch.damaged", f"{name} is no file of PyTorch's. {AGAIN}")
    yield warning(
        "kokoro_torch.no_engine", f"{name} is Kokoro as PyTorch keeps it, which nothing here runs. {ONNX_FORM}"
    )
