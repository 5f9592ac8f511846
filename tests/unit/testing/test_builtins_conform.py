"""The built-in plugins pass the conformance kit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from anyform.contract.facts import Metadata, Settings
from anyform.contract.jobs import (
    Answer,
    Caption,
    Chat,
    Classify,
    Complete,
    Generation,
    Job,
    Message,
    Picture,
    Text,
    ZeroShot,
)
from anyform.testing import PluginConformance
from anyform.testing.echo import write_echo
from anyform.testing.module_checks import ModuleChecks

SERVER = Path(__file__).parents[1] / "builtin" / "fake_openai_server.py"


class TestEcho(PluginConformance):
    plugin = "echo"
    module = "anyform.builtin.echo"
    settings = Settings(context=4000)

    def samples(self, folder: Path) -> list[Path]:
        return [
            write_echo(folder / "plain"),
            write_echo(folder / "slow", options={"delay_s": 0.001}, name="slow one"),
            write_echo(folder / "chatty", tasks=["chat"]),
            write_echo(folder / "seeing", tasks=["caption", "answer", "classify", "zero_shot"], features=["vision"]),
            write_echo(folder / "painting", tasks=["image", "edit_image", "vary_image"], options={"delay_s": 0.001}),
        ]

    def jobs(self, metadata: Metadata) -> list[Job]:
        cat = Picture(data=b"a cat", media_type="image/png")
        more: dict[str, Job] = {
            "caption": Caption(picture=cat),
            "answer": Answer(picture=cat, question="what is it?"),
            "classify": Classify(inputs=("one", cat)),
            "zero_shot": ZeroShot(inputs=("one", cat), labels=("cat", "dog")),
        }
        return super().jobs(metadata) + [more[task] for task in metadata.tasks if task in more]

    def long_job(self, metadata: Metadata) -> Job | None:
        if "complete" not in metadata.tasks:
            return super().long_job(metadata) if "image" in metadata.tasks else None
        return Complete(prompt="again and again", generation=Generation(ignore_eos=True))


class TestCommand(PluginConformance):
    plugin = "command"
    module = "anyform.builtin.command"
    settings = Settings(context=100, options={"command": [sys.executable, str(SERVER), "{port}"]})

    def samples(self, folder: Path) -> list[Path]:
        (folder / "server").mkdir()
        said = {"tasks": ["chat", "complete", "embed", "rerank"]}
        (folder / "server" / "anyform-command.json").write_text(json.dumps(said))
        return [folder / "server"]

    def long_job(self, metadata: Metadata) -> Job | None:
        return self._says("slow")

    def too_long_job(self, metadata: Metadata, context: int) -> Job | None:
        return self._says("long")

    @staticmethod
    def _says(text: str) -> Chat:
        return Chat(messages=(Message(role="user", parts=(Text(text=text),)),))


class TestMachine(ModuleChecks):
    plugin = "machine"
    module = "anyform.builtin.machine"

    def samples(self, folder: Path) -> list[Path]:
        return []
