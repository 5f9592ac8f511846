"""What can go wrong between here and a hub, as faults; and how huggingface_hub's exceptions become them."""

from __future__ import annotations

from anyform.contract.errors import Area, Category, Fault
from anyform.contract.facts import Severity

LONG_WAIT_S = 60.0
"""A hub that asks for more patience than this is not waited for."""


class HubFault(Fault):
    """A hub did not do what was asked. details: again=True where the same request may succeed a little later."""

    code = "hub_failed"
    category, area = Category.UNAVAILABLE, Area.NETWORK

    @property
    def again(self) -> bool:
        return bool(self.details.get("again"))


class HubOffline(HubFault):
    """Nothing may be fetched: --offline or HF_HUB_OFFLINE."""

    code = "offline"
    severity = Severity.INFO


class HubUnreachable(HubFault):
    """No connection, or one that broke."""

    code = "hub_unreachable"


class HubTimeout(HubFault):
    """The hub stopped answering."""

    code = "hub_timeout"


class RateLimited(HubFault):
    """Too many requests; details: retry_after_s."""

    code = "rate_limited"
    category = Category.BUSY


class RepositoryMissing(HubFault):
    """No such repository, revision or file; or a private one."""

    code = "repository_not_found"
    category, area, severity = Category.NOT_FOUND, Area.MODEL, Severity.INFO


class Gated(HubFault):
    """The repository's owner wants to know who reads it."""

    code = "gated_repository"
    category, area, severity = Category.REFUSED, Area.AUTHENTICATION, Severity.INFO


class TokenRefused(HubFault):
    """The hub does not know the token."""

    code = "token_refused"
    category, area, severity = Category.REFUSED, Area.AUTHENTICATION, Severity.INFO


class Corrupt(HubFault):
    """What came is not what the hub says the file is."""

    code = "corrupt_download"


class DiskFull(HubFault):
    """No room for the files; details: needed_bytes, free_bytes."""

    code = "disk_full"
    area, severity = Area.STORAGE, Severity.CRITICAL


class Cancelled(HubFault):
    """A pull was stopped; what has come is kept for the next."""

    code = "cancelled"
    severity = Severity.INFO


def offline(what: str) -> HubOffline:
    return HubOffline(
        f"{what} cannot be looked up: the hub is not asked, by --offline, the setting `offline` or HF_HUB_OFFLINE.",
        "Go online, or name a model that is here: `anyform list`.",
    )


def stopped(repository: str) -> Cancelled:
    return Cancelled(f"the pull of {repository} was stopped.", "Pull again to go on: what has come is kept.")


def translated(error: Exception, repository: str, endpoint: str, name: str = "") -> Fault:
    """The fault that *error*, raised by huggingface_hub or its HTTP client, means. *name*: the file asked for."""
    from huggingface_hub import errors

    what = f"{name} of {repository}" if name else repository
    if isinstance(error, Fault):
        return error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline(what)
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error, repository, endpoint, name)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "TimeoutException" in kinds or isinstance(error, TimeoutError):
        return HubTimeout(
            f"{endpoint} stopped answering while {what} was read.",
            "Try again: what has come is kept. A slow line may need a larger HF_HUB_DOWNLOAD_TIMEOUT (seconds).",
            again=True,
        )
    if "TransportError" in kinds:
        broke = bool({"ReadError", "RemoteProtocolError"} & kinds)
        return HubUnreachable(
            f"{f'the connection to {endpoint} broke' if broke else f'nothing answers at {endpoint}'}: {_said(error)}.",
            "Check the network and HF_ENDPOINT, and try again: what has come is kept.",
            again=True,
        )
    if isinstance(error, errors.HFValidationError):
        return RepositoryMissing(f"{repository!r} is no repository's name.", "Name one as owner/repo.")
    return HubFault(f"{endpoint} answered for {what} with something else than expected: {_said(error)}.")


def _refused(error: Exception, repository: str, endpoint: str, name: str) -> Fault:
    """The fault for an answer with a status of 400 or more."""
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    status = int(getattr(response, "status_code", 0))
    what = f"{name} of {repository}" if name else repository
    if isinstance(error, errors.GatedRepoError):
        return _gated(status, repository, endpoint)
    if isinstance(error, errors.RevisionNotFoundError):
        return RepositoryMissing(f"{repository} has no such revision.", f"Its revisions: {endpoint}/{repository}/tree.")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return RepositoryMissing(f"{repository} has no file {name}.", "Pull again: the repository may have changed.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return missing(repository, endpoint)
    if status == 401:
        return TokenRefused(
            f"{endpoint} refuses the token.", "Log in anew with `anyform login`; HF_TOKEN goes over what is stored."
        )
    if status == 403:
        return Gated(f"{endpoint} does not let this account read {what}.", "Ask its owner, or use another token.")
    if status == 429:
        return _limited(response, endpoint)
    return HubFault(
        f"{endpoint} failed with status {status} for {what}.",
        "Try again later: what has come is kept.",
        again=status in (408, 500, 502, 503, 504),
    )


def missing(repository: str, endpoint: str, near: tuple[str, ...] = ()) -> RepositoryMissing:
    """No such repository; *near*: others with such a name."""
    hint = f"Nearest: {', '.join(near)}." if near else "Check the spelling; a private one needs `anyform login`."
    return RepositoryMissing(f"{endpoint} has no model repository {repository!r}.", hint)


def _gated(status: int, repository: str, endpoint: str) -> Gated:
    if status == 401:
        return Gated(
            f"{repository} is gated: only who accepted its terms may read it.",
            f"Accept them at {endpoint}/{repository}, then `anyform login` and pull again.",
        )
    return Gated(
        f"{repository} is gated, and this account may not read it yet.",
        f"Ask for access at {endpoint}/{repository}; `anyform whoami` says which account it is.",
    )


def _limited(response: object, endpoint: str) -> RateLimited:
    from huggingface_hub.utils import parse_ratelimit_headers

    headers = getattr(response, "headers", {})
    info = parse_ratelimit_headers(headers)
    stated = headers.get("retry-after", "")
    wait_s = float(info.reset_in_seconds if info else stated if stated.isdecimal() else 0)
    when = f"in {wait_s:.0f} s" if wait_s else "in a few minutes"
    return RateLimited(
        f"{endpoint} takes no more requests from here for now.",
        f"Try again {when}; logging in (`anyform login`) allows more.",
        again=wait_s <= LONG_WAIT_S,
        retry_after_s=wait_s,
    )


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__
