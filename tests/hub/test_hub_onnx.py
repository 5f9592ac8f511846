"""Of a repository with a dozen ONNX files comes the one that is asked for, with all that belongs to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anyform.contract.errors import ModelNotFound
from anyform.kernel.files import FolderFiles
from anyform.kernel.plugins import Plugins
from anyform.sources import detect
from anyform.sources.hub import Hub
from anyform.sources.hublook import look
from anyform.sources.hubname import require
from anyform.sources.hubpull import Pulled
from anyform.testing.gguf import write_llama
from anyform.testing.onnxdecoder import write_decoder
from anyform.testing.onnxencoder import write_encoder
from anyform.testing.onnxform import write_graph
from anyform.testing.safetensors import write_bert

from .server import LoopbackHub

Get = Callable[..., Pulled]
DECODER = {
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
ENCODER = {
    "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip
VARIANTS = ("bnb4", "fp16", "int8", "q4", "q4f16", "quantized", "uint8")
OPTIMIZED = ("O1", "O2", "O3", "O4", "qint8_arm64", "qint8_avx512", "qint8_avx512_vnni", "quint8_avx2")


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the ONNX community lays out a decoder: all in onnx/, the large ones with their numbers beside them."""
    folder = write_decoder(tmp_path_factory.mktemp("community"), entry="onnx/model.onnx", external=True)
    for variant in VARIANTS:
        shutil.copy(folder / "onnx/model.onnx", folder / f"onnx/model_{variant}.onnx")
    for beside in ("model_fp16.onnx_data", "model_q4.onnx_data", "model_q4.onnx_data_1"):
        shutil.copy(folder / "onnx/model.onnx_data", folder / "onnx" / beside)
    return _with_card(folder)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As sentence-transformers' own models are: weights, and in onnx/ what they were exported and quantized to."""
    folder = write_bert(tmp_path_factory.mktemp("sentences"), pooling="mean")
    write_encoder(folder, folder, entry="onnx/model.onnx")
    for variant in OPTIMIZED:
        shutil.copy(folder / "onnx/model.onnx", folder / f"onnx/model_{variant}.onnx")
    (folder / "openvino").mkdir()
    (folder / "openvino/openvino_model.bin").write_bytes(b"\0" * 64)
    (folder / "pytorch_model.bin").write_bytes(b"\0" * 64)
    return _with_card(folder)


def _with_card(folder: Path) -> Path:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    return folder


def added(hub: LoopbackHub, name: str, folder: Path) -> None:
    hub.add(name, {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()})


@pytest.mark.parametrize(
    ("asked", "graphs"),
    [
        ("", {"model_q4.onnx", "model_q4.onnx_data", "model_q4.onnx_data_1"}),
        (":fp32", {"model.onnx", "model.onnx_data"}),
        (":FP16", {"model_fp16.onnx", "model_fp16.onnx_data"}),
        (":q4f16", {"model_q4f16.onnx"}),
        (":model_int8", {"model_int8.onnx"}),
        (":onnx", {"model_q4.onnx", "model_q4.onnx_data", "model_q4.onnx_data_1"}),
    ],
)
def test_one_of_a_decoders_variants(hub: LoopbackHub, get: Get, community: Path, asked: str, graphs: set[str]) -> None:
    added(hub, "owner/llm", community)
    assert set(get(f"owner/llm{asked}").files) == DECODER | {f"onnx/{name}" for name in graphs}


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ("", "model.safetensors"),
        (":safetensors", "model.safetensors"),
        (":onnx", "onnx/model.onnx"),
        (":O3", "onnx/model_O3.onnx"),
        (":qint8_avx512", "onnx/model_qint8_avx512.onnx"),
    ],
)
def test_one_form_of_a_sentence_transformer(
    hub: LoopbackHub, get: Get, sentences: Path, asked: str, weights: str
) -> None:
    pytest.importorskip("anyform_hf_transformers")
    added(hub, "owner/minilm", sentences)
    assert set(get(f"owner/minilm{asked}").files) == ENCODER | {weights}


