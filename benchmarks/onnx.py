"""Measures the ONNX engines against onnxruntime-genai itself, transformers and sentence-transformers, in one run.

    python benchmarks/onnx.py                      # text of 1 and 8 clients; embeddings of 32 clients, float32 and int8
    python benchmarks/onnx.py --only text --rounds 5

Text: one folder of random weights in float32 (folders.py), and what onnxruntime-genai's own builder makes of it. The
peer is called in a process of its own, without HTTP: its Generator by one client, its Engine by several; anyform is
asked over HTTP. Embeddings: all-MiniLM-L6-v2, exported by torch, as in vectors.py; the int8 one is made of it by
onnxruntime's dynamic quantization, and what it loses is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import chat
import folders
import models
import vectors

HERE = Path(__file__).resolve().parent
WANTED = {"genai": 0.9, "vectors": 1.2}
CLOSE = 1e-4
PEER, PAIRS = "onnxruntime-genai called directly", (
    ("anyform-genai", "onnxruntime-genai called directly", WANTED["genai"]),
    ("anyform-onnxruntime", "onnxruntime-genai called directly", None),
    ("anyform-genai", "anyform-transformers", None),
    ("anyform-onnxruntime", "anyform-transformers", None),
)  # fmt: skip
"""Whose tokens a second are divided by whose, and what is wanted."""


def main() -> int:
    """Run and print; with --require, 1 if a wanted ratio was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    missed = False
    if options.only in (None, "text"):
        source = folders.path_of(options.size)
        made = built(source)
        print(f"{made.name} · {options.threads} threads · {options.tokens} tokens an answer", flush=True)
        for clients in options.clients:
            missed |= not level(clients, source, made, options)
    if options.only in (None, "embeddings"):
        missed |= not embeddings(options)
    return 1 if options.require and missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.1B", choices=sorted(models.SHAPES))
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--only", choices=("text", "embeddings"))
    parser.add_argument("--require", action="store_true", help="exit with 1 if a wanted ratio was missed")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.set_defaults(context=512, requests=0)
    return parser.parse_args()


def built(source: Path) -> Path:
    """What onnxruntime-genai's builder makes of *source*, in float32; made on first use."""
    return _made(
        source.with_name(f"{source.name}-genai"),
        lambda partial: _python(
            *("-m", "onnxruntime_genai.models.builder", "-i", source, "-o", partial, "-p", "fp32", "-e", "cpu"),
            *("-c", partial / "cache"),
        ),
    )


def _made(target: Path, make: Callable[[Path], None]) -> Path:
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}.partial")
        try:
            make(partial)
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def _python(*arguments: object) -> None:
    """Run Python outside of this folder, whose modules have the names of packages."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def level(clients: int, source: Path, made: Path, options: argparse.Namespace) -> bool:
    """All rounds with so many clients, and the ratios; whether all that is wanted is met."""
    sides: dict[str, Callable[[int], float]] = {
        PEER: lambda seed: _direct(made, clients, seed, options),
        "anyform-genai": lambda seed: _served("anyform-genai", made, clients, seed, options),
        "anyform-onnxruntime": lambda seed: _served("anyform-onnxruntime", made, clients, seed, options),
        "anyform-transformers": lambda seed: _served("anyform-transformers", source, clients, seed, options),
    }
    rounds = []
    for number in range(options.rounds):
        turn = list(sides) if number % 2 == 0 else list(sides)[::-1]
        rounds.append({name: sides[name](number) for name in turn})
    print(f"\n{clients} client{'s' if clients > 1 else ''}, tokens/s")
    for name in sides:
        print(f"  {name:36}{statistics.median(one[name] for one in rounds):9.1f}")
    met = True
    for ours, theirs, wanted in PAIRS:
        each = [one[ours] / one[theirs] for one in rounds]
        met &= wanted is None or statistics.median(each) >= wanted
        said = "" if wanted is None else f" · wanted {wanted}x: {_verdict(statistics.median(each) >= wanted)}"
        shown = " ".join(f"{one:.2f}" for one in each)
        print(f"  {ours} / {theirs}: {statistics.median(each):.2f}x (rounds: {shown}){said}", flush=True)
    return met


def _served(name: str, model: Path, clients: int, seed: int, options: argparse.Namespace) -> float:
    return chat.measure(name, clients, model, options, seed).tokens_per_s


def _direct(made: Path, clients: int, seed: int, options: argparse.Namespace) -> float:
    """The same prompts, in a process that holds nothing but the library."""
    each = 4 if clients == 1 else 2
    prompts = chat.distinct_prompts(seed)
    tasks = [list(islice(prompts, each)) for _ in range(clients)]
    command = [
        *(sys.executable, "-P", str(HERE / "genai.py"), str(made), "--clients", str(clients)),
        *("--tokens", str(options.tokens), "--context", str(options.context), "--threads", str(options.threads)),
    ]
    done = subprocess.run(command, input=json.dumps(tasks), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the peer ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return float(found["tokens_per_s"])


EXPORT = """
import sys, torch, transformers
source, target = sys.argv[1:]
model = transformers.AutoModel.from_pretrained(source, attn_implementation="sdpa").eval()
given = {name: torch.ones(2, 7, dtype=torch.long) for name in ("input_ids", "attention_mask", "token_type_ids")}
sides = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
program = torch.onnx.export(
    model, (), kwargs=given, dynamo=True, dynamic_shapes={name: sides for name in given}, input_names=list(given),
    output_names=["last_hidden_state", "pooler_output"], external_data=False, optimize=True,
)
program.save(target)
"""
QUANTIZE = """
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic
quantize_dynamic(sys.argv[1], sys.argv[2], weight_type=QuantType.QInt8, per_channel=True)
"""


def embeddings(options: argparse.Namespace) -> bool:
    """float32 and int8, each against sentence-transformers; whether what is wanted is met."""
    source = vectors.minilm()
    exact = _made(models.FOLDER / "minilm-onnx", lambda partial: _exported(source, partial))
    small = _made(models.FOLDER / "minilm-onnx-int8", lambda partial: _quantized(exact, partial))
    print()
    first = vectors.compare(source, rounds=options.rounds, threads=options.threads, served=exact)
    vectors.show(first, WANTED["vectors"], CLOSE)
    second = vectors.compare(source, rounds=options.rounds, threads=options.threads, served=small)
    vectors.show(second, WANTED["vectors"], None)
    return first.meets(WANTED["vectors"], CLOSE) and second.ratio >= WANTED["vectors"]


def _exported(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "__pycache__"))
    _python("-c", EXPORT, source, target / "model.onnx")


def _quantized(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.onnx"))
    _python("-c", QUANTIZE, source / "model.onnx", target / "model.onnx")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
