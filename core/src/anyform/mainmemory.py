"""How much main memory this process may still take, for builtin plugins and backends. Linux; needs nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def free_bytes(root: Path = Path("/")) -> int:
    """Main memory that is free now; 0: unknown, as everywhere but on Linux."""
    return linux(root)[1]


def linux(root: Path) -> tuple[int, int]:
    """(total, free) bytes from /proc and /sys under *root*. Limits of the control group count as the machine's own."""
    memory = {
        key: int(value) * 1024 for key, value in re.findall(r"^(\w+):\s+(\d+) kB", read(root / "proc/meminfo"), re.M)
    }
    total = memory.get("MemTotal", 0)
    free = memory.get("MemAvailable", memory.get("MemFree", 0))
    for limit, used in _limits(root):
        if limit < total:
            total, free = limit, min(free, max(0, limit - used))
    return total, min(free, total)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes in use that cannot be reclaimed) of each control group that this process lies in.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and .../cgroup-v1/memory.html
    """
    for folder in cgroups(root, ""):
        yield from _limit(folder, "memory.max", "memory.current", "inactive_file")
    for folder in cgroups(root, "memory"):
        yield from _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _limit(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[tuple[int, int]]:
    said = read(folder / limit).strip()
    if said.isdigit():
        cache = re.search(rf"^{reclaimable} (\d+)$", read(folder / "memory.stat"), re.M)
        in_use = int(read(folder / used).strip() or 0) - (int(cache.group(1)) if cache else 0)
        yield int(said), max(0, in_use)


def cgroups(root: Path, controller: str) -> list[Path]:
    """The control group of this process, and its ancestors. *controller*: "" for version 2, else one of version 1."""
    top = root / "sys/fs/cgroup" / controller
    for line in read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            inside = top / path.lstrip("/")
            return [inside, *(parent for parent in inside.parents if parent.is_relative_to(top))]
    return []


def read(path: Path) -> str:
    """The text of a file of the system; empty where there is none."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
