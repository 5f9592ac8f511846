"""What of a pipeline's configurations decides how much memory its parts take while they compute. No engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DENOISERS = ("unet", "transformer")
TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
CLIP_TOKENS, T5_TOKENS, SD3_T5_TOKENS = 77, 512, 256
"""How many tokens pipelines pad prompts to: CLIP's positions; `max_sequence_length` of Flux, and of SD3."""


def of(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """*configs*: by component, its config.json. Returns JSON values: `denoiser`, `vae` and `texts`, as below.

    What is absent or of another type is left out: the estimate then is a guess.
    """
    texts = [_text(configs[name], name) for name in TEXTS if name in configs]
    network = next((configs[name] for name in DENOISERS if name in configs), {})
    vae = _vae(configs.get("vae", {}))
    tokens = sum(text["tokens"] for text in texts[-1:])
    return {
        "denoiser": _unet(network) if "block_out_channels" in network else _transformer(network, vae["latent"], tokens),
        "vae": vae,
        "texts": texts,
    }


def _unet(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of UNet2DConditionModel: channels by level, and which levels attend, on the way down."""
    kinds = config.get("down_block_types")
    return {
        "kind": "unet",
        "channels": _wholes(config.get("block_out_channels")),
        "attends": ["Attn" in str(kind) for kind in (kinds if isinstance(kinds, list | tuple) else ())],
    }


def _transformer(config: Mapping[str, Any], latent: int, tokens: int) -> dict[str, Any]:
    """Of SD3Transformer2DModel and FluxTransformer2DModel. *tokens*: of the text, which it attends to.

    `patch`: side of the square of latents that is one token; FluxPipeline packs 2 x 2 of them before its network
    (`_pack_latents`), which then has 4 times their channels.
    """
    packs = 2 if config.get("in_channels") == 4 * latent else 1
    return {
        "kind": "transformer",
        "width": _whole(config.get("num_attention_heads")) * _whole(config.get("attention_head_dim")),
        "patch": packs * _whole(config.get("patch_size"), 1),
        "single": _whole(config.get("num_single_layers")),
        "tokens": tokens,
    }


def _vae(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of AutoencoderKL: channels by level, the first at the picture's own size."""
    return {
        "channels": _wholes(config.get("block_out_channels")),
        "latent": _whole(config.get("latent_channels"), 4),
        "sample": _whole(config.get("sample_size"), 512),
    }


def _text(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Of CLIP's text models, and of T5's encoder."""
    if "d_model" in config:
        return {
            "width": _whole(config.get("d_model")),
            "feed_forward": _whole(config.get("d_ff")),
            "heads": _whole(config.get("num_heads")),
            "tokens": SD3_T5_TOKENS if name == "text_encoder_3" else T5_TOKENS,
        }
    return {
        "width": _whole(config.get("hidden_size")),
        "feed_forward": _whole(config.get("intermediate_size")),
        "heads": _whole(config.get("num_attention_heads")),
        "tokens": _whole(config.get("max_position_embeddings"), CLIP_TOKENS),
    }


MOST = 1 << 31
"""Numbers from here on are no sizes, and formulas in floats may not hold them."""


def _whole(value: Any, otherwise: int = 0) -> int:
    return value if type(value) is int and 0 < value < MOST else otherwise


def _wholes(value: Any) -> list[int]:
    """A number or several, of a configuration that a stranger wrote."""
    values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
    return [one for one in values if _whole(one)]
