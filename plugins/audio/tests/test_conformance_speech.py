"""Kokoro and Piper pass the conformance kit; parts that need their engines are skipped where they are not installed."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Job, Speak
from anyform.testing import PluginConformance
from anyform.testing.kokoro import write_kokoro
from anyform.testing.piper import write_piper

SENTENCE = "The boat is small. It goes out to sea."


class Speaking(PluginConformance):
    """What Kokoro and Piper have in common."""

    plugin = "audio"
    module = "anyform_audio.plugin"
    settings = Settings()

    def jobs(self, metadata: Metadata) -> list[Job]:
        voices = [voice["id"] for voice in metadata.extra["voices"]]
        return [Speak(text=SENTENCE, voice=voice, speed=speed) for voice in voices[:2] for speed in (1.0, 1.5)]

    def long_job(self, metadata: Metadata) -> Job:
        return Speak(text=f"{SENTENCE} " * 500, voice=metadata.extra["voices"][0]["id"])


class TestKokoro(Speaking):
    """Both layouts of its ONNX form."""

    def samples(self, folder: Path) -> list[Path]:
        return [
            write_kokoro(folder / "archive"),
            write_kokoro(folder / "community", layout="folder", voices=("af_heart", "bm_george")),
        ]


class TestPiper(Speaking):
    """A voice of one speaker, and one of three."""

    def samples(self, folder: Path) -> list[Path]:
        return [write_piper(folder / "one"), write_piper(folder / "three", speakers=3, rate=16_000)]
