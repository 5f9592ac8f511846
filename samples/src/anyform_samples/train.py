"""Trains the decoder: `python -m anyform_samples.train [--minutes M | --tokens N] [--resume | --from DIR] [--out DIR]`.

Matrices are stepped by Muon and all else by AdamW, at a rate that falls to zero at the end of the budget. The same seed
and budget in tokens give the same model up to the rounding of the machine; a budget in minutes depends on its speed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from anyform_samples import tokenizer as bpe
from anyform_samples.answer import message_of
from anyform_samples.batches import Batch, Corpus, endless
from anyform_samples.corpus import held_out, render, right, segments, training
from anyform_samples.decoder import Decoder, Shape
from anyform_samples.greedy import answers

TOKENIZER_EXAMPLES = 20_000
MUON_RATE, ADAM_RATE = 0.01, 0.003
WARM_UP = 60
"""Steps over which the rate rises."""
FLAT = 0.3
"""Share of the budget after which the rate begins to fall."""
CHECKPOINT_S = 120.0
CHECKED = 8
"""Held-out questions of each category that are asked on the way."""


@dataclass
class Budget:
    """When training ends: after so many seconds of work, or so many tokens."""

    seconds: float = math.inf
    tokens: float = math.inf

    def used(self, seconds: float, tokens: int) -> float:
        """The share that is used, 0 to 1."""
        return min(1.0, max(seconds / self.seconds, tokens / self.tokens))


@dataclass
class Progress:
    """How far training is; kept in checkpoints."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    chunk: int = 0
    loss: float = 0.0


