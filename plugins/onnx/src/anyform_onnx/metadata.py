"""What an ONNX model says of itself, as `Metadata`: its graph, config, tokenizer and genai_config; no engine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from anyform.contract.facts import FormatMatch, Metadata, ModelFiles
from anyform.onnx import graph, inspection
from anyform.onnx.graph import Model, Value
from anyform.pretrained import architecture, facts, modules
from anyform.pretrained.configuration import Configuration
from anyform.pretrained.layout import MODULES, at, folder_of
from anyform.pretrained.template import templates, thinks, uses_tools
from anyform_onnx import layout, role
from anyform_onnx.info import GENAI

NUMBERED = re.compile(r"(?<=\.)\d+(?=\.)|(?<=_)\d+$|(?<=\.)\d+$")
"""A layer's number in the name of a cache."""
KEY = re.compile(r"[._]key(?!_values)(?=[._]|$)")
"""What tells the keys of a cache from its values: `past_key_values.0.key`, `past_key_0`."""
GENAI_NAMES: Mapping[str, str] = {
    "layers": "num_hidden_layers", "heads": "num_attention_heads", "kv_heads": "num_key_value_heads",
    "head_size": "head_size", "embedding_length": "hidden_size",
}  # fmt: skip
"""Our names -> genai_config.json's, of the decoder."""
GENAI_SAMPLING: Mapping[str, str] = {
    "temp": "temperature", "top_k": "top_k", "top_p": "top_p", "penalty_repeat": "repetition_penalty",
}  # fmt: skip
READING_ROLES: Mapping[str, str] = {
    "complete": role.DECODER, "embed": role.EMBEDDING, "rerank": role.RERANKER, "classify": role.CLASSIFIER,
}  # fmt: skip
SEEING_ROLES: Mapping[str, str] = {
    "zero_shot": role.DUAL, "embed": role.IMAGE_EMBEDDING, "classify": role.IMAGE_CLASSIFIER,
}  # fmt: skip
"""What a graph is for whose config says so: task -> role."""
SHARING = "GroupQueryAttention"
"""The operator that writes what is new behind what was, into one buffer."""
POOLED = "sentence_embedding"
"""The output of a graph that makes one vector of a text by itself."""


def extract(files: ModelFiles, match: FormatMatch) -> Metadata:
    """Metadata of a match; fields that the files do not tell are None or empty, also in a broken folder.

    `extra` has, where the files tell them: role (see role.py), opset, ir_version, producer, inputs and outputs (name ->
    dtype and shape; those of a cache once, with * for the layer, and how many there are), domains (of operators that
    are not ONNX's own), graphs (part -> file), providers (that a genai_config was made for); of decoders cache_bytes
    (of one token) and, under the names that a GGUF and a Hugging Face folder have them, layers, heads, kv_heads,
    head_size, embedding_length, feed_forward_length, sliding_window, chat_template, chat_templates, special_tokens,
    sampling; of encoders pooling, pooled (the graph does it), normalize, dimensions, prompts, max_tokens, labels,
    image_size (pixels of a side), heads, embedding_length, feed_forward_length; and exported, of each type of number
    in the graph how many there are.
    """
    return _Reading(files, match).metadata()


