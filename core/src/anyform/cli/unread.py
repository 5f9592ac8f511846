"""Tables [plugin.NAME] of the settings file that nobody reads, in words; one file may serve several machines."""

from __future__ import annotations

import inspect
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING

from anyform.contract import hooks

if TYPE_CHECKING:
    from anyform.kernel.plugins import PluginRecord, Plugins


def tables(plugins: Plugins) -> list[str]:
    """One sentence for each: its plugin is not installed, or takes no settings."""
    found = []
    for name in plugins.tables:
        record = plugins.record(name)
        if record is None:
            near = get_close_matches(name, [one.name for one in plugins.records], n=1)
            meant = f" Did you mean [plugin.{near[0]}]?" if near else ""
            found.append(f"[plugin.{name}] of the settings is for a plugin that is not installed.{meant}")
        elif record.sound and not _takes(record):
            found.append(f"[plugin.{name}] of the settings is for a plugin that takes none.")
    return found


def _takes(record: PluginRecord) -> bool:
    """Whether it asks for the table in a hook that is given one."""
    module = sys.modules.get(record.module)
    given = (hook for hook in record.hooks if "tables" in inspect.signature(getattr(hooks, hook)).parameters)
    asked = (getattr(module, hook, None) for hook in given)
    return any("tables" in inspect.signature(hook).parameters for hook in asked if callable(hook))
