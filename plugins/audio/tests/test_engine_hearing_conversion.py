"""Transformers' Whisper made CTranslate2's, against CTranslate2's own converter and transformers itself."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import LoadFailed, Unsupported
from anyform.contract.model import LoadedModel
from anyform.testing.safetensors import Tensor, write_json, write_safetensors, write_sharded
from anyform.testing.whisper import LANGUAGES, RATE, TEXT, voice, wave_file, write_whisper

np = pytest.importorskip("numpy")
faster_whisper = pytest.importorskip("faster_whisper")
av = pytest.importorskip("av")
pytestmark = pytest.mark.engine

KINDS = ("<f4", "i1", "<i2", "<i4", "<f2", "<u2")


def variables(path: Path) -> dict[str, Any]:
    """What a model.bin holds; names that stand for another have what that has."""
    data, place = path.read_bytes(), 0

    def read(code: str) -> Any:
        nonlocal place
        found = struct.unpack_from(f"<{code}", data, place)
        place += struct.calcsize(f"<{code}")
        return found[0] if len(found) == 1 else found

    def text() -> str:
        size = read("H")
        return str(read(f"{size}s")[:-1].decode())

    assert (read("I"), text(), read("I")) == (6, "WhisperSpec", 3)
    made = {}
    for _ in range(read("I")):
        name, shape = text(), [read("I") for _ in range(read("B"))]
        kind, size = read("B"), read("I")
        made[name] = np.frombuffer(data[place : place + size], KINDS[kind]).reshape(shape)
        place += size
    for _ in range(read("I")):
        name, meant = text(), text()
        made[name] = made[meant]
    assert place == len(data)
    return made


def rewritten(folder: Path, change: Callable[[str, Any], tuple[str, bytes]]) -> None:
    """Write the tensors of *folder* anew: *change* gives type and bytes of each."""
    from anyform_audio.hearing.tensors import Tensors

    held = Tensors(folder, ["model.safetensors"])
    made = []
    for name in held.names:
        array = held.get(name)
        kind, data = change(name, np.array(array))
        made.append(Tensor(f"model.{name}", array.shape, kind, data))  # type: ignore[union-attr]
    write_safetensors(folder / "model.safetensors", made)


def half(name: str, array: Any) -> tuple[str, bytes]:
    return "F16", array.astype(np.float16).tobytes()


def brain(name: str, array: Any) -> tuple[str, bytes]:
    return "BF16", (array.view(np.uint32) >> np.uint32(16)).astype(np.uint16).tobytes()


def made(hearing: Any, folder: Path, out: Path) -> Path:
    from anyform_audio.hearing.conversion import convert

    out.mkdir()
    convert(hearing.plan(folder), folder, out)
    return out


def theirs(folder: Path, out: Path) -> Path:
    """What CTranslate2's own converter makes of *folder*."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from ctranslate2.converters import TransformersConverter

    return Path(TransformersConverter(str(folder)).convert(str(out)))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "english"])
def test_it_is_what_ctranslate2_makes(hearing: Any, tmp_path: Path, kind: str) -> None:
    folder = write_whisper(tmp_path / "hf", english=kind == "english", heads=kind != "english")
    if kind.endswith("16"):
        rewritten(folder, half if kind == "float16" else brain)
        config = json.loads((folder / "config.json").read_text())
        write_json(folder / "config.json", config | {"torch_dtype": kind})
    ours, other = made(hearing, folder, tmp_path / "ours"), theirs(folder, tmp_path / "theirs")
    found, expected = variables(ours / "model.bin"), variables(other / "model.bin")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        if kind == "bfloat16" and array.dtype == np.uint16:  # numpy has none: ours are float32 of the same value
            array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name
    for name in ("config.json", "vocabulary.json"):
        said, wanted = (json.loads((place / name).read_text()) for place in (ours, other))
        assert said == wanted if name == "vocabulary.json" else same_config(said, wanted)


