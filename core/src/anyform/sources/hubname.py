"""Names of what lies on a hub: owner/repo, with a variant and a revision."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote

from anyform.contract.errors import Invalid
from anyform.contract.facts import fact

PREFIXES = ("https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/", "hf://")
PART = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w])?"
NAME = re.compile(
    rf"(?P<repository>{PART}/{PART})(?:@(?P<revision>[\w./-]{{1,200}}))?(?::(?P<variant>[\w. -]{{1,96}}))?", re.ASCII
)
PAGE = re.compile(
    r"(?P<repository>[^/?#]+/[^/?#]+)(?:/(?P<kind>tree|blob|resolve)/(?P<revision>[^/?#]+)(?:/(?P<path>[^?#]*))?)?"
    r"/?(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
"""A page of a repository, as a browser's address line has it: its files, one of its folders, or one file."""
MAIN = "main"


@fact
class Reference:
    """What a user named."""

    repository: str
    """owner/repo."""
    variant: str = ""
    """Such as Q8_0, or the name of one of its files without ending; empty: the preferred one."""
    revision: str = MAIN
    """A branch, tag or commit."""

    def __str__(self) -> str:
        """The name to type."""
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{self.repository}{revision}{':' + self.variant if self.variant else ''}"


def bare(name: str) -> str:
    """*name* without what only says that it is a repository of the Hugging Face hub.

    The address of a page there becomes the name of what it shows: `owner/repo@revision:file`, without main and ending.
    """
    return next((_shown(name.removeprefix(prefix)) for prefix in PREFIXES if name.startswith(prefix)), name)


def _shown(address: str) -> str:
    found = PAGE.fullmatch(address)
    if found is None or not (found["kind"] or found["query"]):
        return address.rstrip("/")
    revision = unquote(found["revision"] or MAIN)
    path = PurePosixPath(unquote(found["path"] or ""))
    file = PurePosixPath(parse_qs(found["query"] or "").get("show_file_info", [""])[0])
    variant = path.name if found["kind"] == "tree" and not file.name else (file if file.name else path).stem
    return str(Reference(repository=found["repository"], variant=variant, revision=revision))


def parsed(text: str) -> Reference | None:
    """The reference that `owner/repo`, `owner/repo:Q8_0`, `owner/repo@v1:Q8_0` or such with `hf.co/` before it means,
    or the address of a page of the hub.

    None for what cannot be one.
    """
    found = NAME.fullmatch(bare(text).rstrip("/"))
    if found is None or ".." in found["repository"] or "--" in found["repository"]:
        return None
    variant = found["variant"] or ""
    return Reference(
        repository=found["repository"],
        variant="" if variant == "latest" else variant,
        revision=found["revision"] or MAIN,
    )


def require(text: str) -> Reference:
    """`parsed`, or Invalid."""
    found = parsed(text)
    if found is None:
        raise Invalid(f"{text[:200]!r} does not name a repository.", "Name one as owner/repo or owner/repo:Q4_K_M.")
    return found
