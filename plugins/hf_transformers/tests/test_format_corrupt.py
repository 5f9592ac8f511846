"""Corrupted folders as users meet them: commands and server refuse each with its reason, and need no engine for it."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from anyform.kernel.files import FolderFiles
from anyform.testing.safetensors import (
    CHATML,
    assemble,
    described,
    llama_config,
    llama_tensors,
    state_pickle,
    tensor,
    write_adapter,
    write_bert,
    write_json,
    write_llama,
    write_pickled,
    write_safetensors,
)
from anyform_hf_transformers import plugin

LIMIT_S = 240
NOBODYS = "a type that nobody has"
MOST_LINES = 8
WEIGHTS, PICKLED, INDEX = "model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"
FIRST, SECOND = (f"model-{number:05}-of-00003.safetensors" for number in (1, 2))
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4938985352\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"
Damage = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is done to a sound folder, and what users must be told of it."""

    damage: Damage
    said: tuple[str, ...]
    """The damaged file, and the value that is wrong."""
    sound: Callable[[Path], object]
    judged: bool = True
    """Whether the format's side calls it damaged; else what it asks for is refused before it is loaded."""
    listed: bool = True
    """Whether it is recognised as a model at all."""
    task: str = "chat"
    """What it is asked for over HTTP."""


def put(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def drop(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def change(name: str, **fields: Any) -> Damage:
    """Other values in a JSON file; None: without the key."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | fields
        write_json(folder / name, {key: value for key, value in content.items() if value is not None})

    return damage


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return damage


def header(place: str, **fields: Any) -> Damage:
    """Another description of one tensor of the single file of weights."""

    def damage(folder: Path) -> None:
        made = llama_tensors(llama_config())
        said = described(made)
        said[place] |= fields
        (folder / WEIGHTS).write_bytes(assemble(said, b"".join(one.data for one in made)))

    return damage


def shifted(by: int) -> Damage:
    """The last tensor lies *by* bytes later than where the one before it ends."""

    def damage(folder: Path) -> None:
        made = llama_tensors(llama_config())
        said = described(made)
        begin, end = said["model.norm.weight"]["data_offsets"]
        said["model.norm.weight"]["data_offsets"] = [begin + by, end + by]
        data = b"".join(one.data for one in made)
        (folder / WEIGHTS).write_bytes(assemble(said, data + bytes(by) if by > 0 else data[:by]))

    return damage


def twice(folder: Path) -> None:
    """One tensor in two shards."""
    made = llama_tensors(llama_config())
    write_safetensors(folder / FIRST, [*made[::3], made[1]])


def unnamed(folder: Path) -> None:
    """An index that names a tensor which no shard has."""
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"]["model.layers.0.mlp.ghost.weight"] = FIRST
    write_json(folder / INDEX, content)


def mapped(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        content["weight_map"] = dict.fromkeys(content["weight_map"], name)
        write_json(folder / INDEX, content)

    return damage


class Calls:
    """What an attacker pickles."""

    def __init__(self, called: Callable[..., object], *given: object) -> None:
        self.called, self.given = called, given

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.called, self.given


def pickled(content: object, protocol: int = 2) -> Damage:
    return archived(pickle.dumps(content, protocol))


def archived(data: bytes, name: str = "archive/data.pkl") -> Damage:
    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / PICKLED, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(name, data)

    return damage


def added(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Damage:
    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / PICKLED, "a", method) as archive:
            archive.writestr(name, content)

    return damage


def overlapping(folder: Path) -> None:
    """Forty files of an archive that are the same bytes: more in memory than on the disk."""
    write_pickled(folder / PICKLED, [tensor("a", 4096)])
    with zipfile.ZipFile(folder / PICKLED, "a") as archive:
        [numbers] = [one for one in archive.infolist() if one.filename == "archive/data/0"]
        for count in range(1, 41):
            twin = zipfile.ZipInfo(f"archive/data/{count}")
            twin.header_offset, twin.CRC = numbers.header_offset, numbers.CRC
            twin.file_size = twin.compress_size = numbers.file_size
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True  # type: ignore[attr-defined]


def extended(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"x" * 9)


def linked(to: str, name: str = WEIGHTS) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(to)

    return damage


def single(folder: Path) -> object:
    return write_llama(folder, template=CHATML)


def sharded(folder: Path) -> object:
    return write_llama(folder, template=CHATML, shards=3)


def binary(folder: Path) -> object:
    return write_llama(folder, template=CHATML, pickled=True)


def encoder(folder: Path) -> object:
    return write_bert(folder, pooling="mean")


def adapter(folder: Path) -> object:
    return write_adapter(folder)


def of(sound: Callable[[Path], object], cases: dict[str, tuple[Any, ...]], **more: Any) -> dict[str, Case]:
    """*cases*: name -> damage, and what must be said."""
    return {name: Case(damage, said, sound, **more) for name, (damage, *said) in cases.items()}  # type: ignore[arg-type]


OUTSIDE = b'[{"type": "m.Transformer", "path": ""}, {"type": "m.Pooling", "path": "../elsewhere"}]'
NORM = "model.norm.weight"

CASES: dict[str, Case] = {
    **of(single, {
        "header of no length": (put(WEIGHTS, struct.pack("<Q", 0) + bytes(8)), WEIGHTS, "header"),
        "header too long": (put(WEIGHTS, struct.pack("<Q", 1 << 40) + b"{}"), WEIGHTS, str(1 << 40)),
        "header beyond the file": (put(WEIGHTS, struct.pack("<Q", 500) + b"{}"), WEIGHTS, "508"),
        "header no JSON": (put(WEIGHTS, assemble(b"tensors", b"")), WEIGHTS, "tensors"),
        "header no UTF-8": (put(WEIGHTS, assemble(b'{"\xff": 1}', b"")), WEIGHTS, "0xff"),
        "tensors overlap": (shifted(-4), WEIGHTS, NORM, "within"),
        "tensors with a gap": (shifted(8), WEIGHTS, NORM, "begins at byte"),
        "tensor beyond the file": (header(NORM, shape=[1 << 20], data_offsets=[0, 4 << 20]), WEIGHTS, "cut off"),
        "type of another size": (header(NORM, dtype="F16"), WEIGHTS, NORM, "needs 32"),
        "type of no kind": (header(NORM, dtype="F31"), WEIGHTS, NORM, "'F31'"),
        "shape without end": (header(NORM, shape=[1 << 40, 1 << 40]), WEIGHTS, NORM, "needs"),
        "weights cut": (cut(WEIGHTS, 0.7), WEIGHTS, "cut off"),
        "weights empty": (put(WEIGHTS, b""), WEIGHTS, "0 bytes"),
        "weights with a tail": (extended, WEIGHTS, "after its header"),
        "weights without tensors": (lambda folder: write_safetensors(folder / WEIGHTS, []), WEIGHTS, "no tensor"),
        "weights in Git LFS": (put(WEIGHTS, POINTER), WEIGHTS, "Git LFS", "git lfs pull"),
        "weights a web page": (put(WEIGHTS, PAGE), WEIGHTS, "web page"),
        "config missing": (drop("config.json"), "config.json", "missing"),
        "config empty": (put("config.json", b""), "config.json", "empty"),
        "config a list": (put("config.json", b"[1]"), "config.json", "object"),
        "config cut": (cut("config.json", 0.5), "config.json", "no JSON"),
        "config too deep": (put("config.json", b"[" * 100_000), "config.json", "nested"),
        "config too long": (put("config.json", b'{"a": "' + b"a" * (17 << 20) + b'"}'), "config.json", "16777216"),
        "config in Git LFS": (put("config.json", POINTER), "config.json", "Git LFS"),
        "architectures empty": (change("config.json", architectures=[]), "config.json", "architectures is []"),
        "architectures a text": (change("config.json", architectures="Llama"), "config.json", "'Llama'"),
        "no type at all": (change("config.json", architectures=None, model_type=None), "config.json", "model_type"),
        "type a number": (change("config.json", architectures=None, model_type=7), "config.json", "model_type"),
        "heads that cannot be shared": (change("config.json", num_key_value_heads=3), "config.json", "3"),
        "more layers than weights": (change("config.json", num_hidden_layers=3), "layers", "(2)"),
        "more tokens than rows": (change("config.json", vocab_size=33), "config.json", "33"),
        "fewer tokens than rows": (change("config.json", vocab_size=31), "config.json", "31"),
        "quantization a text": (change("config.json", quantization_config="int4"), "config.json", "'int4'"),
        "quantization of no method": (
            change("config.json", quantization_config={"a": 1}), "config.json", "quant_method"),
        "quantization of -3 bits": (
            change("config.json", quantization_config={"quant_method": "gptq", "bits": -3}), "config.json", "-3"),
        "tokenizer missing": (drop("tokenizer.json"), "tokenizer.json", "no tokenizer"),
        "tokenizer empty": (put("tokenizer.json", b""), "tokenizer.json", "empty"),
        "tokenizer cut": (cut("tokenizer.json", 0.5), "tokenizer.json", "no JSON"),
        "tokenizer without a model": (put("tokenizer.json", b"{}"), "tokenizer.json", "model"),
        "tokenizer in Git LFS": (put("tokenizer.json", POINTER), "tokenizer.json", "Git LFS"),
        "generation_config null": (put("generation_config.json", b"null"), "generation_config.json", "null"),
        "template no text": (put("chat_template.jinja", b"{{ a }}\xff\xfe"), "chat_template.jinja", "UTF-8"),
    }),
    **of(single, {
        "tokenizer_config a list": (put("tokenizer_config.json", b"[1]"), "tokenizer_config.json", "list"),
    }, task="complete"),
    **of(sharded, {
        "shard missing": (drop(SECOND), SECOND, "missing"),
        "shard cut": (cut(SECOND, 0.5), SECOND, "cut off"),
        "shard a dangling link": (
            linked("../blobs/none", SECOND), SECOND, "missing"),
        "index missing": (drop(INDEX), FIRST, "index"),
        "index cut": (cut(INDEX, 0.5), INDEX, "no JSON"),
        "index without a map": (put(INDEX, b"{}"), INDEX, "weight_map"),
        "index names a tensor that is not there": (unnamed, INDEX, "ghost"),
        "index leads outside": (mapped("../../secret.safetensors"), INDEX, "'../../secret.safetensors'"),
        "index leads to the root": (mapped("/etc/passwd"), INDEX, "'/etc/passwd'"),
        "two shards hold one tensor": (twice, FIRST, SECOND, "input_layernorm"),
    }),
    **of(binary, {
        "pickle of os.system": (pickled(Calls(os.system, "true")), PICKLED, "system"),
        "pickle of eval": (pickled(Calls(eval, "1")), PICKLED, "eval"),
        "pickle of builtins.exec": (pickled(Calls(exec, "1"), protocol=4), PICKLED, "builtins.exec"),
        "pickle nested": (pickled({"a": [{"b": (Calls(os.system, "true"),)}]}), PICKLED, "system"),
        "pickle of a module": (archived(b"\x80\x02ctorch.hub\nload\n."), PICKLED, "torch.hub.load"),
        "pickle cut": (archived(state_pickle([tensor("a", 9)])[:40]), PICKLED, "damaged"),
        "archive cut": (cut(PICKLED, 0.5), PICKLED, "cut off"),
        "archive with a path outside": (added("archive/../../../evil", b"x"), PICKLED, "evil"),
        "archive that unpacks to more": (added("archive/data/99", bytes(10 << 20), zipfile.ZIP_DEFLATED), PICKLED,
                                         "compressed"),
        "archive whose files overlap": (overlapping, PICKLED, "bytes"),
        "archive of a program": (added("archive/code/__torch__.py", b"x"), PICKLED, "TorchScript"),
        "archive without a pickle": (archived(b"x", "archive/other"), PICKLED, "data.pkl"),
        "weights of another kind": (put(PICKLED, b"GGUF" + bytes(64)), PICKLED, "GGUF"),
    }),
    **of(encoder, {
        "modules no list": (put("modules.json", b"{}"), "modules.json", "list"),
        "modules lead outside": (put("modules.json", OUTSIDE), "modules.json", "'../elsewhere'"),
        "pooling missing": (drop("1_Pooling/config.json"), "1_Pooling", "config.json"),
        "pooling cut": (cut("1_Pooling/config.json", 0.5), "1_Pooling/config.json", "no JSON"),
        "pooling empty": (put("1_Pooling/config.json", b"{}"), "1_Pooling/config.json", "pool"),
        "pooling of nothing": (change("1_Pooling/config.json", pooling_mode_mean_tokens=False),
                               "1_Pooling/config.json", "pool"),
        "pooling of no kind": (put("1_Pooling/config.json", b'{"pooling_mode": "banana"}'), "1_Pooling", "'banana'"),
        "limit below zero": (change("sentence_bert_config.json", max_seq_length=-3), "sentence_bert_config.json", "-3"),
    }, task="embed"),
    **of(adapter, {
        "adapter of no model": (change("adapter_config.json", base_model_name_or_path=""), "adapter_config.json", "''"),
        "adapter of no kind": (change("adapter_config.json", peft_type=None), "adapter_config.json", "peft_type"),
        "adapter config cut": (cut("adapter_config.json", 0.5), "adapter_config.json", "no JSON"),
        "adapter cut": (cut("adapter_model.safetensors", 0.5), "adapter_model.safetensors", "cut off"),
    }, task="complete"),
    **of(single, {
        "code of its own": (
            change("config.json", model_type="odd", auto_map={"AutoModelForCausalLM": "odd.Odd"}),
            "config.json", "'odd'", "trust_remote_code"),
        NOBODYS: (change("config.json", model_type="llama99"), "config.json", "'llama99'"),
    }, judged=False),
    **of(single, {
        "weights missing": (drop(WEIGHTS), "config.json", "recognises"),
        "weights a dangling link": (linked("../../blobs/none"), WEIGHTS, "leads nowhere"),
        "weights a folder": (lambda folder: [(folder / WEIGHTS).unlink(), (folder / WEIGHTS).mkdir()],
                             "config.json", "recognises"),
    }, listed=False),
}  # fmt: skip

SCRIPT = """
import contextlib, io, json, sys, threading, urllib.error, urllib.request
from dataclasses import replace
from pathlib import Path

from anyform.assembly import start
from anyform.cli import main
from anyform.http.config import HttpConfig
from anyform.http.server import Server, listen

def command(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(words))
    return [status, out.getvalue(), err.getvalue()]

BODIES = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}),
    "complete": ("completions", {"prompt": "hi", "max_tokens": 4}),
    "embed": ("embeddings", {"input": "hi"}),
}

