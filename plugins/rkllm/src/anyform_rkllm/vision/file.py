"""JSON files that lie beside a model, as the process that runs it reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anyform.contract.errors import LoadFailed

MOST_BYTES = 1 << 24


def nearest_json(folders: Sequence[Path], name: str, most_bytes: int = MOST_BYTES) -> Mapping[str, Any]:
    """`read_json` of the first of *folders* that has something in a file called *name*."""
    return next((said for folder in folders if (said := read_json(folder / name, most_bytes))), {})


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Mapping[str, Any]:
    """The JSON object in *path*; empty where there is no file. Raises LoadFailed: damaged, or over *most_bytes*."""
    again = "Get the model's files again."
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise ValueError(f"it has more than {most_bytes} bytes")
        said = json.loads(content)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise LoadFailed(f"{path.name} cannot be read: {error}.", again) from error
    if not isinstance(said, dict):
        raise LoadFailed(f"{path.name} holds no JSON object.", again)
    return said