class _Reading:
    """One match and the files that tell of it, each read once."""

    def __init__(self, files: ModelFiles, match: FormatMatch) -> None:
        self.files, self.match = files, match
        self.home = layout.home(files, match.entry)
        listed = [name for name in match.files if name.rpartition("/")[2] == MODULES]
        self.top = folder_of(listed[0]) if listed else self.home
        self.genai = layout.genai(files, match.entry) if match.format == GENAI else {}
        self.config = Configuration(layout.config(files, match))
        self.tokenizer = files.json(at(self.home, "tokenizer_config.json"))
        self.parts = {part: name for part, name in layout.graphs(files, match).items() if name in files.files}
        self.graphs = {part: graph.read(files, name) for part, name in self.parts.items()}
        self.main = next(iter(self.graphs.values()), Model(0))
        self.role = layout.role_of(files, match) or self._likely_role()

    def metadata(self) -> Metadata:
        chats = templates(self.files, self.home, self.tokenizer)
        template = chats.get("default", "")
        doing = self._tasks(template)
        found = self._graph_facts() | self._shape() | self._text_facts(chats, doing) | self._vector_facts(doing)
        whole = all(one.whole for one in self.graphs.values())
        return Metadata(
            name=self.match.name,
            version=f"opset {self.main.opsets['']}" if self.main.opsets.get("") else "",
            architecture=facts.said(self.genai.get("type")) or facts.said(self.config.model_type),
            tasks=doing,
            parameters=sum(one.elements for one in self._networks()) or None,
            context=self._context(doing),
            quantization=inspection.quantization(self.main) or self.match.variant.upper(),
            vocab_size=_whole(self.genai.get("vocab_size")) or self.config.number("vocab_size") or self._logits(),
            weight_bytes=sum(one.weight_bytes for one in self.graphs.values()) if whole else self._file_bytes(),
            features=self._features(doing, template),
            tensors=sum(kind.tensors for kind in self.main.weights.values()) or None,
            tokenizer=facts.said(self.tokenizer.get("tokenizer_class")),
            license=facts.license(self.files, self.top),
            extra={name: facts.whole(value) for name, value in found.items() if value not in (None, "", {}, [])},
        )

    def _likely_role(self) -> str:
        """By the config, of a graph whose inputs and outputs are not seen: they stand at its end."""
        if self.main.troubles or self.main.whole or not self.parts:
            return ""
        doing = architecture.tasks(self.config, modules.modules(self.files, self.top), "")
        sees = architecture.needs_pictures(self.config)
        roles = SEEING_ROLES if sees else READING_ROLES
        return next((roles[task] for task in doing if task in roles), "")

    def _networks(self) -> list[Model]:
        """The graphs that have numbers of their own: prefill and decode are one network."""
        towers = self.role == role.DUAL
        return list(self.graphs.values()) if towers else [self.main]

    def _file_bytes(self) -> int | None:
        """Of graphs that were not read whole: they are mostly weights."""
        return sum(self.files.files[name] for name in layout.weights(self.files, self.parts.values())) or None

    def _tasks(self, template: str) -> tuple[str, ...]:
        labels = architecture.labelling(self.config)
        known: Mapping[str, tuple[str, ...]] = {
            role.DECODER: ("chat", "complete") if template else ("complete",),
            role.EMBEDDING: ("embed",),
            role.RERANKER: ("rerank",),
            role.CLASSIFIER: labels if labels != ("rerank",) else ("classify",),
            role.IMAGE_CLASSIFIER: ("classify",),
            role.IMAGE_EMBEDDING: ("embed",),
            role.DUAL: ("zero_shot", "embed"),
        }
        return known.get(self.role, ())

    def _features(self, doing: Sequence[str], template: str) -> tuple[str, ...]:
        chats = "chat" in doing
        found = {
            "tools": chats and uses_tools(template),
            "thinking": chats and thinks(template),
            "vision": self.role in role.PICTORIAL,
        }
        return tuple(name for name, there in found.items() if there)

    def _context(self, doing: Sequence[str]) -> int | None:
        stated = _whole(self.genai.get("context_length"))
        if not doing or self.role in (role.IMAGE_CLASSIFIER, role.IMAGE_EMBEDDING):
            return stated
        found = facts.context(self.files, self.home, self.top, self.config, self.tokenizer, doing)
        limits = (stated or found, self._fixed_length() if self.role != role.DECODER else None)
        return min((limit for limit in limits if limit), default=None)

    def _fixed_length(self) -> int | None:
        """Tokens that a graph takes which was exported for texts of one length."""
        shape = next((one.shape for one in self.main.inputs if one.name == role.TOKENS), ())
        side = shape[1] if len(shape) == 2 else None
        return side if type(side) is int and side > 1 else None

    def _logits(self) -> int | None:
        """The vocabulary of a decoder by its output."""
        shape = next((one.shape for one in self.main.outputs if one.name == "logits"), ())
        side = shape[-1] if shape and self.role == role.DECODER else None
        return side if type(side) is int and side > 0 else None

    def _graph_facts(self) -> dict[str, Any]:
        main = self.main
        return {
            "role": self.role,
            "opset": main.opsets.get(""),
            "ir_version": main.ir_version,
            "producer": main.producer,
            "domains": sorted({kind.rpartition(".")[0] for kind in main.operators if "." in kind})[:16],
            "inputs": _values(main.inputs),
            "outputs": _values(main.outputs),
            "external_bytes": sum(part.length for model in self.graphs.values() for part in model.external) or None,
            "graphs": self.parts if len(self.parts) > 1 else None,
            "providers": self._providers(),
            "exported": {name: one.elements for name, one in main.weights.items() if name not in ("I64", "BOOL")},
        }

    def _providers(self) -> list[str]:
        """What the session options of a genai_config name, without the CPU, which needs no naming."""
        options = _table(_table(self.genai.get("decoder")).get("session_options")).get("provider_options")
        named = [name for one in options if isinstance(one, dict) for name in one] if isinstance(options, list) else []
        return list(dict.fromkeys(str(name)[:40] for name in named))[:16]

    def _shape(self) -> dict[str, Any]:
        """Lengths of the network: genai_config's and the graph's own before config.json's."""
        found = self.config.shape()
        decoder = _table(self.genai.get("decoder"))
        found |= {ours: value for ours, name in GENAI_NAMES.items() if (value := _whole(decoder.get(name)))}
        head_size = found.pop("head_size", None) or found.get("key_length")
        if self.role != role.DECODER:
            return found
        caches = [one for one in self.main.inputs if role.is_cache(one.name)]
        keys = [one for one in caches if KEY.search(one.name) and len(one.shape) == 4]
        if keys:
            heads, size = keys[0].shape[1], keys[0].shape[3]
            found |= {"layers": len(keys), "kv_heads": heads if type(heads) is int else found["kv_heads"]}
            head_size = size if type(size) is int else head_size
        found |= {"head_size": head_size, "key_length": head_size, "value_length": found["value_length"] or head_size}
        shares = any(kind.endswith(SHARING) for kind in self.main.operators)
        found["shares_cache"] = True if shares else None
        return found | {"cache_bytes": _cache_bytes(caches, found["kv_heads"], head_size)}

    def _text_facts(self, chats: Mapping[str, str], doing: Sequence[str]) -> dict[str, Any]:
        """What those need to know who generate text; the others' templates are of no use."""
        if self.role != role.DECODER:
            return {"prompts": facts.texts(self._sentences().get("prompts")) if "embed" in doing else None}
        generation = self.files.json(at(self.home, "generation_config.json"))
        special = facts.special(self.config, generation)
        special |= facts.special(Configuration(self.genai), {}) if self.genai else {}
        return {
            "chat_template": chats.get("default", ""),
            "chat_templates": {name: text for name, text in chats.items() if name != "default"},
            "special_tokens": special,
            "sampling": facts.sampling(generation) or self._search(),
        }

    def _search(self) -> dict[str, float]:
        """What a genai_config asks for where it samples; otherwise it has the builder's defaults."""
        said = _table(self.files.json(self.match.entry).get("search")) if self.genai else {}
        names = {theirs: said.get(theirs) for theirs in GENAI_SAMPLING.values()}
        return facts.sampling(names) if said.get("do_sample") is True else {}

    def _sentences(self) -> Mapping[str, Any]:
        return self.files.json(at(self.top, "config_sentence_transformers.json"))

    def _vector_facts(self, doing: Sequence[str]) -> dict[str, Any]:
        """What those need to know who embed, rerank and classify."""
        if not self.role or self.role == role.DECODER:
            return {}
        parts = modules.modules(self.files, self.top)
        embeds = "embed" in doing
        pooled = any(one.name == POOLED for one in self.main.outputs)
        return {
            "pooling": modules.pooling(self.files, self.top) or ("rank" if self.role == role.RERANKER else ""),
            "pooled": True if pooled else None,
            "normalize": any(part.kind == "Normalize" for part in parts) if parts else None,
            "dimensions": self._dimensions(parts) if embeds else None,
            "max_tokens": self._context(doing),
            "labels": list(self.config.labels)
            if {"classify", "zero_shot", "rerank"} & {*doing} and not embeds
            else None,
            "image_size": self._image_size(),
            "patch_size": self.config.sight().get("patch_size") if self.role in role.PICTORIAL else None,
        }

    def _dimensions(self, parts: Sequence[modules.Module] | None) -> int | None:
        stated = facts.dimensions(self.files, self.top, parts, self.config)
        names = (POOLED, "image_embeds", "text_embeds", "last_hidden_state", "token_embeddings")
        made = {one.name: one.shape for one in self.main.outputs}
        sides = (made[name][-1] for name in names if made.get(name))
        dense = any(part.kind == "Dense" for part in parts or ())
        own = next((side for side in sides if type(side) is int and side > 0), None)
        return stated if dense else own or stated

    def _image_size(self) -> int | None:
        """Pixels of a side: the graph's, else the preprocessor's, else the config's."""
        if self.role not in role.PICTORIAL:
            return None
        pixels = (one.shape for model in self.graphs.values() for one in model.inputs if one.name == role.PIXELS)
        side = next((shape[-1] for shape in pixels if len(shape) == 4), None)
        if type(side) is int and side > 0:
            return side
        said = self.files.json(at(self.home, "preprocessor_config.json"))
        for name in ("crop_size", "size"):
            size = said.get(name)
            sides = size.values() if isinstance(size, dict) else (size,)
            if known := next((one for one in map(_whole, sides) if one), None):
                return known
        return self.config.sight().get("image_size")


