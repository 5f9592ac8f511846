"""The kit's checks of sources hold for anyform's own too."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.hooks import ModelSource
from anyform.sources.folder import OwnFolder, write_record
from anyform.sources.hub_cache import HubCache
from anyform.sources.lmstudio_store import LmStudioStore
from anyform.sources.ollama_store import OllamaStore
from anyform.testing.source_checks import SourceChecks
from anyform.testing.store import write_ollama, write_snapshot


class Own(SourceChecks):
    """Sources that no plugin brings."""

    module = "anyform.builtin.echo"


class TestOwnFolder(Own):
    def source(self, folder: Path) -> ModelSource:
        if folder.exists():
            (repository := folder / "owner" / "repo").mkdir(parents=True)
            (repository / "m.bin").write_bytes(b"m")
            facts = {"size": 1, "sha256": "0" * 64, "mtime_ns": (repository / "m.bin").stat().st_mtime_ns}
            write_record(repository, {"revision": "r", "files": {"m.bin": {**facts, "complete": True}}})
        return OwnFolder(folder)


class TestHubCache(Own):
    def source(self, folder: Path) -> ModelSource:
        if folder.exists():
            write_snapshot(folder, "owner/repo", {"m.bin": b"m", "deep/config.json": b"{}"})
        return HubCache(folder)


class TestLmStudio(Own):
    def source(self, folder: Path) -> ModelSource:
        if folder.exists():
            (folder / ".lmstudio" / "models").mkdir(parents=True)
        return LmStudioStore(folder)


class TestOllama(Own):
    def source(self, folder: Path) -> ModelSource:
        if folder.exists():
            write_ollama(folder, "m:latest", b"weights", texts={"template": "{{ .Prompt }}"}, params={"top_k": 1})
        return OllamaStore(folder)
