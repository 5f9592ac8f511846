"""What engines that write down speech refuse in the same words: jobs, translations, words without times, prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anyform.contract.errors import ContextExceeded, Invalid, Unsupported
from anyform.contract.jobs import Job, Transcribe, Translate


def checked(job: Job) -> Transcribe | Translate:
    """*job*. Raises Unsupported for any other."""
    if isinstance(job, Transcribe | Translate):
        return job
    raise Unsupported(
        f"this model writes down speech; it does not do the task {job.task}.",
        "Use a model that lists the task (`anyform list`).",
    )


def check_translation(several: bool) -> None:
    """*several*: whether the model knows more than English. Raises Unsupported."""
    if not several:
        raise Unsupported(
            "this Whisper model knows English only, so that it can translate nothing into it.",
            "Use a multilingual one: one whose name does not end in .en.",
        )


def check_words(wanted: bool, aligns: bool, file: str) -> None:
    """*aligns*: whether *file* says which heads follow the sound. Raises Unsupported."""
    if wanted and not aligns:
        raise Unsupported(
            f"this model does not say which of its attention heads follow the sound (alignment_heads in {file}),"
            " without which words have no times.",
            "Ask for segments only.",
        )


def check_prompt(tokens: Sequence[int], most: int, end: int, name: Callable[[int], object]) -> None:
    """*tokens* of what was said before, at *most* so many, all below *end*. Raises ContextExceeded, Invalid.

    *name*: what a token is called.
    """
    if len(tokens) > most:
        raise ContextExceeded(
            f"Invalid 'prompt': it has {len(tokens)} tokens; this model takes {most}.",
            "Shorten it.",
            param="prompt",
            prompt_tokens=len(tokens),
            context=most,
        )
    if marks := [token for token in tokens if token >= end]:
        raise Invalid(f"Invalid 'prompt': {name(marks[0])} is no text.", "Leave such marks out.", param="prompt")
