"""Which memory domain of the NPU a model gets (base_domain_id): the first that no other model of this user has.

Rockchip advises different ones for two models, and 1 beside an .rknn model, where memory cannot be allocated
(airockchip/rknn-llm, issues 195, 262, 437); its driver has 16. Its users report that a domain holds 4 GiB and that a
larger model takes the next ones too; nothing of Rockchip's says so. Models of other users and programs are not seen
here, and of what sharing one does nothing is known beyond that it may run out of memory. The load option
base_domain_id overrides all this.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from anyform.contract.errors import LoadFailed
from anyform_rkllm.options import MOST_DOMAINS

FOLDER = "anyform-rkllm"
DOMAIN_BYTES = 4 << 30
"""What one holds, by reports of users."""


class Domain:
    """Numbers that are ours until `free`, or until this process ends in whatever way: the locks are the kernel's.

    number: the first of them.
    """

    def __init__(self, number: int, descriptors: list[int]) -> None:
        self.number, self._descriptors = number, descriptors

    def add(self, descriptor: int) -> None:
        self._descriptors.append(descriptor)

    def free(self) -> None:
        """Give them back. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def wanted(size_bytes: int) -> int:
    """How many a model of *size_bytes* takes."""
    return 1 + size_bytes // DOMAIN_BYTES


def take(folder: Path | None = None, most: int = MOST_DOMAINS, count: int = 1, first: int = 0) -> Domain:
    """The first *count* beside each other that are free, from *first* on.

    *folder*: of the lock files; default: the user's own in the temporary folder. Raises LoadFailed where there are
    none, and where the folder is not this user's alone.
    """
    own = _folder(folder or _usual())
    held = Domain(first, [])
    try:
        for number in range(first, most):
            descriptor = _lock(own, f"domain-{number}.lock")
            if descriptor is None:
                held.free()
                held.number = number + 1
                continue
            held.add(descriptor)
            if number - held.number + 1 == count:
                return held
        held.free()
    except BaseException:
        held.free()
        raise
    finally:
        os.close(own)
    several = f"{count} memory domains beside each other are" if count > 1 else "a memory domain is"
    raise LoadFailed(
        f"{several} needed, and of the NPU's {most} others are taken by models that run now.",
        "Unload one, or say which to share: load option base_domain_id=0.",
    )


def _usual() -> Path:
    try:
        return Path(tempfile.gettempdir()) / f"{FOLDER}-{os.getuid()}"
    except OSError as error:
        raise LoadFailed(
            f"there is no folder for the locks of the NPU's memory domains: {error.strerror}.",
            "Make /tmp writable, or give load option base_domain_id.",
        ) from error


def _folder(path: Path) -> int:
    """Open the folder, made where it is not there. Who may write to it could take our locks, or lead them elsewhere."""
    try:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unsafe(path, f"it cannot be opened as a folder: {error.strerror}") from error
    found = os.fstat(descriptor)
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        os.close(descriptor)
        whose = f"it is of user {found.st_uid}, with mode {stat.S_IMODE(found.st_mode):o}"
        raise _unsafe(path, f"{whose}; it must be of user {os.getuid()}, with mode 700")
    return descriptor


def _lock(folder: int, name: str) -> int | None:
    """The open and locked file; None: another has it. It stays there: a file that is removed could be locked twice."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise LoadFailed(f"{name} cannot be opened: {error.strerror}.", "Give load option base_domain_id.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise LoadFailed(f"{name} cannot be locked: {error.strerror}.", "Give load option base_domain_id.") from error
    return descriptor


def _unsafe(path: Path, why: str) -> LoadFailed:
    return LoadFailed(
        f"{path} cannot hold the locks of the NPU's memory domains: {why}.",
        "Remove it, or give load option base_domain_id.",
        path=str(path),
    )