class Trainer:
    """One run: the decoder, its optimizers and its place in the corpus."""

    def __init__(
        self, out: Path, seed: int, batch_tokens: int, shares: dict[str, float], compiled: bool, rate: float = 1.0
    ) -> None:
        torch.manual_seed(seed)
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.seed, self.rate = out, seed, rate
        self.tokenizer = _tokenizer(out / "tokenizer.json", seed)
        self.decoder = Decoder(Shape())
        self.corpus = Corpus(seed, out / "tokenizer.json", batch_tokens, self.decoder.shape.context, shares)
        matrices = [p for n, p in self.decoder.named_parameters() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in self.decoder.named_parameters() if p.ndim != 2 or "embed" in n]
        self.optimizers = {
            "muon": torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01, momentum=0.95),
            "adam": torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
        }
        self.loss: Callable[..., Tensor] = torch.compile(self._loss, dynamic=True) if compiled else self._loss
        self.progress = Progress()

    def run(self, budget: Budget, check_s: float) -> None:
        """Train until *budget* is used, from wherever `progress` is."""
        begun = time.monotonic() - self.progress.seconds
        saved = checked = said = self.progress.seconds
        for chunk, batches in endless(self.corpus, self.progress.chunk):
            self.progress.chunk = chunk
            for batch in batches:
                used = budget.used(self.progress.seconds, self.progress.tokens)
                if used >= 1:
                    self.save()
                    return
                self._step(batch, used)
                now = self.progress.seconds = time.monotonic() - begun
                if now - said > 10:
                    said = now
                    self._tell(used)
                if now - saved > CHECKPOINT_S:
                    saved = now
                    self.save()
                if now - checked > check_s:
                    checked = now
                    _say(self.checked(CHECKED))

    def checked(self, per_category: int) -> str:
        """Greedy accuracy on held-out questions, as a line."""
        score: dict[str, list[bool]] = defaultdict(list)
        examples = held_out(per_category)
        prompts = [self.tokenizer.encode(render(example)[0]).ids for example in examples]
        found = answers(self.decoder, prompts, self.tokenizer.token_to_id(bpe.TURN_END))
        for example, ids in zip(examples, found, strict=True):
            text = self.tokenizer.decode(ids, skip_special_tokens=False)
            score[example.category].append(right(example, message_of(text)))
        every = list(itertools.chain(*score.values()))
        parts = " ".join(f"{category} {sum(marks) / len(marks):.0%}" for category, marks in score.items())
        return f"held out: {sum(every) / len(every):.1%} · {parts}"

    def save(self) -> None:
        """Write the checkpoint; the one before stays whole until this one is."""
        state = {
            "decoder": self.decoder.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "progress": asdict(self.progress),
            "shape": asdict(self.decoder.shape),
            "seed": self.seed,
        }
        part = self.out / "checkpoint.part"
        torch.save(state, part)
        os.replace(part, self.out / "checkpoint.pt")

    def resume(self) -> None:
        """Go on from the checkpoint, at the start of the chunk after the one that was under way."""
        state: dict[str, Any] = torch.load(self.out / "checkpoint.pt", weights_only=True)
        self.decoder.load_state_dict(state["decoder"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.progress = Progress(**state["progress"])
        self.progress.chunk += 1

    def begin_from(self, folder: Path) -> None:
        """Begin with the weights of the exported model in *folder*, whose tokenizer must be this one."""
        halves = load_file(folder / "model.safetensors")
        self.decoder.load_state_dict({name.removeprefix("model."): half.float() for name, half in halves.items()})

    def _step(self, batch: Batch, used: float) -> None:
        rate = self.rate * min(1.0, (self.progress.step + 1) / WARM_UP, (1 - used) / (1 - FLAT))
        for optimizer, top in zip(self.optimizers.values(), (MUON_RATE, ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = top * rate
        tokens = torch.tensor(batch.tokens)
        places = torch.tensor(batch.learnt).flatten().nonzero()[:, 0]
        loss = self.loss(tokens[:, :-1], places, tokens[:, 1:].flatten()[places])
        loss.backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
        progress = self.progress
        progress.step += 1
        progress.tokens += tokens.numel()
        progress.loss += (loss.item() - progress.loss) * max(0.02, 1 / progress.step)

    def _loss(self, tokens: Tensor, places: Tensor, wanted: Tensor) -> Tensor:
        hidden = self.decoder(tokens, torch.bfloat16).flatten(0, 1)[places]
        return F.cross_entropy(self.decoder.logits(hidden).float(), wanted)

    def _tell(self, used: float) -> None:
        p = self.progress
        left = p.seconds * (1 - used) / max(used, 1e-6)
        _say(
            f"step {p.step} · {p.tokens / 1e6:.2f} M tokens · loss {p.loss:.4f} · {p.tokens / p.seconds:,.0f} tokens/s"
            f" · {used:.0%} · {left / 60:.1f} min left"
        )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _tokenizer(path: Path, seed: int) -> Tokenizer:
    if not path.exists():
        examples = itertools.islice(training(seed), TOKENIZER_EXAMPLES)
        bpe.make("".join(text for text, _ in segments(example)) for example in examples).save(str(path))
    return Tokenizer.from_file(str(path))


def main(arguments: list[str] | None = None) -> int:
    """Train, say how it went, and leave `checkpoint.pt` and `tokenizer.json` in the folder."""
    parser = argparse.ArgumentParser(prog="python -m anyform_samples.train", description="Train the sample decoder.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="stop after so long (default: 60)")
    length.add_argument("--tokens", type=float, help="stop after so many tokens")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    begin.add_argument("--from", type=Path, dest="begun", metavar="DIR", help="begin with an exported model's weights")
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual rates, such as 0.5 with --from")
    parser.add_argument("--out", type=Path, default=Path(".samples/sample"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch-tokens", type=int, default=6144)
    parser.add_argument("--check-minutes", type=float, default=8.0, help="how often held-out questions are asked")
    parser.add_argument("--share", action="append", default=[], metavar="CATEGORY=SHARE", help="keep so much of it")
    parser.add_argument("--no-compile", action="store_true", help="for machines without a C++ compiler; slower")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    shares = {name: float(share) for name, _, share in (item.partition("=") for item in asked.share)}
    if asked.begun:
        asked.out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(asked.begun / "tokenizer.json", asked.out / "tokenizer.json")
    trainer = Trainer(asked.out, asked.seed, asked.batch_tokens, shares, not asked.no_compile, asked.rate)
    if asked.resume:
        trainer.resume()
    elif asked.begun:
        trainer.begin_from(asked.begun)
    budget = Budget(tokens=asked.tokens) if asked.tokens else Budget(seconds=(asked.minutes or 60.0) * 60)
    trainer.run(budget, asked.check_minutes * 60)
    p = trainer.progress
    _say(f"trained {p.tokens / 1e6:.1f} M tokens in {p.seconds / 60:.1f} min, loss {p.loss:.4f}")
    _say(trainer.checked(30))
    return 0


if __name__ == "__main__":
    sys.exit(main())
