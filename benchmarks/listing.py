"""How long listing a thousand models takes: cold, with nothing remembered, and warm. `python benchmarks/listing.py`

The models are GGUF files with vocabularies of real sizes and holes instead of weights, no two alike: half of them in a
models folder of owners and repositories, the others in the Hugging Face cache and in Ollama's store. What is timed is
the command itself, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from anyform.testing.gguf import llama, write_gguf

VOCABULARIES = (32_000, 49_152, 128_256, 151_936)
"""Llama 2, SmolLM, Llama 3, Qwen 3."""
LIMITS_S = {"cold": 10.0, "warm": 1.0}
RUNS = 5
"""Runs of what is quick, of which the median counts."""
STORE = re.compile(r" (huggingface|lmstudio|ollama) ")
NAME = b"model 000000"
LONGER = b", one of a series of many models"
"""Real models differ in size. As long as the alignment, so that the weights stay where they belong."""


def main() -> int:
    """Write the models, list them, print the times; 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000, metavar="N")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write them (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder, prefix="anyform-listing-") as folder:
        home = Path(folder)
        nothing = median(home, 0)
        size = write(home, args.models)
        print(f"{args.models} models, {size / 1e9:.1f} GB of vocabularies, {os.cpu_count()} CPU cores")
        times = {"cold": listed(home, args.models), "warm": median(home, args.models)}
    for name, (seconds, busy) in times.items():
        print(f"{name}     {seconds:6.2f} s, {busy:6.2f} s of a CPU core  (limit {LIMITS_S[name]:g} s)")
    print(f"nothing  {nothing[0]:6.2f} s, {nothing[1]:6.2f} s of a CPU core  (the same command without any model)")
    return int(any(seconds > LIMITS_S[name] for name, (seconds, _) in times.items()))


def median(home: Path, count: int) -> tuple[float, float]:
    """`listed`, again and again."""
    return sorted(listed(home, count) for _ in range(RUNS))[RUNS // 2]


def listed(home: Path, count: int) -> tuple[float, float]:
    """Seconds that `anyform list` takes, and seconds that it computes; it must find *count* models."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANYFORM_", "HF_", "XDG_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
    folders = {"HOME": home, "USERPROFILE": home, "OLLAMA_MODELS": home / "ollama", "HF_HOME": home / "hf"}
    folders["PYTHONPYCACHEPREFIX"] = home / "bytecode"
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "anyform", "list"],
        env={**kept, **{name: str(folder) for name, folder in folders.items()}},
        cwd=home,
        capture_output=True,
        check=True,
    )
    seconds, after = time.perf_counter() - began, os.times()
    rows = [row for row in done.stdout.decode().splitlines() if STORE.search(row)]  # packages may bring more
    broken = [row for row in rows if "broken" in row]
    if len(rows) != count or broken:
        raise SystemExit(f"{len(rows)} of {count} models were found, {len(broken)} of them broken: {broken[:1]}.")
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, busy


def write(home: Path, count: int) -> int:
    """*count* models in the stores below *home*; their size in bytes, without the holes."""
    headers = [header(home / "pattern.gguf", tokens) for tokens in VOCABULARIES]
    for number in range(count):
        head, size = headers[number // 4 % len(headers)]
        path = place(home, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        name = b"model %06d" % number + LONGER * (number % 50)
        with path.open("wb") as file:
            file.write(head.replace(string(NAME), string(name), 1))
            file.truncate(file.tell() + size)
    return sum(len(headers[number // 4 % len(headers)][0]) for number in range(count))


def string(text: bytes) -> bytes:
    """*text* as GGUF has it."""
    return struct.pack("<Q", len(text)) + text


def header(path: Path, tokens: int) -> tuple[bytes, int]:
    """The header of a llama with so many tokens, called NAME, and the bytes of its weights."""
    keys, tensors = llama(tokenizer="bpe")
    words, merges = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.merges"]
    more = [f"{number:x}" + "_" * (1 + number % 5) for number in range(tokens - len(words))]
    extra = {
        "general.name": NAME.decode(),
        "tokenizer.ggml.tokens": [*words, *more],
        "tokenizer.ggml.token_type": [*keys["tokenizer.ggml.token_type"], *[1] * len(more)],
        "tokenizer.ggml.merges": [*merges, *(f"{word[: len(word) // 2]} {word[len(word) // 2 :]}" for word in more)],
    }
    wide = {"token_embd.weight", "output.weight"}
    holes = [
        replace(one, shape=(one.shape[0], tokens), data=bytes(2 * one.shape[0] * tokens)) if one.name in wide else one
        for one in tensors
    ]
    write_gguf(path, keys | extra, holes)
    weights = sum(-(-len(tensor.data) // 32) * 32 for tensor in holes)
    head = path.read_bytes()[:-weights]
    path.unlink()
    return head, weights


def place(home: Path, number: int) -> Path:
    """Where the model of that number lies."""
    if number % 4 == 0:
        digest = f"{number:064x}"
        manifest = home / f"ollama/manifests/registry.ollama.ai/library/model{number}/latest"
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": 1}
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": [layer]}))
        return home / f"ollama/blobs/sha256-{digest}"
    if number % 4 == 1:
        repository = home / f"hf/hub/models--owner{number % 7}--model{number}"
        link = repository / "snapshots" / f"{number:040x}" / f"model{number}-F16.gguf"
        link.parent.mkdir(parents=True)
        link.symlink_to(Path("../../blobs") / f"{number:064x}")
        return repository / "blobs" / f"{number:064x}"
    return home / f".lmstudio/models/owner{number % 7}/model{number}/model{number}-F16.gguf"


if __name__ == "__main__":
    sys.exit(main())
