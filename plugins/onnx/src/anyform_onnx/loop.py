"""The text toolkit's decode loop, with onnxruntime beneath it."""

from __future__ import annotations

from anyform.contract.errors import Area, Fault
from anyform.text.slotloop import SlotLoop


class DecodeFailed(Fault):
    """onnxruntime could not compute a step; its answers are lost, the model goes on."""

    code = "onnx.decode_failed"
    area = Area.BACKEND


class Loop(SlotLoop):
    """Runs tickets on a Decoder."""

    def _failed(self, error: Exception, size: int) -> Fault:
        said = f"{error}".rstrip(".")
        return DecodeFailed(
            f"onnxruntime could not compute this request: {said} ({size} requests in the batch).",
            "Try again; if it happens again, load the model with a smaller context or fewer parallel requests.",
        )
