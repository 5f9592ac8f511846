"""PyAV, which reads and writes sound files. The only file of the toolkit that imports it."""

from __future__ import annotations

from typing import Any

from anyform.contract.errors import EngineMissing

INSTALL = "pip install av"
"""What the extra `sound` installs."""


def library() -> Any:
    """The module `av`. Raises EngineMissing."""
    try:
        import av
    except (ImportError, OSError) as error:
        raise EngineMissing(f"what reads sound cannot be imported: {error}.", f"Install it: {INSTALL}") from error
    av.logging.set_level(av.logging.PANIC)  # what is wrong with a sound is told to whoever sent it
    return av
