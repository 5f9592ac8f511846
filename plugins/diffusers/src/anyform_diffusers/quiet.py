"""The engines' own talk, kept out of the server's log: what users must know is in notes and faults instead."""

from __future__ import annotations

import warnings
from typing import Any

from anyform_diffusers.backend import diffusers, transformers


def hush() -> None:
    """No progress bars and no warnings of the engines from here on, in this process."""
    for library in (diffusers, transformers):
        logging: Any = library.utils.logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")  # of arguments, meant for us
