"""The plugin: tells anyform where the sample models lie."""

from __future__ import annotations

from collections.abc import Iterable

from anyform.contract.hooks import ModelSource, Place, hookimpl
from anyform_samples.layout import DATA

ANYFORM_CONTRACT = 1


class Samples:
    """The models in this package."""

    name = "samples"

    def find(self) -> Iterable[Place]:
        """One folder to search."""
        if DATA.is_dir():
            yield Place(path=DATA, search=True)


@hookimpl
def list_sources() -> list[ModelSource]:
    """The sample models."""
    return [Samples()]
