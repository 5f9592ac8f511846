"""Single files as makers of models publish them: a tiny random pipeline's tensors under the names of the original code.

Sources of the names: Stable Diffusion's and SDXL's repositories (`ldm`, `sgm`), SD3's (`mmdit`), Flux's (`flux`), as
diffusers reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from anyform_samples import painting

PARTS = ("network", "vae", "text")
"""UNet or transformer; VAE; text encoders. What SD3's and Flux's makers publish often has the network alone."""
Named = Iterator[tuple[str, Any]]


def write_checkpoint(
    family: str, path: Path, *, width: int = 1, parts: Collection[str] = PARTS, dtype: Any = None
) -> Path:
    """Write the pipeline that `painting.write` makes of *family* to one safetensors file at *path*.

    *parts*: which of them it holds. *dtype*: of torch; None: as they are.
    """
    pipe = painting.made(family, path.parent / f".{path.stem}-tokenizers", width)
    return write_pipeline(family, pipe, path, parts=parts, dtype=dtype)


def write_pipeline(family: str, pipe: Any, path: Path, *, parts: Collection[str] = PARTS, dtype: Any = None) -> Path:
    """Write *pipe*, a pipeline of *family* of any size, to one safetensors file at *path*."""
    from safetensors.torch import save_file

    found = {name: value for part, named in _WRITERS[family].items() if part in parts for name, value in named(pipe)}
    tensors = {
        name: (value if dtype is None else value.to(dtype)).contiguous().clone() for name, value in found.items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def _sd(pipe: Any) -> Named:
    yield from _prefixed("cond_stage_model.transformer.", _clip(pipe.text_encoder))


def _sdxl(pipe: Any) -> Named:
    yield from _prefixed("conditioner.embedders.0.transformer.", _clip(pipe.text_encoder))
    yield from _prefixed("conditioner.embedders.1.model.", _open_clip(pipe.text_encoder_2))


def _sd3(pipe: Any) -> Named:
    yield from _prefixed("text_encoders.clip_l.transformer.", _clip(pipe.text_encoder))
    yield from _prefixed("text_encoders.clip_g.transformer.", _clip(pipe.text_encoder_2))
    yield from _prefixed("text_encoders.t5xxl.transformer.", _t5(pipe.text_encoder_3))


def _flux(pipe: Any) -> Named:
    yield from _prefixed("text_encoders.clip_l.transformer.", _clip(pipe.text_encoder))
    yield from _prefixed("text_encoders.t5xxl.transformer.", _t5(pipe.text_encoder_2))


def _prefixed(prefix: str, named: Named) -> Named:
    return ((prefix + name, value) for name, value in named)


def _clip(encoder: Any) -> Named:
    """Names of transformers, with the wrapper `text_model` that CLIP had when they were published."""
    for name, value in encoder.state_dict().items():
        kept = name.startswith(("text_model.", "text_projection."))
        yield name if kept else f"text_model.{name}", value


def _t5(encoder: Any) -> Named:
    yield from encoder.state_dict().items()


def _open_clip(encoder: Any) -> Named:
    """OpenCLIP's names: query, key and value are one matrix, and the projection is turned."""
    import torch

    state = encoder.state_dict()
    for name, value in state.items():
        inner = name.removeprefix("text_model.")
        if inner == "text_projection.weight":
            yield "text_projection", value.T
        elif re.search(r"\.[kv]_proj\.", inner):
            continue
        elif ".q_proj." in inner:
            triple = torch.cat([state[name.replace(".q_proj.", f".{one}_proj.")] for one in "qkv"])
            yield _renamed(inner, _OPEN_CLIP), triple
        else:
            yield _renamed(inner, _OPEN_CLIP), value


