"""gguf_llamacpp passes the conformance kit; the parts that need llama.cpp are skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.facts import Settings
from anyform.testing import PluginConformance
from anyform.testing.gguf import CHATML, write_bert, write_llama, write_split


class TestGenerating(PluginConformance):
    """Models that answer. A long context, so that a job which ignores Stop is seen to go on."""

    plugin = "gguf_llamacpp"
    module = "anyform_gguf_llamacpp.plugin"
    settings = Settings(context=4096)

    def samples(self, folder: Path) -> list[Path]:
        write_llama(folder / "chat" / "tiny-F16.gguf", chat_template=CHATML, context=4096)
        write_llama(folder / "quantized" / "tiny-Q8_0.gguf", quantization="Q8_0", context=4096)
        write_split(folder / "split", "tiny", 3, context=4096)
        return [folder / "chat", folder / "quantized", folder / "split"]


class TestEmbedding(PluginConformance):
    """Models that embed and rerank."""

    plugin = "gguf_llamacpp"
    module = "anyform_gguf_llamacpp.plugin"
    settings = Settings(context=64)

    def samples(self, folder: Path) -> list[Path]:
        write_bert(folder / "embedding" / "bert-mean.gguf", pooling="mean")
        write_bert(folder / "reranking" / "bert-rank.gguf", pooling="rank")
        return [folder / "embedding", folder / "reranking"]
