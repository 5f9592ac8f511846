"""hf_transformers passes the conformance kit; parts that need transformers are skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.facts import Settings
from anyform.testing import PluginConformance
from anyform.testing.safetensors import CHATML, write_bert, write_llama


class TestGenerating(PluginConformance):
    """Models that answer. A long context, so that a job which ignores Stop is seen to go on."""

    plugin = "hf_transformers"
    module = "anyform_hf_transformers.plugin"
    settings = Settings(context=4096)

    def samples(self, folder: Path) -> list[Path]:
        wide = {"max_position_embeddings": 4096}
        write_llama(folder / "chat", template=CHATML, **wide)
        write_llama(folder / "sharded", shards=3, **wide)
        write_llama(folder / "pickled", pickled=True, **wide)
        return [folder / "chat", folder / "sharded", folder / "pickled"]


class TestEncoding(PluginConformance):
    """Models that embed and rerank."""

    plugin = "hf_transformers"
    module = "anyform_hf_transformers.plugin"
    settings = Settings(context=64)

    def samples(self, folder: Path) -> list[Path]:
        write_bert(folder / "embedding", pooling="mean")
        write_bert(folder / "reranking", labels=["score"])
        return [folder / "embedding", folder / "reranking"]
