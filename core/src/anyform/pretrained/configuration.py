"""What config.json says of a network, under one name for what models call differently. Nothing raises on any JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

TEXT_PARTS = ("text_config", "llm_config", "language_config", "thinker_config", "decoder")
"""Where models of several parts describe the one that reads and writes text."""
NAMES: Mapping[str, Sequence[str]] = {
    "embedding_length": ("hidden_size", "d_model", "n_embd", "dim", "model_dim"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers", "encoder_layers"),
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "decoder_ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv"),
    "key_length": ("head_dim", "d_kv", "attention_head_dim"),
    "value_length": ("v_head_dim", "head_dim", "d_kv", "attention_head_dim"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "experts_used": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "kv_lora_rank": ("kv_lora_rank",),
    "shared_kv_layers": ("num_kv_shared_layers",),
    "state_size": ("state_size", "mamba_d_state", "ssm_state_size"),
    "conv_kernel": ("conv_kernel", "mamba_d_conv", "linear_conv_kernel_dim"),
}
"""Our name in `extra`, the same as for a GGUF -> the names in config.json, the likeliest first."""
SIGHT: Mapping[str, Sequence[str]] = {
    "width": ("hidden_size", "embed_dim"),
    "feed_forward": ("intermediate_size",),
    "heads": ("num_attention_heads",),
    "image_size": ("image_size",),
    "patch_size": ("patch_size",),
}
"""The same of the part that looks at pictures, for a model's `sight`."""
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "n_ctx", "seq_length")
OFFSET_POSITIONS = frozenset({
    "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet", "data2vec-text", "ibert",
    "roberta-prelayernorm", "xmod", "bertweet",
})  # fmt: skip
"""Models whose positions begin after the padding token's id, so that some of the table are never used."""
LARGEST = sys.float_info.max
"""JSON may hold greater whole numbers, and what is no number at all (NaN)."""
SLIDING = ("sliding_attention", "chunked_attention")
READS_TEXT = ("ForCausalLM", "LMHeadModel", "ForSequenceClassification", "ForMaskedLM", "ForTokenClassification")
"""Endings of classes that read text and nothing else."""


class Configuration:
    """One config.json."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.text = _text_part(content, 3)
        """The part that describes the text model; the whole where there is but one."""

    @property
    def model_type(self) -> str:
        return _text(self.content.get("model_type"))

    @property
    def architectures(self) -> tuple[str, ...]:
        said = self.content.get("architectures")
        return tuple(name for name in said if isinstance(name, str)) if isinstance(said, list) else ()

    @property
    def reads_text(self) -> bool:
        """Whether its class reads text and nothing else."""
        return bool(self.architectures) and self.architectures[0].endswith(READS_TEXT)

    @property
    def has_vision(self) -> bool:
        """Whether a part of it sees."""
        names = ("vision_config", "vision_tower_config", "visual", "image_token_id", "image_token_index")
        return any(self.content.get(name) is not None for name in names)

    @property
    def has_hearing(self) -> bool:
        return any(isinstance(self.content.get(name), dict) for name in ("audio_config", "speech_config"))

    @property
    def remote_code(self) -> tuple[str, ...]:
        """Classes of its own that it wants imported: `module.Class`, sorted."""
        said = self.content.get("auto_map")
        values = said.values() if isinstance(said, dict) else ()
        named = [name for value in values for name in (value if isinstance(value, list) else [value])]
        return tuple(sorted({name for name in named if isinstance(name, str)}))

    def number(self, *names: str) -> int | None:
        """The first of *names* that is a whole number, not negative; of the text part first."""
        for content in (self.text, self.content):
            for name in names:
                value = content.get(name)
                if type(value) is int and 0 <= value < 1 << 63:
                    return value
        return None

    def get(self, name: str) -> Any:
        """The value of the text part, else of the whole."""
        return self.text.get(name, self.content.get(name))

    @property
    def context(self) -> int | None:
        """Tokens that there are positions for; None: the model has no such limit, or does not say."""
        if self.model_type == "whisper":
            return self.number("max_target_positions")
        stated = self.number(*CONTEXTS)
        if stated and self.model_type in OFFSET_POSITIONS:
            padding = self.number("pad_token_id")
            stated = max(0, stated - (1 if padding is None else padding) - 1)
        return stated or None

    @property
    def labels(self) -> tuple[str, ...]:
        """What a classifier tells apart, in the order of its outputs; empty where it does not say."""
        said = self.content.get("id2label")
        if not isinstance(said, dict) or not all(str(key).isdecimal() for key in said):
            count = self.content.get("num_labels")
            return tuple(f"LABEL_{n}" for n in range(count)) if type(count) is int and 0 < count <= 10_000 else ()
        return tuple(str(said[key]) for key in sorted(said, key=lambda key: (len(key), key)))

    def shape(self) -> dict[str, Any]:
        """The numbers that describe the network, with transformers' defaults for heads' lengths and KV heads."""
        found: dict[str, Any] = {name: self.number(*keys) for name, keys in NAMES.items()}
        if found["kv_heads"] is None:
            # Falcon and GPT-BigCode, which had one head for all before there was a name for it.
            found["kv_heads"] = 1 if self.get("multi_query") is True else found["heads"]
        width, heads = found["embedding_length"], found["heads"]
        for name in ("key_length", "value_length"):
            if found[name] is None and width and heads:
                found[name] = width // heads
        rope, plain = self.number("qk_rope_head_dim"), self.number("qk_nope_head_dim")
        if found["kv_lora_rank"] and rope is not None and plain is not None:
            found["key_length"] = rope + plain
        return found | self._attention()

    def sight(self) -> dict[str, int]:
        """The part that looks at pictures: width, feed_forward, heads, image_size, patch_size (pixels), as it says."""
        parts = (self.content.get(name) for name in ("vision_config", "encoder"))
        part = next((one for one in parts if isinstance(one, dict)), self.content)
        found = {}
        for name, keys in SIGHT.items():
            value = next((part[key] for key in keys if type(part.get(key)) is int), 0)
            if 0 < value < 1 << 20:
                found[name] = value
        return found if "image_size" in found or "patch_size" in found else {}

    def _attention(self) -> dict[str, Any]:
        """Windows, kinds of layers, positions."""
        window = self.number("sliding_window", "attention_chunk_size")
        kinds = self.get("layer_types")
        layered = kinds if isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds) else None
        used = window if window and self.get("use_sliding_window") is not False else None
        rope = next((part for part in map(self.get, ("rope_parameters", "rope_scaling")) if isinstance(part, dict)), {})
        base = rope.get("rope_theta", self.get("rope_theta"))
        original = rope.get("original_max_position_embeddings")
        return {
            "sliding_window": used,
            "window_pattern": [kind in SLIDING for kind in layered] if layered and used else None,
            "layer_types": layered,
            "rope_freq_base": float(base) if isinstance(base, int | float) and abs(base) <= LARGEST else None,
            "rope_scaling": _text(rope.get("rope_type", rope.get("type"))).replace("default", ""),
            "rope_original_context": original if type(original) is int else None,
        }


def _text_part(content: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    for name in TEXT_PARTS:
        part = content.get(name)
        if depth and isinstance(part, dict) and part:
            return _text_part(part, depth - 1)
    return content


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
