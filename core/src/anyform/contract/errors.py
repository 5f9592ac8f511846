"""The closed family of faults. Each says what happened, with the value, and what to do.

Categories and areas are closed, since the edges (HTTP, CLI, log) must know them all; codes are open: a plugin
subclasses a fault and gives it a code of its own, `plugin.code`, and the area and severity that are true of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from anyform.contract.facts import Severity

PARTS = ("model", "plugin", "backend", "device", "file", "path", "param")
"""Details that name what a fault is about, the most telling first."""


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


class Area(StrEnum):
    """Where to look for the trouble, as its user thinks of it; the value crosses the wire."""

    REQUEST = "request"
    MODEL = "model"
    FORMAT = "format"
    BACKEND = "backend"
    MEMORY = "memory"
    HARDWARE = "hardware"
    NETWORK = "network"
    AUTHENTICATION = "authentication"
    STORAGE = "storage"
    PLUGIN = "plugin"
    SERVER = "server"


class Fault(Exception):  # noqa: N818 - the design's word, and the base of names that say the situation
    """A problem that a user can read. Raise a subclass where one fits.

    severity: INFO where the caller alone is to do otherwise; WARNING where it may pass, or less may be asked for;
    CRITICAL where it stays until somebody repairs something here. The log's level follows it.
    """

    code: ClassVar[str] = "internal_error"
    category: ClassVar[Category] = Category.INTERNAL
    area: ClassVar[Area] = Area.SERVER
    severity: ClassVar[Severity] = Severity.WARNING

    def __init__(
        self, message: str, hint: str = "", *, suggestions: Sequence[str] = (), cause: str = "", **details: Any
    ) -> None:
        """*message*: what happened, with the value. *hint*: what to do; *suggestions*: what else may help.

        *cause*: what it goes back to; empty: the exception that it is raised from says that. *details*: JSON values for
        programs; `part`, the name of the model, plugin, file, ... that it is about, is the first of PARTS among them.
        """
        super().__init__(message)
        self.message, self.hint, self._more, self._cause = message, hint, tuple(suggestions), cause
        self.details: dict[str, Any] = details
        self.part = next((str(details[name]) for name in PARTS if details.get(name)), "")

    def __str__(self) -> str:
        ended = not self.hint or self.message.endswith((".", "!", "?", ":"))
        return f"{self.message}{'' if ended else '.'} {self.hint}".strip()

    @property
    def suggestions(self) -> tuple[str, ...]:
        """What to do, the likeliest to help first: the hint, then the others."""
        return (self.hint, *self._more) if self.hint else self._more

    @property
    def cause(self) -> str:
        """The root cause in words; empty: none is known beyond the message."""
        error = self.__cause__
        while error is not None and error.__cause__ not in (None, error, self):
            error = error.__cause__
        told = error.message if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
        return self._cause or (told if error is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """JSON form; `revive` turns it back."""
        return {
            "code": self.code,
            "category": self.category.value,
            "area": self.area.value,
            "severity": self.severity.name.lower(),
            "message": self.message,
            "hint": self.hint,
            "suggestions": list(self.suggestions),
            "cause": self.cause,
            "part": self.part,
            "details": self.details,
        }

    @staticmethod
    def revive(data: Mapping[str, Any]) -> Fault:
        """The fault that `as_dict` described; of its own class where that is known here."""
        cls = _by_code(Fault).get(str(data["code"])) or _foreign(data)
        revived, hint, said = cls.__new__(cls), str(data.get("hint", "")), data.get("suggestions", ())
        more, cause = said[1:] if hint else said, str(data.get("cause", ""))
        Fault.__init__(revived, str(data["message"]), hint, suggestions=more, cause=cause)
        revived.part, revived.details = str(data.get("part", "")), dict(data.get("details", {}))
        return revived


def _by_code(cls: type[Fault]) -> dict[str, type[Fault]]:
    found = {cls.code: cls}
    for sub in cls.__subclasses__():
        for code, known in _by_code(sub).items():
            found.setdefault(code, known)
    return found


def _foreign(data: Mapping[str, Any]) -> type[Fault]:
    """A class for a code that only the worker's plugin defines."""
    area, severity = Area(data.get("area", Fault.area)), Severity[str(data.get("severity", "warning")).upper()]
    own = {"code": str(data["code"]), "category": Category(data["category"]), "area": area, "severity": severity}
    return type("ForeignFault", (Fault,), own)


class Invalid(Fault):
    """The request or option itself is wrong."""

    code = "invalid_request"
    category, area, severity = Category.INVALID, Area.REQUEST, Severity.INFO


class Unsupported(Fault):
    """Well formed, but not something this model or backend does."""

    code = "unsupported"
    category, area, severity = Category.UNSUPPORTED, Area.REQUEST, Severity.INFO


class ContextExceeded(Invalid):
    """A prompt longer than the context. Never cut; details: prompt_tokens, context."""

    code = "context_length_exceeded"


class ModelNotFound(Fault):
    """No model of that name."""

    code = "model_not_found"
    category, area, severity = Category.NOT_FOUND, Area.MODEL, Severity.INFO


class ModelAmbiguous(ModelNotFound):
    """A name that several models could mean; details: candidates, their full names."""

    code = "model_ambiguous"


class UnknownFormat(Fault):
    """Files that no installed plugin recognises."""

    code = "unknown_format"
    category, area, severity = Category.UNSUPPORTED, Area.FORMAT, Severity.INFO


class InvalidModel(Fault):
    """Validation found something critical; details: findings."""

    code = "invalid_model"
    category, area, severity = Category.UNSUPPORTED, Area.FORMAT, Severity.CRITICAL


class NoBackend(Fault):
    """No backend passes the gates; details: refusals, one a candidate."""

    code = "no_backend"
    category, area = Category.UNSUPPORTED, Area.BACKEND


class EngineMissing(Fault):
    """The backend's engine is not installed; the hint quotes the command."""

    code = "engine_missing"
    category, area, severity = Category.UNAVAILABLE, Area.BACKEND, Severity.CRITICAL


class OutOfMemory(Fault):
    """The model does not fit; the hint says what would."""

    code = "out_of_memory"
    category, area = Category.UNAVAILABLE, Area.MEMORY


class LoadFailed(Fault):
    """The engine refused the model, or its worker died loading it."""

    code = "load_failed"
    category, area = Category.UNAVAILABLE, Area.BACKEND


class WorkerDied(Fault):
    """The process that ran the model ended in the middle of a request."""

    code = "worker_died"
    category, area = Category.UNAVAILABLE, Area.BACKEND


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
    area, severity = Area.PLUGIN, Severity.CRITICAL

    def __init__(self, plugin: str, hook: str, cause: BaseException | str) -> None:
        text = str(cause) if isinstance(cause, str | Fault) else f"{type(cause).__name__}: {cause}"
        super().__init__(
            f"plugin {plugin} failed in {hook}: {text.rstrip('.')}.",
            "" if isinstance(cause, Fault) else f"This is a bug in {plugin}; `anyform plugins` shows its version.",
            cause=text,
            plugin=plugin,
            hook=hook,
        )
        self.details["cause"] = text


class RefusedRequest(Fault):
    """Something that a request must not reach: a path, a private address, code from a model."""

    code = "refused"
    category, area, severity = Category.REFUSED, Area.REQUEST, Severity.INFO


class TooLarge(Fault):
    """A body or an input over a limit; details: limit."""

    code = "too_large"
    category, area, severity = Category.TOO_LARGE, Area.REQUEST, Severity.INFO
