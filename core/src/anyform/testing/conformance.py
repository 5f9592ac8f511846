"""The plugin author's kit: subclass `PluginConformance`, say what your plugin is, and pytest does the rest.

    from anyform.testing import PluginConformance

    class TestConformance(PluginConformance):
        plugin = "mine"
        module = "anyform_mine.plugin"

        def samples(self, folder):
            (folder / "small").mkdir()
            (folder / "small" / "model.mine").write_bytes(...)
            return [folder / "small"]

Checks that need the engine are skipped where it is not installed.
"""

from __future__ import annotations

from anyform.testing.format_checks import FormatChecks
from anyform.testing.input_checks import InputChecks
from anyform.testing.module_checks import ModuleChecks
from anyform.testing.source_checks import SourceChecks


class PluginConformance(ModuleChecks, FormatChecks, InputChecks, SourceChecks):
    """Checks of one plugin against the contract; see `Subject` for what to state and what may be overridden."""
