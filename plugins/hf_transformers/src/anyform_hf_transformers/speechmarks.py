"""Whisper's own tokens: languages, tasks, timestamps; from generation_config.json, else from the tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyform.contract.errors import LoadFailed
from anyform.sound import language, speech


@dataclass(frozen=True, slots=True)
class Marks:
    """Ids of tokens that are no text."""

    start: int
    end: int
    previous: int
    """Before a prompt."""
    silence: int
    no_timestamps: int
    tasks: Mapping[str, int]
    """transcribe and translate; empty where the model knows English only."""
    languages: Mapping[str, int]
    """Token of each code."""

    @property
    def several(self) -> bool:
        """Whether it knows more than English."""
        return bool(self.languages and self.tasks)

    @property
    def first_time(self) -> int:
        """The token of 0.00 seconds; all from there on are times."""
        return self.no_timestamps + 1

    def language(self, asked: str) -> str:
        """The code that *asked*, a code or a name, means. Raises Invalid, Unsupported."""
        return language.code(asked, self.languages if self.several else None)

    def beginning(self, task: str, language: str) -> list[int]:
        """The tokens with which an answer begins."""
        return [self.start, self.languages[language], self.tasks[task]] if self.several else [self.start]


def read(tokenizer: Any, config: Any, model_name: str) -> Marks:
    """*config*: the generation configuration. Raises LoadFailed where the tokenizer is no Whisper's."""

    def id_of(name: str) -> int | None:
        found = tokenizer.convert_tokens_to_ids(name)
        return found if isinstance(found, int) and found != tokenizer.unk_token_id else None

    def need(name: str, stated: Any = None) -> int:
        found = stated if isinstance(stated, int) else id_of(name)
        if found is None:
            raise LoadFailed(f"the tokenizer of {model_name} has no {name}, which Whisper needs.", "Get it again.")
        return found

    no_timestamps = need("<|notimestamps|>", getattr(config, "no_timestamps_token_id", None))
    several = getattr(config, "is_multilingual", None) is not False
    spoken = {code: id_of(f"<|{code}|>") for code in language.NAMES} if several else {}
    stated = getattr(config, "lang_to_id", None) or {f"<|{code}|>": id for code, id in spoken.items() if id is not None}
    tasks = {task: id_of(f"<|{task}|>") for task in ("transcribe", "translate")} if several else {}
    return Marks(
        start=need("<|startoftranscript|>", getattr(config, "decoder_start_token_id", None)),
        end=need("<|endoftext|>", tokenizer.eos_token_id),
        previous=need("<|startofprev|>", getattr(config, "prev_sot_token_id", None)),
        silence=no_timestamps - 1,
        no_timestamps=no_timestamps,
        tasks={task: id for task, id in tasks.items() if id is not None},
        languages={name[2:-2]: id for name, id in stated.items()} if several else {},
    )


def prompt(tokenizer: Any, marks: Marks, text: str, context: int) -> Sequence[int]:
    """*text* as what was said before. Raises ContextExceeded, Invalid."""
    if not text.strip():
        return ()
    tokens = tokenizer(" " + text.strip(), add_special_tokens=False)["input_ids"]
    most = context // 2 - 1
    speech.check_prompt(tokens, most, marks.end, tokenizer.convert_ids_to_tokens)
    return [marks.previous, *tokens]