def asked(url, model, task):
    path, fields = BODIES[task]
    body = json.dumps({"model": model, **fields}).encode()
    request = urllib.request.Request(f"{url}/v1/{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as refused:
        return [refused.code, refused.read().decode()]

root, tasks = Path(sys.argv[1]), json.loads(sys.argv[2])
told = {name: {"validate": command("validate", str(root / name)),
               "run": command("run", str(root / name), "hi")} for name in tasks}
runtime, sock, ready = start(folders=[root]), listen("127.0.0.1", 0), threading.Event()
port = sock.getsockname()[1]
server = Server(runtime, replace(HttpConfig(), port=port), ready=lambda url: ready.set())
thread = threading.Thread(target=server.run, args=([sock],))
thread.start()
ready.wait(30)
for name, task in tasks.items():
    told[name]["serve"] = asked(f"http://127.0.0.1:{port}", name, task)
server.should_exit = True
thread.join()
engines = [name for name in ("torch", "transformers", "tokenizers", "safetensors", "numpy") if name in sys.modules]
sys.__stdout__.write(json.dumps({"told": told, "engines": engines}))
"""


@dataclass(frozen=True)
class Told:
    """What commands and server said of every damaged folder."""

    by_name: dict[str, dict[str, list[Any]]]
    engines: Sequence[str]
    """Engines that were imported for it."""

    def of(self, name: str) -> dict[str, list[Any]]:
        return self.by_name[slug(name)]


def slug(name: str) -> str:
    return name.replace(" ", "-").lower()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """All that is said, by one process in which no engine can be imported."""
    home = tmp_path_factory.mktemp("home")
    root, absent = home / "models", home / "absent"
    for name, case in CASES.items():
        case.sound(root / slug(name))
        case.damage(root / slug(name))
    for engine in ("torch", "transformers"):
        (absent / engine).mkdir(parents=True)
        (absent / engine / "__init__.py").write_text(f"raise ImportError('{engine} was imported')\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANYFORM_", "HF_", "HUGGINGFACE_"))}
    kept |= dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(home))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), json.dumps({slug(name): case.task for name, case in CASES.items()})],
        env=kept | {"PYTHONPATH": str(absent)}, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False,
        stdin=subprocess.DEVNULL, cwd=home,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    return Told(said["told"], said["engines"])


def test_there_are_many_ways_to_be_broken() -> None:
    assert sum(case.judged for case in CASES.values()) >= 30


@pytest.mark.parametrize("sound", [single, sharded, binary, encoder])
def test_what_is_damaged_was_sound(tmp_path: Path, sound: Callable[[Path], object]) -> None:
    sound(tmp_path)
    files = FolderFiles(tmp_path)
    [match] = plugin.detect_format(files)
    assert plugin.validate(files, match) == []


def check_said(case: Case, text: str) -> None:
    """The file, the value, in few words; never a traceback, nor a plugin's bug."""
    for word in case.said:
        assert word in text, f"{word!r} is not in {text!r}"
    assert "Traceback" not in text
    assert "bug in" not in text
    assert len(text) < 2000


@pytest.mark.parametrize("name", CASES)
def test_validate_says_what_is_wrong(told: Told, name: str) -> None:
    status, out, err = told.of(name)["validate"]
    check_said(CASES[name], out + err)
    assert status == (1 if CASES[name].judged else 0), out
    lines = (out + err).strip().splitlines()
    assert len(lines) <= MOST_LINES
    assert len(set(lines)) == len(lines)


def needs_a_version(name: str) -> None:
    """Where no transformers is installed, a later one may know the type: then the engine is what is missing."""
    if name == NOBODYS and find_spec("transformers") is None:
        pytest.skip("transformers is not installed")


@pytest.mark.parametrize("name", CASES)
def test_run_says_it_in_one_line(told: Told, name: str) -> None:
    needs_a_version(name)
    status, out, err = told.of(name)["run"]
    assert (status, out) == (1, "")
    check_said(CASES[name], err)
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.listed])
def test_the_server_refuses_it(told: Told, name: str) -> None:
    needs_a_version(name)
    status, body = told.of(name)["serve"]
    assert 400 <= status < 500, body
    check_said(CASES[name], json.loads(body)["error"]["message"])


def test_no_engine_was_imported_for_it(told: Told) -> None:
    assert told.engines == []
