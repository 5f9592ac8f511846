"""What llama.cpp says while it works: kept for error messages, and told to the log at its lowest level."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

log = logging.getLogger("anyform.llama")

_WARN, _ERROR, _CONTINUED = 3, 4, 5
"""ggml_log_level (ggml.h)."""
_LINES = 50
_NO_MEMORY = ("failed to allocate", "unable to allocate", "out of memory", "not enough memory", "cannot allocate")


class EngineLog:
    """The last warnings and errors of the process's one llama.cpp."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._level = 0
        self._callbacks: dict[str, Any] = {}

    def attach(self, setter: Any, callback_type: Any) -> None:
        """Make *setter*, one of llama.cpp's `log_set` functions, report here from now on."""
        if setter.__name__ in self._callbacks:
            return
        callback = self._callbacks[setter.__name__] = callback_type(
            self._take
        )  # ctypes frees a callback that nobody holds
        setter(callback, None)

    def clear(self) -> None:
        self._lines.clear()

    def errors(self, count: int = 3) -> str:
        """The last *count* lines, joined."""
        return " · ".join(list(self._lines)[-count:])

    @property
    def says_no_memory(self) -> bool:
        """Whether the lines tell of an allocation that failed."""
        return any(words in line.lower() for line in self._lines for words in _NO_MEMORY)

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level == _CONTINUED:
            if self._level >= _WARN and self._lines:
                self._lines[-1] += text.decode("utf-8", "replace").rstrip()
            return
        self._level = level
        log.debug("%s", text.decode("utf-8", "replace").rstrip())
        if level in (_WARN, _ERROR):
            self._lines.append(text.decode("utf-8", "replace").strip())