def test_what_is_pulled_is_called_what_was_asked_for(
    hub: LoopbackHub, get: Get, plugins: Plugins, community: Path, sentences: Path
) -> None:
    for name, folder, variant in (("llm", community, "q4f16"), ("minilm", sentences, "quint8_avx2")):
        added(hub, f"owner/{name}", folder)
        pulled = get(f"owner/{name}:{variant}")
        assert pulled.name == f"owner/{name}:{variant}"
        [(_, match)] = detect.matches(plugins, FolderFiles(pulled.folder))
        assert (match.format, match.name, match.variant) == ("onnx", "", variant)


def test_two_variants_lie_beside_each_other(hub: LoopbackHub, get: Get, plugins: Plugins, community: Path) -> None:
    added(hub, "owner/llm", community)
    for variant in ("fp32", "q4"):
        folder = get(f"owner/llm:{variant}").folder
    assert sorted(match.variant for _, match in detect.matches(plugins, FolderFiles(folder))) == ["fp32", "q4"]


def test_a_variant_that_is_not_there(hub: LoopbackHub, get: Get, community: Path) -> None:
    added(hub, "owner/llm", community)
    with pytest.raises(ModelNotFound) as caught:
        get("owner/llm:q2")
    assert "q4f16" in caught.value.hint


def test_a_genai_folder_comes_whole_and_alone(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    """As Microsoft's repositories have several, each for a device."""
    for folder in ("cpu_and_mobile/cpu-int4-rtn-block-32", "cuda/cuda-fp16"):
        write_decoder(tmp_path / folder, layout="onnx_genai")
    added(hub, "owner/phi", _with_card(tmp_path))
    own = {*DECODER, "genai_config.json", "model.onnx", "model.onnx.data"}
    assert set(get("owner/phi:cuda-fp16").files) == {f"cuda/cuda-fp16/{name}" for name in own}
    with pytest.raises(ModelNotFound) as caught:
        get("owner/phi:int4")
    assert "cpu-int4-rtn-block-32, cuda-fp16" in caught.value.hint


def test_graphs_beside_a_model_are_no_variants_of_it(hub: LoopbackHub, get: Get, plugins: Plugins, home: Path) -> None:
    """Nor do they change what the model is called, or what it is said to have."""
    files = home.with_name("origin")
    write_llama(files / "tiny-Q8_0.gguf")
    write_graph(files / "aaa.onnx", "unknown")
    write_graph(files / "extras/vad.onnx", "unknown")
    added(hub, "owner/tiny", files)
    assert get("owner/tiny").name == "owner/tiny"
    seen = look(Hub(hub.endpoint), plugins, home, require("owner/tiny"))
    assert (seen.name, seen.variants) == ("owner/tiny", ("Q8_0",))
    with pytest.raises(ModelNotFound) as caught:
        get("owner/tiny:Q2_K")
    assert caught.value.hint == "It has Q8_0."


def test_a_model_alone_has_one_variant_whatever_lies_beside_it(hub: LoopbackHub, get: Get, tmp_path: Path) -> None:
    write_graph(tmp_path / "vad.onnx", "unknown")
    added(hub, "owner/vad", tmp_path)
    with pytest.raises(ModelNotFound) as caught:
        get("owner/vad:q4")
    assert caught.value.hint == "It has only one variant: leave it out."


@pytest.mark.parametrize("place", ["vad.onnx", "extras/vad.onnx"])
def test_a_stray_graph_is_not_pulled_for_the_model(hub: LoopbackHub, get: Get, tmp_path: Path, place: str) -> None:
    pytest.importorskip("anyform_hf_transformers")
    files = write_bert(tmp_path / "model", pooling="mean")
    write_graph(files / place, "unknown")
    added(hub, "owner/heard", files)
    pulled = set(get("owner/heard").files)
    assert "model.safetensors" in pulled
    assert place not in pulled
