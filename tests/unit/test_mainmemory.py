"""What is free, as the files of a made-up system say it."""

from __future__ import annotations

from pathlib import Path

from anyform import mainmemory

MIB = 1 << 20


def system(root: Path, **files: str) -> Path:
    """*files*: by path, with __ for slashes and _dot_ for dots."""
    for name, text in files.items():
        place = root / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="ascii")
    return root


MEMINFO = "MemTotal:  8388608 kB\nMemFree: 1048576 kB\nMemAvailable: 4194304 kB\n"


def test_what_can_be_handed_out_is_free(tmp_path: Path) -> None:
    assert mainmemory.linux(system(tmp_path, proc__meminfo=MEMINFO)) == (8192 * MIB, 4096 * MIB)
    assert mainmemory.free_bytes(tmp_path) == 4096 * MIB


def test_the_limit_of_an_outer_group_counts_and_its_cache_is_free(tmp_path: Path) -> None:
    inner = "sys__fs__cgroup__outer__inner__memory_dot_"
    outer = "sys__fs__cgroup__outer__memory_dot_"
    system(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/outer/inner\n",
        **{
            f"{inner}max": "max\n",
            f"{outer}max": f"{1024 * MIB}\n",
            f"{outer}current": f"{700 * MIB}\n",
            f"{outer}stat": f"anon 5\ninactive_file {200 * MIB}\n",
        },
    )
    assert mainmemory.linux(tmp_path) == (1024 * MIB, 524 * MIB)


def test_nothing_is_known_of_a_system_without_such_files(tmp_path: Path) -> None:
    assert mainmemory.free_bytes(tmp_path) == 0
