"""Findings about models that hear and speak: their codes are FORMAT.what, given whole."""

from __future__ import annotations

from anyform.finding import Family

AGAIN = "Copy or download the file again."
_ANY = Family("")
critical, warning, note = _ANY.critical, _ANY.warning, _ANY.note
