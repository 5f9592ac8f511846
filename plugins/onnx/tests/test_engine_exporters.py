"""What real exporters write of the sample models runs and computes what torch does. Needs torch; tens of seconds each.

All but one of a kind are left to `make test-full`; graphs that anyform.testing writes are in the other tests.
"""

from __future__ import annotations

import contextlib
import io
import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

from anyform.contract.jobs import Embed  # noqa: E402
from anyform.contract.model import LoadedModel  # noqa: E402

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

QUESTIONS = (
    "How do I list my models?",
    "What is 17 + 25?",
    "My name is Mira. What is my name?",
    "How many metres are 3 kilometres?",
    "What can you do?",
    "Who won the last election?",
)
TOKENS = 40
BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@pytest.fixture(scope="session")
def source() -> Path:
    return Path(pytest.importorskip("anyform_samples.layout").SAMPLE)


@pytest.fixture(scope="session")
def network(source: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def expected(source: Path, network: Any, kit: Any) -> Mapping[str, str]:
    """What transformers answers, greedily."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)

    def answer(question: str) -> str:
        given = tokenizer(kit.question(question), add_special_tokens=False, return_tensors="pt")
        with torch.no_grad():
            out = network.generate(**given, max_new_tokens=TOKENS, do_sample=False)
        text: str = tokenizer.decode(out[0, given.input_ids.shape[1] :], skip_special_tokens=True)
        return text

    return {question: answer(question) for question in QUESTIONS}


def answers(model: LoadedModel, kit: Any) -> dict[str, str]:
    """Alone, and all at once, which must be the same."""

    def answer(question: str) -> str:
        text: str = kit.complete(model, kit.question(question), max_tokens=TOKENS).text
        return text

    alone = {question: answer(question) for question in QUESTIONS}
    together = kit.together([lambda question=question: answer(question) for question in QUESTIONS])
    assert together == list(alone.values())
    return alone


def built(source: Path, place: Path, precision: str) -> Path:
    """What onnxruntime-genai's builder writes; in this process, which has torch already."""
    pytest.importorskip("onnxruntime_genai")
    folder, path = place / precision, list(sys.path)
    words = ["builder", "-i", source, "-o", folder, "-p", precision, "-e", "cpu", "-c", place / "cache"]
    quiet = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        patched.setattr("sys.argv", list(map(str, words)))
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__")
    sys.path[:] = path
    return folder


@pytest.fixture(scope="session")
def genai(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(source, tmp_path_factory.mktemp("builder"), "fp32")


@pytest.mark.parametrize("backend", ["onnxruntime_genai", "onnxruntime"])
def test_what_genai_s_builder_writes(
    backend: str, genai: Path, expected: Mapping[str, str], engine: Any, kit: Any
) -> None:
    """In its own engine, and by plain onnxruntime, which reads the same folder."""
    assert answers(engine.load(genai, backend=backend, context=512), kit) == expected


@pytest.mark.full
def test_what_genai_s_builder_quantizes_runs(
    source: Path, tmp_path: Path, expected: Mapping[str, str], engine: Any, kit: Any
) -> None:
    """Blocks of 4 bits: mostly the same words; `benchmarks/agreement.py --form int4` says how many."""
    folder = built(source, tmp_path, "int4")
    model = engine.load(folder, backend="onnxruntime_genai", context=512)
    assert kit.plan(folder, backend="onnxruntime_genai").metadata.quantization.lower() in ("int4", "q4")
    found = answers(model, kit)
    assert sum(found[question] == expected[question] for question in QUESTIONS) >= len(QUESTIONS) // 2


@pytest.mark.full
@pytest.mark.parametrize("padded", [False, True])
def test_what_transformers_exporter_writes(
    padded: bool, source: Path, network: Any, tmp_path: Path, expected: Mapping[str, str], engine: Any, kit: Any
) -> None:
    """Of one conversation, whose graphs have no mask, and of several."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    tokens = torch.arange(16).reshape(2, 8) if padded else torch.arange(8)[None]
    mask = torch.ones_like(tokens)
    if padded:
        mask[0, :3] = 0
    with contextlib.redirect_stdout(io.StringIO()):
        exported = OnnxExporter().export_for_generation(
            network, {"input_ids": tokens, "attention_mask": mask}, config=OnnxConfig(dynamic=True)
        )
    exported.save_pretrained(tmp_path)
    copied(source, tmp_path, BESIDE)
    assert answers(engine.load(tmp_path, context=512), kit) == expected


def copied(source: Path, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)


def test_what_torch_exports_of_an_encoder(encoder_source: Path, tmp_path: Path, engine: Any, kit: Any) -> None:
    """Vectors are those that torch computes, of texts of other lengths than the example's."""
    copied(encoder_source, tmp_path, ("config.json", "tokenizer.json", "tokenizer_config.json"))
    copied(encoder_source, tmp_path, ("modules.json", "1_Pooling/config.json", "sentence_bert_config.json"))
    model = transformers.AutoModel.from_pretrained(encoder_source, dtype=torch.float32, add_pooling_layer=False).eval()
    tokens = torch.arange(16).reshape(2, 8)
    sides = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    names = ("input_ids", "attention_mask")
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        torch.onnx.export(
            model, (), str(tmp_path / "model.onnx"), dynamo=True, verbose=False, external_data=False,
            kwargs={"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
            input_names=names, output_names=["last_hidden_state"], dynamic_shapes=dict.fromkeys(names, sides),
        )  # fmt: skip
    texts = (
        "How do I list my models?",
        "a",
        "The server answers 404 where there is no such model, and says what there is.",
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder_source)
    given = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
    weight = given.attention_mask[..., None]
    mean = torch.nn.functional.normalize((states * weight).sum(1) / weight.sum(1), dim=1)
    found = kit.ask(engine.load(tmp_path), Embed(inputs=texts)).vectors
    assert abs(found - mean.numpy()).max() < 1e-5
