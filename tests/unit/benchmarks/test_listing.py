"""The models that the listing is timed with: sound, no two alike, and spread over stores."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from anyform.assembly import start
from anyform.contract.facts import Severity
from anyform.sources.stores import Stores

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def listing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import listing

    monkeypatch.setattr(listing, "VOCABULARIES", (1000, 5000))
    return listing


def test_the_models_are_sound_and_many(listing: Any, tmp_path: Path) -> None:
    size = listing.write(tmp_path, 40)
    assert size > 40 * 20_000
    stores = Stores(
        home=tmp_path / "own",
        hub_cache=tmp_path / "hf/hub",
        user=tmp_path,
        ollama=(tmp_path / "ollama",),
        names=("huggingface", "lmstudio", "ollama"),
    )
    with closing(start(stores=stores)) as runtime:
        entries = runtime.library.entries()
        assert Counter(entry.source for entry in entries) == {"lmstudio": 20, "huggingface": 10, "ollama": 10}
        described = list(runtime.describe(entries))
    assert [one.entry for one in described] == list(entries)
    assert [finding for one in described for finding in one.findings if finding.severity is Severity.CRITICAL] == []
    assert {one.metadata.vocab_size for one in described if one.metadata} == {1000, 5000}