_OPEN_CLIP = (
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^embeddings\.token_embedding\.", "token_embedding."),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.q_proj\.", ".attn.in_proj_"),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
)


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def _unet(pipe: Any) -> Named:
    """The UNet of `ldm`: blocks are counted through, each with its resnet at 0 and its attention at 1."""
    layers = pipe.unet.config.layers_per_block
    attentive = [hasattr(block, "attentions") for block in pipe.unet.up_blocks]

    def place(name: str) -> str:
        side, block, kind, layer, rest = _BLOCK.match(name).groups()  # type: ignore[union-attr]
        number, at = int(block) * (layers + 1) + int(layer), "1" if kind == "attentions" else "0"
        if kind == "downsamplers":
            return f"input_blocks.{(int(block) + 1) * (layers + 1)}.0.{rest.replace('conv', 'op')}"
        if kind == "upsamplers":
            return f"output_blocks.{int(block) * (layers + 1) + layers}.{2 if attentive[int(block)] else 1}.{rest}"
        return f"{'input' if side == 'down' else 'output'}_blocks.{number + (side == 'down')}.{at}.{rest}"

    for name, value in pipe.unet.state_dict().items():
        placed = place(name) if _BLOCK.match(name) else _renamed(name, _UNET)
        inner = placed if _ATTENTION.search(placed) else _renamed(placed, _RESNET)
        yield f"model.diffusion_model.{inner}", value


