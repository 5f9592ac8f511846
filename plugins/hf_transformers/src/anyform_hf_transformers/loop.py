"""The text toolkit's decode loop, with torch beneath it."""

from __future__ import annotations

from anyform.contract.errors import Area, Fault
from anyform.text.slotloop import SCORED_ROWS, SlotLoop

__all__ = ["SCORED_ROWS", "DecodeFailed", "Loop", "failed"]


class DecodeFailed(Fault):
    """torch could not compute a step; its answers are lost, the model goes on."""

    code = "hf_transformers.decode_failed"
    area = Area.BACKEND


class Loop(SlotLoop):
    """Runs tickets on a Decoder."""

    def _failed(self, error: Exception, size: int) -> Fault:
        return failed(error, size)


def failed(error: Exception, size: int) -> DecodeFailed:
    """What is told of a step for *size* requests that torch did not compute."""
    return DecodeFailed(
        f"torch could not compute this request: {error} ({size} requests in the batch).",
        "Try again; if it happens again, load the model with a smaller context or fewer parallel requests.",
    )
