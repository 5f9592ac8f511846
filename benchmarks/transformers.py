"""Measures anyform's transformers engine against `transformers serve` and sentence-transformers, in one run, on a CPU.

    python benchmarks/transformers.py                # chat of 1 and 8 clients; embeddings of 32 clients
    python benchmarks/transformers.py --size 0.6B --rounds 5

Chat: one folder of random weights in float32, as in chat.py; the peer once as it comes (one request after another) and
once with its continuous batching. Embeddings: as in vectors.py.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

import chat
import folders
import models
import vectors

SERVERS = ("anyform", "transformers-serve", "transformers-serve-continuous")


def main() -> int:
    """Run and print; with --require, 1 if a wanted ratio was missed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    missed = False
    if not options.only or options.only == "chat":
        folder = folders.path_of(options.size)
        print(f"{folder.name} · {options.threads} threads · {options.tokens} tokens an answer", flush=True)
        for clients in options.clients:
            made = chat.level(clients, folder, options)
            missed |= any(ratio["met"] is False for ratio in made["ratios"])
    if not options.only or options.only == "embeddings":
        compared = vectors.compare(vectors.minilm(), rounds=options.rounds, threads=options.threads)
        vectors.show(compared)
        missed |= not compared.met
    return 1 if options.require and missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.1B", choices=sorted(models.SHAPES))
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--only", choices=("chat", "embeddings"))
    parser.add_argument("--require", action="store_true", help="exit with 1 if a wanted ratio was missed")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.set_defaults(servers=list(SERVERS), context=512, requests=0, json=False)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
