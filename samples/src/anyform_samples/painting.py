"""Tiny random pipelines of diffusers, made from configurations: they paint noise, as real ones paint pictures.

Sources of the configurations: the fast tests of diffusers, which make pipelines of these shapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FAMILIES = ("sd", "sdxl", "sd3", "flux")
SEED = 0
_WORDS = 200
"""Pieces of the vocabulary of T5."""
_UNQUANTIZED = {"use_quant_conv": False, "use_post_quant_conv": False}
"""VAEs of the families since SD3 have no convolutions between encoder, latents and decoder."""


def write(family: str, folder: Path, *, width: int = 1, **how: Any) -> Path:
    """Write a pipeline of *family* to *folder*. *width*: multiplies channels, for figures of speed and memory.

    *how*: as save_pretrained's (variant, max_shard_size). Same arguments, same weights.
    """
    made(family, folder.parent / f".{folder.name}-tokenizers", width).save_pretrained(folder, **how)
    return folder


def made(family: str, scratch: Path, width: int = 1) -> Any:
    """A pipeline of *family* in memory; tokenizers are written to *scratch* first."""
    import torch

    scratch.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    return _MAKERS[family](scratch, width)


def _clip_tokenizer(scratch: Path) -> Any:
    """Each byte is a token, at the end of a word one of its own; no merges: GPT-2's alphabet of bytes."""
    from transformers import CLIPTokenizer

    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = [chr(byte) for byte in shown] + [chr(256 + place) for place in range(len(hidden))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (scratch / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (scratch / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(scratch, model_max_length=77)


def _t5_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(chr(code), -2.0 - code / 1000) for code in range(33, 33 + _WORDS)]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _clip(width: int, projection: int = 0, size: int = 32) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=size * width,
        intermediate_size=37 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=projection or size * width,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=1,
        hidden_act="gelu" if projection else "quick_gelu",
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _eye(encoder: Any) -> Any:
    """SD3's first encoder: what single files have of it is without a projection, and diffusers takes none for it."""
    from torch.nn.init import eye_

    eye_(encoder.text_projection.weight)
    return encoder


def _t5(size: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=_WORDS + 4, d_model=size, d_kv=8, d_ff=size, num_layers=2, num_heads=4, dropout_rate=0.0)
    ).eval()


def _vae(width: int, latent: int = 4, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=[32 * width, 64 * width],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"],
        latent_channels=latent,
        sample_size=64,
        **more,
    ).eval()


def _sd(scratch: Path, width: int) -> Any:
    from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(32 * width, 64 * width),
        layers_per_block=2,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32 * width,
    )
    steps = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=_vae(width), text_encoder=_clip(width), tokenizer=_clip_tokenizer(scratch), unet=unet.eval(),
        scheduler=steps, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl(scratch: Path, width: int) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        block_out_channels=(32 * width, 64 * width),
        layers_per_block=2,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=32 * width + 6 * 8,
        cross_attention_dim=64 * width,
    )
    steps = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, steps_offset=1, beta_schedule="scaled_linear", timestep_spacing="leading"
    )
    words = _clip_tokenizer(scratch)
    return StableDiffusionXLPipeline(
        vae=_vae(width), text_encoder=_clip(width, size=24), text_encoder_2=_clip(width, 32 * width, 40),
        tokenizer=words, tokenizer_2=words, unet=unet.eval(), scheduler=steps,
    )  # fmt: skip


def _sd3(scratch: Path, width: int) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4 * width,
        caption_projection_dim=32 * width,
        joint_attention_dim=64 * width,
        pooled_projection_dim=64 * width,
        out_channels=16,
        pos_embed_max_size=96,
    )
    words = _clip_tokenizer(scratch)
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(width, 16, shift_factor=0.0609, scaling_factor=1.5035, **_UNQUANTIZED),
        text_encoder=_eye(_clip(width, 24 * width, 24)), tokenizer=words,
        text_encoder_2=_clip(width, 40 * width, 40), tokenizer_2=words,
        text_encoder_3=_t5(64 * width), tokenizer_3=_t5_tokenizer(),
    )  # fmt: skip


def _flux(scratch: Path, width: int) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2 * width,
        joint_attention_dim=32 * width,
        pooled_projection_dim=32 * width,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    return FluxPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(width, shift_factor=0.1159, scaling_factor=0.3611, **_UNQUANTIZED),
        text_encoder=_clip(width), tokenizer=_clip_tokenizer(scratch), text_encoder_2=_t5(32 * width),
        tokenizer_2=_t5_tokenizer(),
    )  # fmt: skip


_MAKERS: Mapping[str, Callable[[Path, int], Any]] = {"sd": _sd, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}
