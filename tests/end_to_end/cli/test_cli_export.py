"""`anyform export`, with an exporter of a plugin that is a few lines long, run by a Python of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anyform.testing.gguf import write_llama

EXPORTER = """
from pathlib import Path

READS, PRECISIONS, DEVICES, PACKAGES = ("echo",), ("whole", "half"), ("cpu",), ()
INSTEAD = "Take an echo."


def command(source, target, metadata, precision, device):
    return [str(Path(__file__).with_name("louder_program.py")), str(source), str(target), precision]


def size(metadata, precision):
    return metadata.parameters or 0
"""
PROGRAM = """
import json, sys, time
from pathlib import Path

source, target, precision = sys.argv[1:]
model = json.loads((Path(source) / "echo.json").read_text())
print("loading", flush=True)
if model.get("name") == "slow":
    time.sleep(600)
if model.get("name") == "bad":
    sys.exit("this model has no mouth")
if model.get("name") == "late":
    meanwhile = Path(target).parent.with_name("to")
    meanwhile.mkdir()
    (meanwhile / "letters.txt").write_text("dear")
Path(target, "louder.echo.json").write_text(json.dumps({**model, "name": f"louder-{precision}"}))
Path(target, "config.json").write_text("{}")
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    info = site / "louder-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: louder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anyform.exporters]\nlouder = louder_exporter\n")
    (site / "louder_exporter.py").write_text(EXPORTER)
    (site / "louder_program.py").write_text(PROGRAM)
    return {"PYTHONPATH": str(site)}


def model(folder: Path, **more: Any) -> Path:
    folder.mkdir()
    (folder / "echo.json").write_text(json.dumps({"format": "echo", **more}))
    return folder


def test_a_model_is_exported_looked_at_and_runs(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    source = model(tmp_path / "parrot")
    done = cli("export", source, "--to", "louder", "--python", sys.executable, env=env)
    assert done.returncode == 0, done.stderr
    target = cli.folder / "parrot-louder-whole"
    assert f"`anyform run {target}` loads it" in done.stdout
    assert "exporting parrot to louder: done" in done.stderr
    assert cli("run", target, "still here").stdout == "still here\n"
    again = cli("export", source, "--to", "louder", "--python", sys.executable, env=env)
    assert again.returncode == 1
    assert "is there already" in again.stderr
    other = ("--precision", "half", "-o", target, "--overwrite", "--json")
    done = cli("export", source, "--to", "louder", "--python", sys.executable, *other, env=env)
    assert json.loads(done.stdout)["models"][0]["metadata"]["name"] == "louder-half"


def test_an_environment_is_made_on_first_use(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    source = model(tmp_path / "parrot")
    refused = cli("export", source, "--to", "louder", "--offline", env=env)
    assert "has to be fetched" in refused.stderr
    done = cli("export", source, "--to", "louder", env=env)
    assert done.returncode == 0, done.stderr
    assert "making an environment in" in done.stderr
    again = cli("export", source, "--to", "louder", "--offline", "--overwrite", env=env)
    assert again.returncode == 0, again.stderr
    assert "making an environment" not in again.stderr


def test_what_cannot_be_exported_says_why_and_leaves_nothing(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    def refused(*arguments: str | Path) -> str:
        done = cli("export", *arguments, "--to", "louder", "--python", sys.executable, env=env)
        assert done.returncode == 1
        return str(done.stderr)

    tiny = write_llama(tmp_path / "tiny.gguf")
    said = refused(tiny)
    assert "is gguf, and what exports to louder reads echo" in said
    assert "Take an echo." in said
    (tmp_path / "stranger.bin").write_bytes(b"?")
    assert "begins with echo, and a plugin that reads that" in refused(tmp_path / "stranger.bin")
    said = refused(model(tmp_path / "bad", name="bad"), "-o", tmp_path / "to")
    assert "bad could not be exported to louder (exit code 1)" in said
    assert "this model has no mouth" in said
    source = model(tmp_path / "huge", parameters=1 << 60)
    assert f"the export takes about 1288490188.8 GiB, and {tmp_path} has " in refused(source, "-o", tmp_path / "to")
    assert "It can be whole, half" in refused(source, "--precision", "third")
    assert "is where the model itself lies" in refused(model(tmp_path / "empty"), "-o", tmp_path, "--overwrite")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letters.txt").write_text("dear")
    assert "holds what no export wrote: letters.txt" in refused(tmp_path / "empty", "-o", precious, "--overwrite")
    assert (precious / "letters.txt").exists()
    assert not list(tmp_path.glob("to*"))


def test_a_damaged_model_is_not_exported(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    source = model(tmp_path / "broken", parameters="many")
    done = cli("export", source, "--to", "louder", "--python", sys.executable, "-o", tmp_path / "to", env=env)
    assert done.returncode == 1
    assert "broken is not exported: echo.json: parameters is 'many'" in done.stderr
    assert not list(tmp_path.glob("to*"))


def test_a_result_whose_place_was_taken_meanwhile_is_kept(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    asked = ("--python", sys.executable, "-o", tmp_path / "to", "--overwrite")
    done = cli("export", model(tmp_path / "late", name="late"), "--to", "louder", *asked, env=env)
    assert done.returncode == 1
    assert "the export is made, and cannot be moved" in done.stderr
    [kept] = tmp_path.glob("to.part-*/kept")
    assert f"It is in {kept}." in done.stderr
    assert (kept / "louder.echo.json").is_file()
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["letters.txt"]


def test_only_what_an_export_wrote_is_replaced(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    source, target = model(tmp_path / "parrot"), tmp_path / "to"
    (source / "config.json").write_text("{}")
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "a").mkdir()
    theirs = tmp_path / "to.part"
    theirs.mkdir()

    def export(output: Path | str, *, of: Path = source) -> Any:
        asked = ("-o", output, "--overwrite")
        return cli("export", of, "--to", "louder", "--python", sys.executable, *asked, env=env)

    def refused(output: Path | str, *, of: Path = source) -> str:
        done = export(output, of=of)
        assert done.returncode == 1
        assert {path.name for path in source.iterdir()} == {"echo.json", "config.json"}
        return str(done.stderr)

    assert "is where the model itself lies" in refused(f"{tmp_path}/a/../parrot")
    assert "is where the model itself lies" in refused(source, of=tmp_path / "link")
    assert f"link is a link, to {source}" in refused(tmp_path / "link")
    other = model(tmp_path / "other")
    assert "holds what no export wrote: echo.json" in refused(other)
    assert export(target).returncode == 0
    assert export(target).returncode == 0
    (target / "thesis.txt").write_text("dear")
    assert "holds what no export wrote: thesis.txt" in refused(target)
    assert (target / "thesis.txt").read_text() == "dear"
    assert theirs.is_dir()
    assert {path.name for path in tmp_path.glob("to*")} == {"to", "to.part"}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
def test_ctrl_c_ends_it_and_leaves_nothing(cli: Any, env: dict[str, str], tmp_path: Path) -> None:
    source, target = model(tmp_path / "parrot", name="slow"), tmp_path / "to"
    running: subprocess.Popen[str] = cli.start(
        "export", source, "--to", "louder", "-o", target, "--python", sys.executable, env=env
    )
    assert running.stderr
    assert "exporting parrot to louder" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    assert not list(tmp_path.glob("to*"))
