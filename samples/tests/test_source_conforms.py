"""The package's plugin passes the conformance kit, as far as a plugin that only brings models can."""

from __future__ import annotations

from pathlib import Path

from anyform.testing.module_checks import ModuleChecks
from anyform.testing.source_checks import SourceChecks


class TestSamples(ModuleChecks, SourceChecks):
    plugin = "samples"
    module = "anyform_samples.plugin"

    def samples(self, folder: Path) -> list[Path]:
        return []
