"""From a plan to a loaded Whisper, of CTranslate2's own files or of transformers', warmed up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from anyform.contract.errors import Invalid, LoadFailed, OutOfMemory
from anyform.contract.facts import Plan
from anyform.contract.model import LoadedModel
from anyform.sound import backend, language
from anyform_audio.hearing import conversion, scratch
from anyform_audio.hearing.backend import FeatureExtractor, ctranslate2, faster_whisper
from anyform_audio.hearing.listener import Listener
from anyform_audio.hearing.model import HearingModel
from anyform_audio.hearing.options import Options

PARALLEL = 1
"""Requests at once where the plan says nothing."""
WINDOW = 3000
"""Frames that Whisper hears at once."""
MARKS = ("<|endoftext|>", "<|startoftranscript|>", "<|startoflm|>", "<|startofprev|>", "<|notimestamps|>")
TASKS = ("<|transcribe|>", "<|translate|>")
SILENCE = ("<|nospeech|>", "<|nocaptions|>")
_MOST_PARALLEL = 256


def load(plan: Plan, options: Options) -> LoadedModel:
    """The model, its first step done. Raises EngineMissing (no PyAV), Invalid, LoadFailed, OutOfMemory, Unsupported."""
    backend.library()
    parallel = _parallel(plan)
    with _folder(plan) as folder:
        whisper = _opened(plan, options, folder, parallel)
        said = _json(folder / "config.json")
    languages = _languages(whisper, plan.model)
    _fit(whisper, plan)
    _warm_up(whisper, plan.model)
    aligns = bool(said.get("alignment_heads"))
    return HearingModel(Listener(whisper, options), options, parallel=parallel, languages=languages, aligns=aligns)


def _parallel(plan: Plan) -> int:
    parallel = plan.settings.parallel
    if parallel is not None and not 1 <= parallel <= _MOST_PARALLEL:
        raise Invalid(f"parallel is {parallel}.", f"It must be 1 to {_MOST_PARALLEL}.")
    return parallel or PARALLEL


@contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    """The folder of CTranslate2's files; for a while, where they must be made. Raises LoadFailed."""
    here = Path(plan.path) / plan.match.entry
    here = (here if here.is_dir() else here.parent).absolute()
    if plan.match.format == "whisper":
        with scratch.folder() as made:
            conversion.convert(plan, here, made)
            yield made
        return
    for name in ("model.bin", "config.json", "tokenizer.json"):
        if not (here / name).is_file():  # what faster-whisper misses it would seek on the hub
            raise LoadFailed(f"{name} of {plan.model} is not there: {here / name}.", "Get the model again.")
    yield here


def _opened(plan: Plan, options: Options, folder: Path, parallel: int) -> Any:
    kind, index = _device(plan)
    if options.compute_type not in (
        "default",
        "auto",
        *(usable := ctranslate2.get_supported_compute_types(kind, index)),
    ):
        raise Invalid(
            f"load option compute_type is {options.compute_type!r}, which this {kind} does not do.",
            f"It does {', '.join(sorted(usable))}.",
            option="compute_type",
        )
    try:
        return faster_whisper.WhisperModel(
            str(folder),
            device=kind,
            device_index=index,
            compute_type=options.compute_type,
            cpu_threads=options.threads or 0,
            num_workers=parallel,
            local_files_only=True,
        )
    except Exception as error:  # the tokenizers library raises Exception itself
        raise _refusal(error, plan.model) from error


def _device(plan: Plan) -> tuple[str, int]:
    """CTranslate2's name and number of the device that the plan names. Raises LoadFailed."""
    wanted = plan.settings.device or next((one.id for one in plan.devices if one.kind == "cuda"), "cpu")
    kind, _, index = wanted.partition(":")
    if kind != "cpu" and not (kind == "cuda" and ctranslate2.get_cuda_device_count()):
        raise LoadFailed(
            f"the installed CTranslate2 cannot use {wanted}.", "Install CUDA's libraries for it, or use --device cpu."
        )
    return kind, int(index or 0)


def _languages(whisper: Any, name: str) -> Sequence[str] | None:
    """The codes that the tokenizer has; None: English only. Raises LoadFailed where it is no Whisper's."""
    several, has = whisper.model.is_multilingual, whisper.hf_tokenizer.token_to_id
    needed = [*MARKS, *(TASKS if several else ())]
    missing = [mark for mark in needed if has(mark) is None]
    missing += [SILENCE[0]] if all(has(mark) is None for mark in SILENCE) else []
    languages = [code for code in language.NAMES if has(f"<|{code}|>") is not None]
    if missing or (several and not languages):
        raise LoadFailed(
            f"the tokenizer of {name} has no {missing[0] if missing else 'languages'}, which Whisper needs.",
            "Get it again.",
        )
    return languages if several else None


def _fit(whisper: Any, plan: Plan) -> None:
    """Make the spectrum the network's, and answers no longer than it takes. Raises LoadFailed."""
    bands = whisper.model.n_mels
    if "feature_size" not in whisper.feat_kwargs:
        whisper.feature_extractor = FeatureExtractor(**whisper.feat_kwargs, feature_size=bands)
    made = whisper.feature_extractor
    if len(made.mel_filters) != bands or made.nb_max_frames != WINDOW:
        raise LoadFailed(
            f"the preprocessor of {plan.model} makes {len(made.mel_filters)} bands of {made.nb_max_frames} frames;"
            f" its network takes {bands} bands of {WINDOW} frames.",
            "Get the model again.",
        )
    whisper.max_length = min(whisper.max_length, plan.metadata.context or whisper.max_length)


def _warm_up(whisper: Any, name: str) -> None:
    """One step over silence. Raises LoadFailed, OutOfMemory."""
    start = whisper.hf_tokenizer.token_to_id("<|startoftranscript|>")
    silence = np.zeros((whisper.model.n_mels, WINDOW), np.float32)
    try:
        result = whisper.model.generate(
            whisper.encode(silence),
            [[start]],
            beam_size=1,
            max_length=4,
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
    except Exception as error:  # whatever the engine raises
        raise _refusal(error, name) from error
    if not math.isfinite(result.no_speech_prob):
        raise LoadFailed(f"{name} computes numbers that are not finite.", "Get the model again.")


def _refusal(error: Exception, name: str) -> LoadFailed | OutOfMemory:
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return OutOfMemory(f"there is no memory to load {name}: {error}.", "Use a smaller model, or compute_type=int8.")
    return LoadFailed(f"{name} cannot be loaded: {type(error).__name__}: {error}.", "Get the model again.")


def _json(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
