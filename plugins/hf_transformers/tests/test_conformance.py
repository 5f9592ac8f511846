"""hf_transformers passes the conformance kit; parts that need transformers are skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Job, Sound, Transcribe, Translate
from anyform.testing import PluginConformance
from anyform.testing.safetensors import CHATML, write_bert, write_llama, write_vit
from anyform.testing.whisper import voice, wave_file, write_whisper


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
    """Models that embed, rerank and classify."""

    plugin = "hf_transformers"
    module = "anyform_hf_transformers.plugin"
    settings = Settings(context=64)

    def samples(self, folder: Path) -> list[Path]:
        write_bert(folder / "embedding", pooling="mean")
        write_bert(folder / "reranking", labels=["score"])
        write_bert(folder / "classifying", labels=["joy", "anger", "fear"])
        write_bert(folder / "entailing", labels=["entailment", "neutral", "contradiction"])
        return [folder / name for name in ("embedding", "reranking", "classifying", "entailing")]


class TestSeeing(PluginConformance):
    """Models that say what is in a picture."""

    plugin = "hf_transformers"
    module = "anyform_hf_transformers.plugin"

    def samples(self, folder: Path) -> list[Path]:
        return [write_vit(folder / "seeing", ["cat", "dog", "bird"])]


class TestHearing(PluginConformance):
    """Models that write down speech."""

    plugin = "hf_transformers"
    module = "anyform_hf_transformers.plugin"
    settings = Settings(options={"fallback": False})

    def samples(self, folder: Path) -> list[Path]:
        return [write_whisper(folder / "several"), write_whisper(folder / "english", english=True, heads=False)]

    def jobs(self, metadata: Metadata) -> list[Job]:
        pytest.importorskip("av")
        sound = Sound(data=wave_file(voice(2)))
        known: dict[str, Job] = {"transcribe": Transcribe(audio=sound), "translate": Translate(audio=sound)}
        return [known[task] for task in metadata.tasks]

    def long_job(self, metadata: Metadata) -> Job:
        pytest.importorskip("av")
        return Transcribe(audio=Sound(data=wave_file(voice(10) * 30)))

    def too_long_job(self, metadata: Metadata, context: int) -> Job:
        return Transcribe(audio=Sound(data=wave_file(voice(1))), prompt="many words " * context)
