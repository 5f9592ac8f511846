"""LM Studio's models: plain folders `publisher/repository/` below its models folder.

The layout: https://lmstudio.ai/docs/app/advanced/import-model. Where the folder is: `.lmstudio-home-pointer` in the
user's home folder names LM Studio's own (else `.lmstudio`), whose `settings.json` may name another `downloadsFolder`;
older releases kept `.cache/lm-studio/models`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from anyform.contract.hooks import Place


class LmStudioStore:
    """All models below LM Studio's folders."""

    name = "lmstudio"

    def __init__(self, user: Path) -> None:
        """*user*: the user's home folder."""
        self.user = user

    def find(self) -> Iterator[Place]:
        """A folder to search for each that exists."""
        seen: set[Path] = set()
        for folder in _folders(self.user):
            with suppress(OSError):
                if folder.is_dir() and folder.resolve() not in seen:
                    seen.add(folder.resolve())
                    yield Place(path=folder, search=True)


def _folders(user: Path) -> Iterator[Path]:
    home = user / ".lmstudio"
    with suppress(OSError, UnicodeDecodeError):
        said = (user / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
        home = Path(said) if said else home
    with suppress(OSError, ValueError):
        settings = json.loads((home / "settings.json").read_text(encoding="utf-8"))
        if isinstance(settings, dict) and isinstance(settings.get("downloadsFolder"), str):
            yield Path(settings["downloadsFolder"])
    yield home / "models"
    yield user / ".cache" / "lm-studio" / "models"
