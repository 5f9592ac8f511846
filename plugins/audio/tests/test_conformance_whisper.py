"""The plugin's Whispers pass the conformance kit; without faster-whisper its checks of running are skipped."""

from __future__ import annotations

from pathlib import Path

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import Job, Sound, Transcribe, Translate
from anyform.testing import PluginConformance
from anyform.testing.ctranslate2 import write_ct2_whisper
from anyform.testing.whisper import voice, wave_file, write_whisper


class Hearing(PluginConformance):
    """Models that write down speech, the likeliest text alone."""

    plugin = "audio"
    module = "anyform_audio.plugin"
    settings = Settings(options={"fallback": False, "beam_size": 1})

    def jobs(self, metadata: Metadata) -> list[Job]:
        sound = Sound(data=wave_file(voice(2)))
        known: dict[str, Job] = {"transcribe": Transcribe(audio=sound), "translate": Translate(audio=sound)}
        return [known[task] for task in metadata.tasks]

    def long_job(self, metadata: Metadata) -> Job:
        return Transcribe(audio=Sound(data=wave_file(voice(10) * 30)))

    def too_long_job(self, metadata: Metadata, context: int) -> Job:
        return Transcribe(audio=Sound(data=wave_file(voice(1))), prompt="many words " * context)


class TestCTranslate2(Hearing):
    """As CTranslate2 keeps them."""

    def samples(self, folder: Path) -> list[Path]:
        write_ct2_whisper(folder / "several", positions=64)
        write_ct2_whisper(folder / "english", english=True, heads=False, quantization="int8", bands=128, positions=64)
        return [folder / "several", folder / "english"]


class TestConverted(Hearing):
    """As transformers keeps them."""

    def samples(self, folder: Path) -> list[Path]:
        return [write_whisper(folder / "several"), write_whisper(folder / "english", english=True, heads=False)]
