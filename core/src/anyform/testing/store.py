"""Writes other programs' stores in their documented layouts: Ollama's, and the Hugging Face cache.

LM Studio's needs no writer: plain folders `publisher/repository/`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"


def write_ollama(
    models: Path,
    name: str,
    weights: bytes,
    projector: bytes = b"",
    texts: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Path:
    """Add `[[host/]namespace/]model:tag` to the store *models*; the manifest's path.

    *texts*: further layers by their kind, such as template, system and license.
    """
    layers = [("model", weights), *([("projector", projector)] if projector else [])]
    layers += [(kind, text.encode()) for kind, text in (texts or {}).items()]
    if params:
        layers.append(("params", json.dumps(params).encode()))
    named = [{"mediaType": f"application/vnd.ollama.image.{kind}", **_blob(models, data)} for kind, data in layers]
    config = {
        "mediaType": "application/vnd.docker.container.image.v1+json",
        **_blob(models, b'{"model_format":"gguf"}'),
    }
    where, _, tag = name.partition(":")
    parts = where.split("/")
    host = ["registry.ollama.ai", "library"][: 3 - len(parts)]
    manifest = models.joinpath("manifests", *host, *parts, tag or "latest")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest.write_text(json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": named}))
    return manifest


def write_snapshot(
    cache: Path, repository: str, files: Mapping[str, bytes], revision: str = REVISION, ref: str = "main"
) -> Path:
    """Add a snapshot of *repository* to the Hugging Face cache, as links to blobs; its folder. *ref*: "" for none."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / revision
    (home / "blobs").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        large = not name.endswith((".json", ".md", ".txt"))  # small files are named as Git does
        git = hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False)
        blob = home / "blobs" / (hashlib.sha256(data).hexdigest() if large else git.hexdigest())
        blob.write_bytes(data)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", blob.name))
    if ref:
        (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (home / "refs" / ref).write_text(revision)
    return snapshot


def _blob(models: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    blob = models / "blobs" / f"sha256-{digest}"
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
