"""Which ABI a version of librkllmrt.so has; there is no function that would tell, and a wrong guess corrupts memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from anyform.contract.errors import EngineMissing

if TYPE_CHECKING:
    from anyform_rkllm.layout import Era

KNOWN = "1.1.x, 1.2.0 to 1.2.3 and 1.3.x"
PATTERNS = (r"1\.1\.\d+", r"1\.2\.0", r"1\.2\.[123]", r"1\.3\.\d+")
"""By the place of their `Era`."""


class UnknownRuntime(EngineMissing):
    """A version of the library whose binary interface is not known here."""

    code = "rkllm.unknown_runtime"


def known(version: str) -> bool:
    """Whether the ABI of the library of that *version* is known here."""
    return any(re.fullmatch(pattern, version) for pattern in PATTERNS)


def era(version: str) -> Era:
    """The ABI of the library of that *version*. Raises UnknownRuntime: for betas, 1.0.x, and what came later."""
    from anyform_rkllm.layout import Era

    for place, pattern in enumerate(PATTERNS):
        if re.fullmatch(pattern, version):
            return Era(place)
    raise UnknownRuntime(
        f"librkllmrt.so {version or 'without a version'} has an interface that is not known here.",
        f"Known are {KNOWN}; no betas.",
        version=version,
    )