_BLOCK = re.compile(r"^(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)$")
_ATTENTION = re.compile(r"_blocks?\.\d+\.1\.(?!conv)|middle_block\.1\.")
_UNET = (
    (r"^mid_block\.resnets\.0\.", "middle_block.0."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
    (r"^mid_block\.resnets\.1\.", "middle_block.2."),
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
    (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
)
_RESNET = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)


def _vae(prefix: str) -> Callable[[Any], Named]:
    """The autoencoder of `ldm`: the decoder's blocks are counted from the picture, its attention is of convolutions."""

    def named(pipe: Any) -> Named:
        last = len(pipe.vae.config.block_out_channels) - 1
        for name, value in pipe.vae.state_dict().items():
            up = re.sub(r"up_blocks\.(\d+)\.", lambda found: f"up.{last - int(found[1])}.", name)
            turned = _renamed(up, _VAE)
            matrix = ".mid.attn_1." in turned and value.ndim == 2
            yield prefix + turned, value[:, :, None, None] if matrix else value

    return named


_VAE = (
    (r"down_blocks\.(\d+)\.", r"down.\1."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.", "mid.attn_1."),
    (r"mid\.attn_1\.group_norm\.", "mid.attn_1.norm."),
    (r"mid\.attn_1\.to_([qkv])\.", r"mid.attn_1.\1."),
    (r"mid\.attn_1\.to_out\.0\.", "mid.attn_1.proj_out."),
    (r"\.resnets\.", ".block."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)


def _joined(state: Mapping[str, Any], rules: tuple[tuple[str, str], ...], turned: Collection[str]) -> Named:
    """A transformer: names by *rules*; the first of several tensors that were one brings the others with it.

    *turned*: modulations whose halves (shift, scale) stand the other way round in the original code.
    """
    import torch

    for name, value in state.items():
        whole = next(((first, others) for first, others in _TOGETHER if first in name), None)
        if whole is not None:
            value = torch.cat([state[name.replace(whole[0], other)] for other in (whole[0], *whole[1]) if
                               name.replace(whole[0], other) in state])  # fmt: skip
        elif any(other in name for _, others in _TOGETHER for other in others):
            continue
        if any(name.startswith(one) for one in turned):
            value = torch.cat(value.chunk(2)[::-1])
        yield _renamed(name, rules), value


_TOGETHER = (
    (".attn.to_q.", (".attn.to_k.", ".attn.to_v.", ".proj_mlp.")),
    (".attn.add_q_proj.", (".attn.add_k_proj.", ".attn.add_v_proj.")),
)


def _mmdit(pipe: Any) -> Named:
    last = pipe.transformer.config.num_layers - 1
    turned = ("norm_out.linear.", f"transformer_blocks.{last}.norm1_context.linear.")
    yield from _prefixed("model.diffusion_model.", _joined(pipe.transformer.state_dict(), _MMDIT, turned))


_MMDIT = (
    (r"^transformer_blocks\.", "joint_blocks."),
    (r"\.attn\.to_q\.", ".x_block.attn.qkv."),
    (r"\.attn\.add_q_proj\.", ".context_block.attn.qkv."),
    (r"\.attn\.norm_added_([qk])\.", r".context_block.attn.ln_\1."),
    (r"\.attn\.norm_([qk])\.", r".x_block.attn.ln_\1."),
    (r"\.attn\.to_out\.0\.", ".x_block.attn.proj."),
    (r"\.attn\.to_add_out\.", ".context_block.attn.proj."),
    (r"\.norm1\.linear\.", ".x_block.adaLN_modulation.1."),
    (r"\.norm1_context\.linear\.", ".context_block.adaLN_modulation.1."),
    (r"\.ff\.net\.0\.proj\.", ".x_block.mlp.fc1."),
    (r"\.ff\.net\.2\.", ".x_block.mlp.fc2."),
    (r"\.ff_context\.net\.0\.proj\.", ".context_block.mlp.fc1."),
    (r"\.ff_context\.net\.2\.", ".context_block.mlp.fc2."),
    (r"^pos_embed\.pos_embed$", "pos_embed"),
    (r"^pos_embed\.proj\.", "x_embedder.proj."),
    (r"^time_text_embed\.timestep_embedder\.linear_1\.", "t_embedder.mlp.0."),
    (r"^time_text_embed\.timestep_embedder\.linear_2\.", "t_embedder.mlp.2."),
    (r"^time_text_embed\.text_embedder\.linear_1\.", "y_embedder.mlp.0."),
    (r"^time_text_embed\.text_embedder\.linear_2\.", "y_embedder.mlp.2."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
)


def _flow(pipe: Any) -> Named:
    yield from _prefixed("model.diffusion_model.", _joined(pipe.transformer.state_dict(), _FLUX, ("norm_out.linear.",)))


_FLUX = (
    (r"^single_transformer_blocks\.(\d+)\.attn\.to_q\.", r"single_blocks.\1.linear1."),
    (r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
    (r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
    (r"^single_transformer_blocks\.(\d+)\.norm\.linear\.", r"single_blocks.\1.modulation.lin."),
    (r"^single_transformer_blocks\.(\d+)\.proj_out\.", r"single_blocks.\1.linear2."),
    (r"^transformer_blocks\.", "double_blocks."),
    (r"\.norm1\.linear\.", ".img_mod.lin."),
    (r"\.norm1_context\.linear\.", ".txt_mod.lin."),
    (r"\.attn\.to_q\.", ".img_attn.qkv."),
    (r"\.attn\.add_q_proj\.", ".txt_attn.qkv."),
    (r"\.attn\.norm_q\.weight", ".img_attn.norm.query_norm.scale"),
    (r"\.attn\.norm_k\.weight", ".img_attn.norm.key_norm.scale"),
    (r"\.attn\.norm_added_q\.weight", ".txt_attn.norm.query_norm.scale"),
    (r"\.attn\.norm_added_k\.weight", ".txt_attn.norm.key_norm.scale"),
    (r"\.attn\.to_out\.0\.", ".img_attn.proj."),
    (r"\.attn\.to_add_out\.", ".txt_attn.proj."),
    (r"\.ff\.net\.0\.proj\.", ".img_mlp.0."),
    (r"\.ff\.net\.2\.", ".img_mlp.2."),
    (r"\.ff_context\.net\.0\.proj\.", ".txt_mlp.0."),
    (r"\.ff_context\.net\.2\.", ".txt_mlp.2."),
    (r"^time_text_embed\.timestep_embedder\.linear_1\.", "time_in.in_layer."),
    (r"^time_text_embed\.timestep_embedder\.linear_2\.", "time_in.out_layer."),
    (r"^time_text_embed\.text_embedder\.linear_1\.", "vector_in.in_layer."),
    (r"^time_text_embed\.text_embedder\.linear_2\.", "vector_in.out_layer."),
    (r"^time_text_embed\.guidance_embedder\.linear_1\.", "guidance_in.in_layer."),
    (r"^time_text_embed\.guidance_embedder\.linear_2\.", "guidance_in.out_layer."),
    (r"^context_embedder\.", "txt_in."),
    (r"^x_embedder\.", "img_in."),
    (r"^proj_out\.", "final_layer.linear."),
    (r"^norm_out\.linear\.", "final_layer.adaLN_modulation.1."),
)

_WRITERS: Mapping[str, Mapping[str, Callable[[Any], Named]]] = {
    "sd": {"network": _unet, "vae": _vae("first_stage_model."), "text": _sd},
    "sdxl": {"network": _unet, "vae": _vae("first_stage_model."), "text": _sdxl},
    "sd3": {"network": _mmdit, "vae": _vae("first_stage_model."), "text": _sd3},
    "flux": {"network": _flow, "vae": _vae("vae."), "text": _flux},
}
