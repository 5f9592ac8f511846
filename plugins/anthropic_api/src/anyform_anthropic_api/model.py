"""Models as Anthropic lists them: on a listener that does not speak OpenAI, whose /v1/models it otherwise is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from anyform.contract.errors import Fault
from anyform.dialect import Entry, Fields, Runtime

MOST = 1000


def described(runtime: Runtime, entry: Entry) -> dict[str, Any]:
    """Anthropic's model object; `created_at` is when the model's files were last changed. Prompt and answer share the
    context, so that it bounds both.
    """
    try:
        changed = os.stat(os.path.join(entry.path, entry.match.entry)).st_mtime
    except OSError:
        changed = 0.0
    made = datetime.fromtimestamp(int(changed), UTC).isoformat().replace("+00:00", "Z")
    told = {"type": "model", "id": entry.name, "display_name": entry.name, "created_at": made, "lifecycle": "active"}
    return told | dict.fromkeys(("max_input_tokens", "max_tokens"), _context(runtime, entry))


def _context(runtime: Runtime, entry: Entry) -> int | None:
    """What its settings say, else what it was trained for; None: nothing says it."""
    try:
        return runtime.rule(entry).settings.context or runtime.metadata(entry).context
    except Fault:  # whoever asks it is told
        return None


def listed(runtime: Runtime, query: Fields) -> dict[str, Any]:
    """A page of all models by name. Raises Invalid."""
    most = query.integer("limit", low=1, high=MOST) or 20
    after, before = query.text("after_id"), query.text("before_id")
    names = sorted(runtime.names())
    left = [name for name in names if (not after or name > after) and (not before or name < before)]
    shown = left[-most:] if before and not after else left[:most]
    return {
        "data": [described(runtime, runtime.find(name)) for name in shown],
        "has_more": len(left) > len(shown),
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }
