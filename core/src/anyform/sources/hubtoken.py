"""Who a hub takes us for: the token of HF_TOKEN or of huggingface_hub's own store, never shown or logged."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyform.contract.errors import Area, Category, Fault, Invalid
from anyform.contract.facts import Severity, fact
from anyform.sources.hub import Hub

SECRET = 0o600


class NotLoggedIn(Fault):
    """There is no token."""

    code = "not_logged_in"
    category, area, severity = Category.REFUSED, Area.AUTHENTICATION, Severity.INFO


@fact
class Account:
    """The owner of a token."""

    name: str
    endpoint: str
    token_name: str = ""
    """What its owner called the token."""
    role: str = ""
    """What the token allows: read, write, fineGrained."""
    organizations: tuple[str, ...] = ()
    kept_in: str = ""
    """HF_TOKEN, or the file that it is stored in."""


def login(hub: Hub, token: str) -> Account:
    """Check *token* with the hub, then store it. Raises Invalid, TokenRefused, and what `Hub` does."""
    token = token.strip()
    if not token or not token.isprintable() or " " in token:
        raise Invalid("that is no token.", f"Make one at {hub.endpoint}/settings/tokens; it begins with hf_.")
    hub.account(token)
    _store(token)
    for path in _files():
        with suppress(OSError):
            path.chmod(SECRET)
    return _account(hub, hub.account(token), str(_files()[0]))


def logout() -> bool:
    """Forget all stored tokens; whether there were any. HF_TOKEN is beyond reach."""
    there = [path for path in _files() if path.exists()]
    for path in there:
        path.unlink()
    return bool(there)


def whoami(hub: Hub) -> Account:
    """The owner of the token in use. Raises NotLoggedIn, TokenRefused."""
    from huggingface_hub import get_token

    if not get_token():
        raise NotLoggedIn("nobody is logged in.", "Log in with `anyform login`, or set HF_TOKEN.")
    return _account(hub, hub.account(), "HF_TOKEN" if overrides() else str(_files()[0]))


def overrides() -> bool:
    """Whether a variable goes over what is stored."""
    from huggingface_hub import get_token

    stored = _files()[0]
    return bool(get_token()) and get_token() != (stored.read_text().strip() if stored.exists() else None)


def _store(token: str) -> None:
    """As `hf auth login` does, without its remarks."""
    import huggingface_hub
    from huggingface_hub.utils import logging

    told = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        huggingface_hub.login(token=token, add_to_git_credential=False, skip_if_logged_in=False)
    except ValueError:
        raise Invalid("that token is an organization's.", "Log in with a token of your own.") from None
    finally:
        logging.set_verbosity(told)


def _files() -> tuple[Path, Path]:
    """huggingface_hub's own: the token in use, and all tokens by name."""
    from huggingface_hub import constants

    return Path(constants.HF_TOKEN_PATH), Path(constants.HF_STORED_TOKENS_PATH)


def _account(hub: Hub, answer: Mapping[str, Any], kept_in: str) -> Account:
    auth = answer.get("auth")
    access = auth.get("accessToken") if isinstance(auth, Mapping) else None
    facts = access if isinstance(access, Mapping) else {}
    return Account(
        name=str(answer.get("name", "?")),
        endpoint=hub.endpoint,
        token_name=str(facts.get("displayName", "")),
        role=str(facts.get("role", "")),
        organizations=tuple(str(one.get("name")) for one in answer.get("orgs", ()) if isinstance(one, Mapping)),
        kept_in=kept_in,
    )