def same_config(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Heads may be pairs or lists, and an English-only model has no languages by either word."""
    heads = [[list(head) for head in one.pop("alignment_heads")] for one in (ours, theirs)]
    return heads[0] == heads[1] and {key: ours[key] or None for key in ours} == {
        key: theirs.get(key) or None for key in ours
    }


def test_no_torch_is_needed(hearing: Any, talker: Path) -> None:
    """In a process of its own, in which nothing else imports it."""
    program = f"""
import sys
sys.modules["torch"] = sys.modules["transformers"] = sys.modules["safetensors"] = None
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import conftest
from anyform_audio.hearing import backend
model = backend.load(conftest.plan(Path({str(talker)!r})))
print(conftest.HearingKit.hear(model, conftest.HearingKit.sound(5), temperature=0).done.extra["duration"])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout.strip() == "5.0", ended.stderr


def test_nothing_is_left_behind(
    hearing: Any, loaded: Callable[..., LoadedModel], talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model = loaded(talker)
    assert list(tmp_path.iterdir()) == []
    assert hearing.hear(model, hearing.sound(5), temperature=0.0).done.finishes[0].reason == "stop"


def test_shards_are_read(hearing: Any, loaded: Callable[..., LoadedModel], talker: Path, tmp_path: Path) -> None:
    from anyform_audio.hearing.tensors import Tensors

    folder = tmp_path / "sharded"
    folder.mkdir()
    held = Tensors(talker, ["model.safetensors"])
    parts = [Tensor(f"model.{name}", array.shape, "F32", array.tobytes())
             for name in held.names if (array := held.get(name)) is not None]  # fmt: skip
    write_sharded(folder, parts, 3)
    for path in talker.iterdir():
        if path.suffix == ".json":
            (folder / path.name).write_bytes(path.read_bytes())
    file = hearing.sound(20)
    whole, sharded = (hearing.hear(loaded(one), file, temperature=0.0).tokens for one in (talker, folder))
    assert whole == sharded != []


@pytest.mark.parametrize(
    ("seed", "task"), [(4, "translate"), (5, "transcribe"), (5, "translate"), (6, "translate"), (8, "transcribe")]
)
def test_it_is_what_transformers_says(
    hearing: Any, loaded: Callable[..., LoadedModel], tmp_path: Path, task: str, seed: int
) -> None:
    """Of thirty seconds, greedily: a shorter sound transformers fills with silence, faster-whisper its spectrum with 0.

    faster-whisper never says what transformers' suppress_tokens are set to here, and says half as much at the most.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = hearing.talkative(tmp_path / "hf", seed=seed)
    model = loaded(folder, beam_size=1)
    file = wave_file([*voice(11, seed), *[0.0] * (19 * RATE)])  # type: ignore[list-item]
    heard = hearing.hear(model, file, temperature=0.0, language="de", translate=False) if task == "transcribe" else (
        hearing.hear(model, file, temperature=0.0, translate=True)
    )  # fmt: skip
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens

    spoken = heard.done.extra["spoken"]
    tokenizer = Tokenizer(model._whisper.hf_tokenizer, True, task=task, language=spoken)  # type: ignore[attr-defined]
    network = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    network.generation_config.suppress_tokens = list(get_suppressed_tokens(tokenizer, [-1]))
    # as faster-whisper's suppress_blank and max_initial_timestamp
    network.generation_config.begin_suppress_tokens = [*tokenizer.encode(" "), tokenizer.eot]
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    sound = np.frombuffer(file[44:], "<i2").astype(np.float32) / 32768
    given = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
    with torch.no_grad():
        answer = network.generate(
            given, language=spoken, task=task, return_timestamps=True, num_beams=1, do_sample=False,
            return_segments=True, max_new_tokens=200,
        )  # fmt: skip
    first = answer["segments"][0][0]["result"]
    full = (first["sequences"] if isinstance(first, dict) else first).tolist()
    said = full[full.index(tokenizer.task) + 1 :] if tokenizer.task in full else full
    ours = [token for segment in heard.segments if segment.extra["seek"] == 0 for token in segment.extra["tokens"]]
    assert ours == said[: len(ours)]
    assert len(ours) > 5


BROKEN: dict[str, tuple[str, Callable[[Path], object], type[Exception]]] = {
    "a tensor is missing": ("fc1", lambda folder: without(folder, "decoder.layers.0.fc1.weight"), LoadFailed),
    "no tensor is there": ("safetensors", lambda folder: (folder / "model.safetensors").unlink(), LoadFailed),
    "half a file": ("bytes", lambda folder: cut(folder / "model.safetensors"), LoadFailed),
    "no file of tensors": ("header", lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 99), LoadFailed),
    "a tokenizer is missing": ("tokenizer.json", lambda folder: (folder / "tokenizer.json").unlink(), LoadFailed),
    "no tokens": ("vocab", lambda folder: write_json(folder / "tokenizer.json", {"model": {}}), LoadFailed),
    "another activation": ("relu", lambda folder: configured(folder, activation_function="relu"), Unsupported),
    "no layers": ("NoneType", lambda folder: configured(folder, encoder_layers=None), LoadFailed),
    "more layers": ("layers.1", lambda folder: configured(folder, encoder_layers=2), LoadFailed),
    "other bands": ("bands", lambda folder: prepared(folder, feature_size=128), LoadFailed),
    "other windows": ("frames", lambda folder: prepared(folder, chunk_length=10), LoadFailed),
    "no empty token": ("empty token", lambda folder: named(folder, "", "w399"), LoadFailed),
    "no marks": ("startoflm", lambda folder: named(folder, "<|startoflm|>", "<|other|>"), LoadFailed),
}  # fmt: skip


def without(folder: Path, name: str) -> None:
    from anyform_audio.hearing.tensors import Tensors

    held = Tensors(folder, ["model.safetensors"])
    kept = [Tensor(f"model.{one}", array.shape, "F32", array.tobytes())
            for one in held.names if one != name and (array := held.get(one)) is not None]  # fmt: skip
    write_safetensors(folder / "model.safetensors", kept)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def configured(folder: Path, **changes: Any) -> None:
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)


def prepared(folder: Path, **changes: Any) -> None:
    path = folder / "preprocessor_config.json"
    write_json(path, json.loads(path.read_text()) | changes)


def named(folder: Path, old: str, new: str) -> None:
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text())
    vocabulary = said["model"]["vocab"]
    if old in vocabulary:
        vocabulary[new] = vocabulary.pop(old)
    for one in said["added_tokens"]:
        one["content"] = new if one["content"] == old else one["content"]
    write_json(path, said)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_told(hearing: Any, loaded: Callable[..., LoadedModel], tmp_path: Path, name: str) -> None:
    told, breaking, kind = BROKEN[name]
    folder = write_whisper(tmp_path / "m", positions=448)
    breaking(folder)
    with pytest.raises(kind, match=told):
        loaded(folder)


def test_a_folder_that_is_not_there_is_not_sought_on_the_hub(
    hearing: Any, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from anyform_audio.hearing import backend

    monkeypatch.setattr("faster_whisper.transcribe.download_model", lambda *given, **wanted: pytest.fail("downloaded"))
    asked = replace(hearing.plan(converted), path=str(tmp_path / "tiny"))
    with pytest.raises(LoadFailed, match=r"model\.bin"):
        backend.load(asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    for name in ("model.bin", "config.json", "vocabulary.json"):
        (tmp_path / "tiny" / name).write_bytes((converted / name).read_bytes())
    with pytest.raises(LoadFailed, match=r"tokenizer\.json"):
        backend.load(asked)


def test_a_model_of_128_bands_without_a_preprocessor(
    hearing: Any, loaded: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    """Large-v3 has as many; faster-whisper alone would take 80."""
    folder = hearing.talkative(tmp_path / "large", bands=128)
    with_it = hearing.hear(loaded(folder), hearing.sound(10), temperature=0.0).tokens
    (folder / "preprocessor_config.json").unlink()
    assert hearing.hear(loaded(folder), hearing.sound(10), temperature=0.0).tokens == with_it != []


def test_an_english_model_may_have_marks_of_languages(
    hearing: Any, loaded: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    """OpenAI's have: the empty token is what they lack."""
    folder = write_whisper(tmp_path / "tiny.en", positions=448, is_multilingual=False)
    named(folder, "", "w399")
    model = loaded(folder)
    assert model._languages is None  # type: ignore[attr-defined]
    assert hearing.hear(model, hearing.sound(3), temperature=0.0).done.extra["language"] == "en"


def test_languages_are_those_of_the_vocabulary(hearing: Any, loaded: Callable[..., LoadedModel], talker: Path) -> None:
    assert set(loaded(talker)._languages) == set(LANGUAGES)  # type: ignore[attr-defined]
    assert TEXT == 400
