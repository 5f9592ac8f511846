"""Models that are made of uploaded GGUF files, with an adapter, run as any other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyform.assembly import start
from anyform.builtin import machine
from anyform.contract.events import Text as Said
from anyform.contract.facts import Settings
from anyform.contract.jobs import Complete, Generation, Sampling
from anyform.kernel.plugins import Plugins
from anyform.kernel.runtime import Runtime
from anyform.sources import derivation
from anyform.sources.derivation import Derivations
from anyform.sources.recipe import Recipe
from anyform.sources.stores import Stores
from anyform.testing.gguf import write_llama, write_lora
from anyform_gguf_llamacpp import plugin

pytestmark = pytest.mark.engine


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    plugins = Plugins.of({"gguf_llamacpp": plugin, "machine": machine})
    runtime = start(stores=Stores(home=tmp_path / "models", names=("anyform",)), where="here", plugins=plugins)
    yield runtime
    runtime.close()


@pytest.fixture
def recipes(runtime: Runtime) -> Derivations:
    made = derivation.of(runtime)
    assert made is not None
    return made


def upload(recipes: Derivations, path: Path) -> str:
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    recipes.blobs.store(digest, [data])
    return digest


def said(runtime: Runtime, model: str) -> str:
    wanted = Generation(max_tokens=24, sampling=Sampling(temperature=0.0), ignore_eos=True)
    events = runtime.generate(model, Complete(prompt="hello world", generation=wanted))
    return "".join(event.text for event in events if isinstance(event, Said))


def test_an_uploaded_model_and_its_adapter_run(runtime: Runtime, recipes: Derivations, tmp_path: Path) -> None:
    settings = Settings(context=64, options={"threads": 1})
    weights = upload(recipes, write_llama(tmp_path / "w.gguf", seed=1))
    recipes.create(Recipe(name="plain", settings=settings), files={"model.gguf": weights})
    adapter = upload(recipes, write_lora(tmp_path / "a.gguf", alpha=4000.0))
    recipes.create(Recipe(name="tuned", base="plain"), adapters={"adapter.gguf": adapter})
    plain, tuned = said(runtime, "plain"), said(runtime, "tuned")
    assert plain
    assert plain != tuned
    assert {model.model: model.context for model in runtime.loaded()} == {"plain": 64, "tuned": 64}
    recipes.delete("plain")
    assert said(runtime, "tuned") == tuned
    assert recipes.delete("tuned").freed_bytes > 0
    assert runtime.names() == []
    assert list((tmp_path / "models" / ".recipes" / "blobs").iterdir()) == []
