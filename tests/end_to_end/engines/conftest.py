"""The sample model served by each engine that reads it, and real clients."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import httpx
import pytest
from openai import OpenAI

from anyform.testing.onnxdecoder import write_decoder

NEEDS = {"gguf_llamacpp": "llama_cpp", "hf_transformers": "torch", "onnx": "onnxruntime"}
"""What each plugin's engine is called."""


@pytest.fixture(scope="module", params=list(NEEDS))
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """Of a server whose model `sample`, a folder with two forms or one as ONNX, the plugin of the parameter runs."""
    plugin, folder = request.param, pytest.importorskip("anyform_samples.layout").SAMPLE
    if find_spec(NEEDS[plugin]) is None:
        pytest.skip(f"the engine of {plugin} is not installed")
    log = tmp_path_factory.mktemp("served") / "log"
    if plugin == "onnx":
        folder = write_decoder(log.with_name("sample"), folder)
    command = [*(sys.executable, "-m", "anyform", "serve", str(folder), "--port", "0", "--warm", "--parallel", "8")]
    with (
        log.open("w") as told,
        subprocess.Popen([*command, "--prefer", plugin], stdout=subprocess.PIPE, stderr=told, text=True) as server,
    ):
        try:
            greeting = server.stdout.readline() if server.stdout else ""
            assert greeting.startswith("anyform serves http://"), log.read_text()
            url = greeting.split()[2]
            with OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=120) as made:
                made.completions.create(model="sample", prompt="x", max_tokens=1)
                [loaded] = httpx.get(f"{url.removesuffix('/v1')}/runtime/status").json()["models"]
                assert loaded["plugin"] == plugin
                yield made
        finally:
            server.terminate()
            server.communicate(timeout=30)
