"""What an RKLLM model says of itself, as `Metadata`: its clear numbers and its end, its sidecars, its names."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform.pretrained import facts
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.layout import CONFIG, MODULES, folder_of
from anyform.pretrained.template import templates, thinks, uses_tools
from anyform_rkllm import detection, header, name, sidecar
from anyform_rkllm.header import Header
from anyform_rkllm.info import CONTEXT
from anyform_rkllm.name import Name
from anyform_rkllm.vision import finding

HEADER, TRAILER, SIDECAR, NAME, DEFAULT = "header", "trailer", "sidecar", "name", "default"
"""Where a fact is from. DEFAULT: nothing says it."""
EMBEDS = re.compile(r"embed|(?<![a-z])(?:bge|gte|e5)(?![a-z])", re.I)
RANKS = re.compile(r"rerank", re.I)
THINKS = re.compile(r"deepseek-r1|(?<![a-z])qwq|thinking|reason", re.I)
"""Names of models that reason before they answer, for those without a chat template beside them."""
LEAST_BITS, MOST_BITS = 2, 40
"""Of a number in the file on average: what lies outside is no count of numbers, but a misread directory."""
LIKE = 2
"""How far the directory's count may be from what the name says, as a factor; scales of groups count with it."""


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that nothing tells are None or empty, also in a broken file.

    `extra` has platforms (chips), optimization, hybrid_ratio, toolkit, base_model, sources (fact -> header, trailer,
    sidecar, name or default), context_stated, original_context (what the original was trained for), tokenizer (file
    names), chat_template (whether one lies beside it), vision_encoder and vision_bytes, and from config.json layers,
    heads, kv_heads, key_length, value_length, embedding_length, feed_forward_length and what else it has of the
    network, special_tokens, sampling.
    """
    return _Reading(files, match).metadata()


class _Reading:
    """One match and the files that tell of it, each read once."""

    def __init__(self, files: ModelFiles, match: FormatMatch) -> None:
        self.files, self.match = files, match
        self.header = Header(size=files.files.get(match.entry, 0))
        with suppress(OSError):  # validation tells it
            self.header = header.read(files, match.entry)
        self.home = folder_of(self._listed(CONFIG) or self._listed("tokenizer_config.json") or match.entry)
        self.config = Configuration(files.json(self._listed(CONFIG)))
        self.generation = files.json(self._listed("generation_config.json"))
        self.tokenizer = files.json(self._listed("tokenizer_config.json"))
        self.meta = sidecar.meta(files.json(self._listed(sidecar.META)))
        self.names = names(files, match)
        self.template = templates(self.files, self.home, self.tokenizer).get("default", "")
        self.sources: dict[str, str] = {}

    def metadata(self) -> Metadata:
        encoder = next(iter(finding.encoders(self.match.files)), "")
        base = self._base()
        context = self._said("context") or CONTEXT
        self.sources.setdefault("context", DEFAULT)
        extra = self._conversion() | self._shape() | {
            "base_model": base,
            "context_stated": self.sources["context"] != DEFAULT,
            "tokenizer": [file for file in self.match.files if PurePosixPath(file).name in sidecar.TOKENIZERS],
            "chat_template": bool(self.template),
            "vision_encoder": encoder,
            "vision_bytes": sum(self.files.files.get(file, 0) for file in (encoder, *self._outer(encoder)) if encoder),
        }  # fmt: skip
        return Metadata(
            name=self.match.name or base,
            version=str(self.header.version) if self.header.known else "",
            architecture=facts.said(self.config.model_type),
            tasks=self._tasks(base),
            parameters=self._parameters(),
            # Not config.json's positions: those are of the original, and the conversion fixes its own, smaller limit,
            # which lies masked in the file; the library tells it when it loads the model.
            context=context,
            quantization=self._said("quantization") or "",
            vocab_size=self._vocabulary(),
            weight_bytes=self.files.files.get(self.match.entry) or None,
            features=self._features(encoder, base),
            tensors=self.header.tensors if self.header.known else None,
            tokenizer=facts.said(self.tokenizer.get("tokenizer_class")),
            license=facts.license(self.files, self.home),
            extra={**{key: facts.whole(value) for key, value in extra.items()}, "sources": self.sources},
        )

    def _conversion(self) -> dict[str, Any]:
        toolkit = self.header.toolkit
        if toolkit:
            self.sources["toolkit"] = TRAILER
        return {
            "platforms": list(self._said("platforms") or ()),
            "optimization": self._said("optimization"),
            "hybrid_ratio": self._said("hybrid_ratio"),
            "toolkit": toolkit or self._said("toolkit") or "",
        }

    def _shape(self) -> dict[str, Any]:
        found = self.config.shape() | {
            "original_context": self.config.context,
            "special_tokens": facts.special(self.config, self.generation),
            "sampling": facts.sampling(self.generation),
        }
        return {key: value for key, value in found.items() if value not in (None, "", {}, [])}

    def _said(self, fact: str) -> Any:
        """What meta.json says, else the names; None where neither does."""
        stated = getattr(self.meta, fact)
        origin = SIDECAR
        if stated in (None, "", ()):
            found = (getattr(said, fact) for said in self.names)
            stated, origin = next((one for one in found if one not in (None, "", ())), None), NAME
        if stated is not None:
            self.sources[fact] = origin
        return stated

    def _base(self) -> str:
        """The original's name: the file's where it has one, else what meta.json or the folder say."""
        own = self.names[0].base or self.meta.base_model or next((said.base for said in self.names if said.base), "")
        if own:
            self.sources["base_model"] = SIDECAR if own == self.meta.base_model else NAME
        return str(facts.whole(own))

    def _parameters(self) -> int | None:
        """By the directory where that can be, else by the name, which rounds."""
        named = next((said.parameters for said in self.names if said.parameters), None)
        directory = self.header.directory
        counted = directory.elements if directory else 0
        sound = counted > 0 and LEAST_BITS <= 8 * self.header.size / counted <= MOST_BITS
        if sound and (named is None or counted / LIKE <= named <= counted * LIKE):
            self.sources["parameters"] = HEADER
            return counted
        if named is not None:
            self.sources["parameters"] = NAME
        return named

    def _vocabulary(self) -> int | None:
        directory = self.header.directory
        if directory and directory.vocabulary:
            self.sources["vocab_size"] = HEADER
            return directory.vocabulary
        stated = self.config.number("vocab_size")
        if stated is not None:
            self.sources["vocab_size"] = SIDECAR
        return stated

    def _tasks(self, base: str) -> tuple[str, ...]:
        if detection.companion(self.match):
            return ()
        pooled = any(PurePosixPath(file).name == MODULES for file in self.match.files)
        if pooled or EMBEDS.search(base):
            return ("embed",)
        # A reranker scores by the likelihood of "yes", which the library does not tell.
        if RANKS.search(base):
            return ("complete",)
        # The library puts a text into its chat template, unless there is a tokenizer, or a template that goes over it.
        return ("chat", "complete", "embed") if self._listed("tokenizer.json") or self.template else ("chat",)

    def _features(self, encoder: str, base: str) -> tuple[str, ...]:
        chats = "chat" in self._tasks(base)
        found = {
            "tools": chats and uses_tools(self.template),
            "thinking": chats and (thinks(self.template) if self.template else bool(THINKS.search(base))),
            "vision": bool(encoder),
        }
        return tuple(feature for feature, there in found.items() if there)

    def _listed(self, wanted: str) -> str:
        """The match's file of that name; empty: it has none."""
        return next((file for file in self.match.files if PurePosixPath(file).name == wanted), "")

    def _outer(self, encoder: str) -> tuple[str, ...]:
        return finding.data(self.match.files, encoder)


def names(files: ModelFiles, match: FormatMatch) -> list[Name]:
    """What the file's name says, then that of its folder, then that of the whole: on the Hub a repository's."""
    own = PurePosixPath(match.entry)
    parents = [part for part in reversed(own.parent.parts) if part != "."]
    return [name.parse(part) for part in (own.stem, *parents[:2], files.path.name)]
