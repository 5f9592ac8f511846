"""Ollama's store: manifests, one file a tag, that name blobs by their SHA-256.

`manifests/<host>/<namespace>/<model>/<tag>` is JSON with `layers`, each with a `mediaType` and a `digest`;
`blobs/sha256-<hex>` are the layers. Source: https://github.com/ollama/ollama, server/internal/manifest/manifest.go.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyform.contract.hooks import Place

MEDIA = "application/vnd.ollama.image."
WEIGHTS = ("model", "projector")
"""Layers that an engine reads; all else says how the model is used, and is shown."""
ADAPTER = "adapter"
"""A layer that changes the weights. Without it the model would be another one, so it is left out."""
DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
HOST, NAMESPACE = "registry.ollama.ai", "library"
"""What Ollama leaves out when it shows a name."""
HUBS = ("hf.co", "huggingface.co")
TEXT_BYTES = 1 << 20
MANIFEST_BYTES = 1 << 20

Layers = Mapping[str, Sequence[str]]
"""Kind of layer (model, template, …) -> digests, in the manifest's order."""


class OllamaStore:
    """All models of a store, but for those with an adapter; tags of the same weights are one model of several names."""

    name = "ollama"

    def __init__(self, folder: Path) -> None:
        """*folder*: `models`, with `manifests` and `blobs` in it; it may not exist."""
        self.folder = folder

    def find(self) -> Iterator[Place]:
        """One place for each set of weights, by its first tag's name."""
        tags: dict[tuple[str, ...], list[tuple[str, Layers]]] = {}
        for name, layers in _tags(self.folder / "manifests"):
            weights = tuple(digest for kind in WEIGHTS for digest in layers.get(kind, ()))
            if layers.get("model") and ADAPTER not in layers:
                tags.setdefault(weights, []).append((name, layers))
        for weights, named in tags.items():
            name, *others = (name for name, _ in named)
            blobs = {_blob(self.folder, digest).name: digest for digest in weights}
            yield Place(
                path=self.folder / "blobs",
                name=name,
                aliases=tuple(others),
                files=tuple(blobs),
                digests=blobs,
                about=next((said for said in (dict(_about(self.folder, layers)) for _, layers in named) if said), {}),
            )


def shown_name(parts: Sequence[str]) -> str:
    """How Ollama writes the name of the manifest at host/namespace/model/tag."""
    *where, model, tag = parts
    if where == [HOST, NAMESPACE]:
        where = []
    elif where[:1] == [HOST] or where[:1] in ([hub] for hub in HUBS):
        where = where[1:]
    return f"{'/'.join([*where, model])}:{tag}"


def _tags(manifests: Path) -> Iterator[tuple[str, Layers]]:
    for parts, path in _files(manifests, ()):
        layers = _layers(path)
        if len(parts) >= 3 and layers:
            yield shown_name(parts), layers


def _files(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Path]]:
    with suppress(OSError), os.scandir(folder) as found:
        for item in sorted(found, key=lambda item: item.name):
            if item.name.startswith("."):
                continue
            if item.is_dir() and len(parts) < 6:
                yield from _files(Path(item.path), (*parts, item.name))
            elif item.is_file():
                yield (*parts, item.name), Path(item.path)


def _layers(manifest: Path) -> Layers:
    try:
        if manifest.stat().st_size > MANIFEST_BYTES:
            return {}
        said = json.loads(manifest.read_bytes())
        found: dict[str, list[str]] = {}
        for layer in said["layers"]:
            kind = str(layer["mediaType"]).partition(";")[0]
            digest = DIGEST.fullmatch(str(layer["digest"]))
            if kind.startswith(MEDIA) and digest:
                found.setdefault(kind.removeprefix(MEDIA), []).append(digest[1])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def _blob(folder: Path, digest: str) -> Path:
    """The blob's file; early releases wrote a colon."""
    dashed = folder / "blobs" / f"sha256-{digest}"
    colon = folder / "blobs" / f"sha256:{digest}"
    return colon if not dashed.exists() and colon.exists() else dashed


def _about(folder: Path, layers: Layers) -> Iterator[tuple[str, Any]]:
    """The texts and parameters beside the weights, by their layer's kind."""
    for kind, digests in layers.items():
        if kind in WEIGHTS:
            continue
        texts = [text for text in (_text(_blob(folder, digest)) for digest in digests) if text is not None]
        if kind in ("params", "messages"):
            with suppress(ValueError):
                yield kind, json.loads(texts[0] if texts else "null")
        elif texts:
            yield kind, "\n".join(texts)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= TEXT_BYTES else None
    except (OSError, UnicodeDecodeError):
        return None
