"""A made model of the sample model answers as the same request with everything said, over every dialect."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from anyform.assembly import start
from anyform.sources.stores import Stores
from anyform.testing.gguf import write_llama, write_lora

pytestmark = pytest.mark.engine

ASKED = [{"role": "user", "content": "How do I serve a folder of models?"}]
SYSTEM = "You are a pirate."
PARAMETERS = {"temperature": 0, "num_predict": 5, "stop": ["\n\n"], "num_ctx": 512}
TEMPLATE = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def kept(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server over the sample models, with a folder of its own."""
    stores = Stores(home=tmp_path_factory.mktemp("home") / "models", names=("anyform", "samples"))
    here = serving(start(where="here", stores=stores))
    here.http.timeout = httpx.Timeout(60)
    yield here
    here.close()


def make(kept: Any, name: str, **said: Any) -> None:
    body = {"model": name, "from": "sample", "stream": False, **said}
    made = kept.http.post("/api/create", json=body)
    assert made.json() == {"status": "success"}


def chat(kept: Any, model: str, messages: list[dict[str, str]], **options: Any) -> dict[str, Any]:
    body = {"model": model, "messages": messages, "stream": False, "options": options}
    answer: dict[str, Any] = kept.http.post("/api/chat", json=body).json()
    return {name: answer[name] for name in ("message", "done_reason", "prompt_eval_count", "eval_count")}


def test_what_a_model_is_made_of_is_as_if_each_request_said_it(kept: Any) -> None:
    make(kept, "pirate", system=SYSTEM, parameters=PARAMETERS)
    explicit = chat(kept, "sample", [{"role": "system", "content": SYSTEM}, *ASKED], **PARAMETERS)
    assert chat(kept, "pirate", ASKED) == explicit
    assert explicit["eval_count"] == 5
    plain = chat(kept, "sample", ASKED, temperature=0)
    assert plain["prompt_eval_count"] < explicit["prompt_eval_count"]
    assert plain["message"] != explicit["message"]
    other = kept.http.post("/v1/chat/completions", json={"model": "pirate", "messages": ASKED}).json()
    assert other["choices"][0]["message"]["content"] == explicit["message"]["content"]
    assert other["choices"][0]["finish_reason"] == explicit["done_reason"] == "length"
    assert other["usage"]["prompt_tokens"] == explicit["prompt_eval_count"]
    assert chat(kept, "pirate", ASKED, num_predict=2)["eval_count"] == 2


def test_a_template_of_ollamas_is_what_the_model_is_asked_by(kept: Any) -> None:
    make(kept, "templated", template=TEMPLATE, parameters={"temperature": 0})
    generated = {"model": "sample", "raw": True, "stream": False, "options": {"temperature": 0}}
    prompt = f"<|im_start|>user\n{ASKED[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    raw = kept.http.post("/api/generate", json={**generated, "prompt": prompt}).json()
    answered = chat(kept, "templated", ASKED)
    assert answered["message"]["content"] == raw["response"]
    assert answered["prompt_eval_count"] == raw["prompt_eval_count"]


def test_show_tells_of_a_real_model(kept: Any) -> None:
    shown = kept.http.post("/api/show", json={"model": "sample"}).json()
    told = shown["model_info"]
    assert (told["general.architecture"], told["qwen3.context_length"], told["qwen3.block_count"]) == ("qwen3", 2048, 5)
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["details"]["parameter_size"] == "4.46M"
    assert "{%" in shown["template"]


def test_an_adapter_is_laid_over_an_uploaded_gguf(kept: Any, tmp_path: Path) -> None:
    files = {
        "tiny.gguf": write_llama(tmp_path / "tiny.gguf"),
        "lora.gguf": write_lora(tmp_path / "lora.gguf", alpha=400),
    }
    digests = {name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for name, path in files.items()}
    for name, path in files.items():
        assert kept.http.post(f"/api/blobs/{digests[name]}", content=path.read_bytes()).status_code == 201
    tiny, adapters = ({name: digests[name]} for name in files)
    assert kept.http.post("/api/create", json={"model": "tiny", "files": tiny, "stream": False}).status_code == 200
    assert (
        kept.http.post("/api/create", json={"model": "laid", "from": "tiny", "adapters": adapters}).status_code == 200
    )
    generated = {
        "prompt": "one two three",
        "raw": True,
        "stream": False,
        "options": {"temperature": 0, "num_predict": 9},
    }
    answers = {
        model: kept.http.post("/api/generate", json={"model": model, **generated}).json()["response"]
        for model in ("tiny", "laid")
    }
    assert answers["tiny"] != answers["laid"]
    broken = {"lora.gguf": tiny["tiny.gguf"]}
    kept.http.post("/api/create", json={"model": "torn", "from": "tiny", "adapters": broken})
    refused = kept.http.post("/api/generate", json={"model": "torn", **generated})
    assert (refused.status_code, "could not load the LoRA adapter lora.gguf" in refused.text) == (503, True)
    assert str(kept.runtime.library.recipes.home) not in refused.text


def test_a_model_is_quantized_as_it_is_made(kept: Any, tmp_path: Path) -> None:
    data = write_llama(tmp_path / "w.gguf", seed=2).read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert kept.http.post(f"/api/blobs/{digest}", content=data).status_code == 201
    make(kept, "wide", **{"from": ""}, files={"w.gguf": digest}, system="Be brief.")
    lines = kept.http.post(
        "/api/create", json={"model": "narrow", "from": "wide", "quantize": "q8_0"}
    ).text.splitlines()
    assert [line for line in lines if "quantizing" in line]
    assert lines[-1] == '{"status":"success"}'
    listed = {one["name"]: one for one in kept.http.get("/api/tags").json()["models"]}
    assert listed["narrow:latest"]["details"]["quantization_level"] == "Q8_0"
    assert listed["narrow:latest"]["size"] < listed["wide:latest"]["size"] == len(data)
    assert kept.http.post("/api/show", json={"model": "narrow"}).json()["system"] == "Be brief."
    said = {"model": "narrow", "prompt": "hello", "raw": True, "stream": False, "options": {"num_predict": 3}}
    assert kept.http.post("/api/generate", json=said).json()["done_reason"] in ("stop", "length")
    again = kept.http.post("/api/create", json={"model": "less", "from": "narrow", "quantize": "Q4_K_M"})
    assert again.status_code == 400
    assert "Q8_0" in again.json()["error"]
    straight = {"model": "straight", "files": {"w.gguf": digest}, "quantize": "Q8_0", "stream": False}
    assert kept.http.post("/api/create", json=straight).json() == {"status": "success"}