def _values(values: Sequence[Value]) -> dict[str, Any]:
    """Name -> type and shape. Those that each layer has are told once, with * for its number."""
    found: dict[str, dict[str, Any]] = {}
    for one in values:
        name = NUMBERED.sub("*", one.name) if role.is_cache(one.name) or one.name.startswith("present") else one.name
        if name in found:
            found[name]["count"] = found[name].get("count", 1) + 1
        else:
            found[name] = {"dtype": one.dtype, "shape": list(one.shape)}
    return found


def _cache_bytes(caches: Sequence[Value], kv_heads: int | None, head_size: int | None) -> int | None:
    """Bytes that all layers keep of one token. Of a state that no token adds to, such as a convolution's, none."""
    bits = dict(graph.DTYPES.values())
    total = 0
    for one in caches:
        if len(one.shape) == 4 and not isinstance(one.shape[2], int):
            heads, size = (
                side if type(side) is int else known
                for side, known in ((one.shape[1], kv_heads), (one.shape[3], head_size))
            )
            total += (heads or 0) * (size or 0) * bits.get(one.dtype, 32) // 8
    return total or None


def _table(said: Any) -> Mapping[str, Any]:
    return said if isinstance(said, dict) else {}


def _whole(said: Any) -> int | None:
    return said if type(said) is int and 0 < said < 1 << 63 else None
