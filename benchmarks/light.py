"""Installs `anyform[onnx]` from this clone into an environment of its own: its size, its import time, and its tests.

    python benchmarks/light.py                         # installs, measures, runs the tests of text and vectors
    python benchmarks/light.py --python python3.13     # with another Python
    python benchmarks/light.py --keep light            # leaves it there; a second run brings ours up to date

The size is what pip adds to an empty environment, compiled modules included: the sum of all files before and after.
The import is what a worker does before it opens a model, and Python's own start is taken off: the median of some runs,
in processes of their own; on a busy machine the processor's time says more. torch and transformers must not be there.
Nothing in the environment is this clone's: all is installed. Tests that compare with torch are skipped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
LARGEST_MB, LONGEST_S = 300, 0.5
RUNS = 7
OURS = (ROOT / "core", ROOT / "plugins" / "onnx")
BUILT = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
"""What setuptools leaves in a clone, and would put into the next wheel, too."""
WORKER = (
    "anyform.workers.worker",
    "anyform_onnx.plugin",
    "anyform_onnx.backend",
    "anyform_onnx.genai.backend",
    "anyform_onnx.loading",
    "anyform_onnx.genai.loading",
    "anyform_onnx.textloading",
)
"""What a worker imports that opens a model which generates text, with either engine."""
TESTS = ("test_engine_text.py", "test_engine_decoder.py", "test_engine_encoder.py", "test_engine_sentence.py",
         "test_engine_session.py")  # fmt: skip
FOR_TESTS = ("pytest", "pytest-timeout", "hypothesis", "httpx")
TIMED = """
import time
began, worked = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - began, time.process_time() - worked)
"""


def main() -> int:
    """Install, measure, test; 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python to make the environment with")
    parser.add_argument("--keep", type=Path, help="where to make it, and leave it")
    parser.add_argument("--no-tests", action="store_true", help="measure alone")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "light"
        return measure(args.python, folder.absolute(), tests=not args.no_tests)


def measure(python: str, folder: Path, *, tests: bool) -> int:
    """One environment, made if it is not there."""
    own = folder / "bin" / "python" if sys.platform != "win32" else folder / "Scripts" / "python.exe"
    if own.exists():
        with copies(*OURS) as ours:
            run([str(own), "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall", *map(str, ours)])
    else:
        make(python, folder, own)
    found = json.loads((folder / "light.json").read_text(encoding="utf-8"))
    timed = [told(own, TIMED.format(", ".join(WORKER))).split() for _ in range(RUNS + 1)][1:]
    walls, worked = (sorted(map(float, times)) for times in zip(*timed, strict=True))
    heavy = [
        name
        for name in ("torch", "transformers")
        if told(own, f"import importlib.util as u; print(u.find_spec('{name}'))") != "None"
    ]
    right = [
        verdict("installed by pip", found["installed_mb"], LARGEST_MB, "MB"),
        verdict("imported by a worker", median(walls), LONGEST_S, "s"),
    ]
    print(f"  {walls[0]:.3f} to {walls[-1]:.3f} s, of it {median(worked):.3f} s of a processor's time")
    print(f"the whole environment: {found['whole_mb']:.0f} MB, with the pip that every environment has")
    for name, size in found["largest"]:
        print(f"  {size:5.0f} MB  {name}")
    print(f"torch and transformers: {', '.join(heavy) or 'neither is there'}")
    right.append(not heavy)
    if tests:
        right.append(tested(own))
    return 0 if all(right) else 1


def make(python: str, folder: Path, own: Path) -> None:
    """The environment as a user makes it, and its sizes in light.json."""
    run([python, "-m", "venv", str(folder)])
    empty = size_mb(folder)
    pip = [
        str(own),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    with copies(*OURS) as (core, plugin):
        run([*pip, str(core), f"{plugin}[engine]"])
    site = Path(told(own, "import sysconfig; print(sysconfig.get_path('purelib'))"))
    sizes = sorted(((size_mb(one), one.name) for one in site.iterdir()), reverse=True)
    whole = size_mb(folder)
    facts = {"installed_mb": whole - empty, "whole_mb": whole, "largest": [(name, size) for size, name in sizes[:12]]}
    (folder / "light.json").write_text(json.dumps(facts), encoding="utf-8")


@contextmanager
def copies(*folders: Path) -> Iterator[list[Path]]:
    """Copies of *folders*, to be built where nothing was built before."""
    with tempfile.TemporaryDirectory() as place:
        yield [Path(shutil.copytree(one, Path(place) / one.name, ignore=BUILT)) for one in folders]


def tested(own: Path) -> bool:
    """Whether the plugin's tests pass in the environment, with what they need beside it; those that want torch skip."""
    with copies(ROOT / "samples") as samples:
        needed = [*map(str, samples), *FOR_TESTS]
        run([str(own), "-m", "pip", "install", "-q", "--constraint", str(ROOT / "constraints.txt"), *needed])
    folder = ROOT / "plugins" / "onnx" / "tests"
    files = [str(folder / name) for name in TESTS if (folder / name).exists()]
    options = ["-q", "-p", "no:cacheprovider", "-rs", "--rootdir", str(folder), "-c", str(ROOT / "pyproject.toml")]
    return subprocess.run([str(own), "-m", "pytest", *options, *files], cwd=folder, check=False).returncode == 0


def size_mb(path: Path) -> float:
    """What a file or folder takes on the disk, in MB of 1,000,000 bytes; links are not followed."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_size for one in files) / 1e6


def verdict(what: str, value: float, most: float, unit: str) -> bool:
    """Print *value* beside what it may be; whether it is that."""
    print(f"{what}: {value:.3g} {unit} (wanted: {most:g} or less): {'as wanted' if value <= most else 'TOO MUCH'}")
    return value <= most


def told(own: Path, code: str) -> str:
    return run([str(own), "-c", code]).strip()


def run(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
