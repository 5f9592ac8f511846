"""onnx passes the conformance kit; parts that need onnxruntime are skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.facts import Settings
from anyform.testing import PluginConformance
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxpicture import write_classifier, write_dual


class TestGenerating(PluginConformance):
    """Models that answer, of three exporters. A long context, so that a job which ignores Stop is seen to go on."""

    plugin = "onnx"
    module = "anyform_onnx.plugin"
    settings = Settings(context=4096)

    def samples(self, folder: Path) -> list[Path]:
        wide = {"max_position_embeddings": 4096}
        write_decoder(folder / "plain", **wide)
        write_decoder(folder / "external", entry="onnx/model.onnx", external=True, **wide)
        write_decoder(folder / "genai", layout="onnx_genai", **wide)
        write_decoder(folder / "exported", layout="onnx_export", **wide)
        return [folder / name for name in ("plain", "external", "genai", "exported")]


class TestEncoding(PluginConformance):
    """Models that embed, rerank and classify."""

    plugin = "onnx"
    module = "anyform_onnx.plugin"
    settings = Settings(context=64)

    def samples(self, folder: Path) -> list[Path]:
        write_encoder(folder / "embedding", entry="onnx/model.onnx", pooling="mean")
        write_encoder(folder / "pooled", output="sentence_embedding")
        write_encoder(folder / "reranking", labels=["score"])
        write_encoder(folder / "classifying", labels=["joy", "anger", "fear"])
        write_encoder(folder / "entailing", labels=["entailment", "neutral", "contradiction"])
        return [folder / name for name in ("embedding", "pooled", "reranking", "classifying", "entailing")]


class TestSeeing(PluginConformance):
    """Models that look at pictures: a classifier, and two networks as CLIP's."""

    plugin = "onnx"
    module = "anyform_onnx.plugin"

    def samples(self, folder: Path) -> list[Path]:
        write_classifier(folder / "classifying")
        write_dual(folder / "comparing", joint=False, pair=True)
        return [folder / "classifying", folder / "comparing"]
