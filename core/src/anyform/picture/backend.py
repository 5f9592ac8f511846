"""Pillow, which reads pictures. The only file of the toolkit that imports it."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from anyform.contract.errors import EngineMissing

INSTALL = "pip install pillow"
"""What the extra `picture` installs."""


def library() -> Any:
    """The module `PIL.Image`. Raises EngineMissing."""
    try:
        return import_module("PIL.Image")
    except (ImportError, OSError) as error:
        raise EngineMissing(f"what reads pictures cannot be imported: {error}.", f"Install it: {INSTALL}") from error


def png_texts() -> Any:
    """An empty `PIL.PngImagePlugin.PngInfo`: the text chunks of a PNG file to be written. Raises EngineMissing."""
    library()
    return import_module("PIL.PngImagePlugin").PngInfo()


warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a picture is told to whoever sent it
