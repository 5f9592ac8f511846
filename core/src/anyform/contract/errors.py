"""The closed family of faults. Each says what happened, with the value, and what to do.

Categories are closed, since the edges (HTTP, CLI) must know them all; codes are open: a plugin
subclasses a fault and gives it a code of its own, `plugin.code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar


class Category(StrEnum):
    """What kind of trouble it is; the value crosses the wire. In HTTP: the status beside it."""

    INVALID = "invalid"  # 400
    UNSUPPORTED = "unsupported"  # 400
    REFUSED = "refused"  # 403
    NOT_FOUND = "not_found"  # 404
    TOO_LARGE = "too_large"  # 413
    BUSY = "busy"  # 429
    UNAVAILABLE = "unavailable"  # 503
    INTERNAL = "internal"  # 500


class Fault(Exception):  # noqa: N818 - the design's word, and the base of names that say the situation
    """A problem that a user can read. Raise a subclass where one fits."""

    code: ClassVar[str] = "internal_error"
    category: ClassVar[Category] = Category.INTERNAL

    def __init__(self, message: str, hint: str = "", **details: Any) -> None:
        """*message*: what happened, with the value. *hint*: what to do. *details*: JSON values for programs."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = details

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def as_dict(self) -> dict[str, Any]:
        """JSON form; `revive` turns it back."""
        return {
            "code": self.code,
            "category": self.category.value,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }

    @staticmethod
    def revive(data: Mapping[str, Any]) -> Fault:
        """The fault that `as_dict` described; of its own class where that is known here."""
        known = _by_code(Fault).get(str(data["code"]))
        cls = known or _foreign(str(data["code"]), Category(data["category"]))
        revived = cls.__new__(cls)
        Fault.__init__(revived, str(data["message"]), str(data.get("hint", "")), **dict(data.get("details", {})))
        return revived


def _by_code(cls: type[Fault]) -> dict[str, type[Fault]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        for code, known in _by_code(sub).items():
            found.setdefault(code, known)
    return found


def _foreign(code: str, category: Category) -> type[Fault]:
    """A class for a code that only the worker's plugin defines."""
    return type("ForeignFault", (Fault,), {"code": code, "category": category})


class Invalid(Fault):
    """The request or option itself is wrong."""

    code = "invalid_request"
    category = Category.INVALID


class Unsupported(Fault):
    """Well formed, but not something this model or backend does."""

    code = "unsupported"
    category = Category.UNSUPPORTED


class ContextExceeded(Invalid):
    """A prompt longer than the context. Never cut; details: prompt_tokens, context."""

    code = "context_length_exceeded"


class ModelNotFound(Fault):
    """No model of that name."""

    code = "model_not_found"
    category = Category.NOT_FOUND


class ModelAmbiguous(ModelNotFound):
    """A name that several models could mean; details: candidates, their full names."""

    code = "model_ambiguous"


class UnknownFormat(Fault):
    """Files that no installed plugin recognises."""

    code = "unknown_format"
    category = Category.UNSUPPORTED


class InvalidModel(Fault):
    """Validation found something critical; details: findings."""

    code = "invalid_model"
    category = Category.UNSUPPORTED


class NoBackend(Fault):
    """No backend passes the gates; details: refusals, one a candidate."""

    code = "no_backend"
    category = Category.UNSUPPORTED


class EngineMissing(Fault):
    """The backend's engine is not installed; the hint quotes the command."""

    code = "engine_missing"
    category = Category.UNAVAILABLE


class OutOfMemory(Fault):
    """The model does not fit; the hint says what would."""

    code = "out_of_memory"
    category = Category.UNAVAILABLE


class LoadFailed(Fault):
    """The engine refused the model, or its worker died loading it."""

    code = "load_failed"
    category = Category.UNAVAILABLE


class WorkerDied(Fault):
    """The process that ran the model ended in the middle of a request."""

    code = "worker_died"
    category = Category.UNAVAILABLE


class Overloaded(Fault):
    """Too many requests wait already; details: retry_after_s."""

    code = "overloaded"
    category = Category.BUSY


class Closed(Fault):
    """The model or runtime was closed."""

    code = "closed"
    category = Category.UNAVAILABLE


class PluginFault(Fault):
    """An addressed hook raised something that is no fault; details: plugin, hook, cause."""

    code = "plugin_error"

    def __init__(self, plugin: str, hook: str, cause: BaseException | str) -> None:
        text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        super().__init__(
            f"plugin {plugin} failed in {hook}: {text}.",
            f"This is a bug in {plugin}; `anyform plugins` shows its version and home.",
            plugin=plugin,
            hook=hook,
            cause=text,
        )


class RefusedRequest(Fault):
    """Something that a request must not reach: a path, a private address, code from a model."""

    code = "refused"
    category = Category.REFUSED


class TooLarge(Fault):
    """A body or an input over a limit; details: limit."""

    code = "too_large"
    category = Category.TOO_LARGE
