"""Whether a projector's header makes sense: llama.cpp's clip.cpp trusts its keys and shapes, and aborts on others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from anyform.contract.facts import Finding
from anyform_gguf_llamacpp.finding import critical
from anyform_gguf_llamacpp.gguf import ARRAY, BOOL, STRING, Header, type_words

UINT32, FLOAT32 = 4, 6
SENSES = ("vision", "audio")
NUMBERS = (
    "embedding_length", "feed_forward_length", "block_count", "projection_dim", "attention.head_count",
    "attention.head_count_kv", "attention.head_dim", "image_size", "patch_size", "num_mel_bins",
)  # fmt: skip
"""Keys below `clip.vision.` and `clip.audio.` that are one uint32."""
REAL = "attention.layer_norm_epsilon"
REALS = ("image_mean", "image_std")
TRUTHS = ("clip.has_vision_encoder", "clip.has_audio_encoder", "clip.use_gelu", "clip.use_silu")
TEXTS = ("general.architecture", "clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")

RANGES: Mapping[str, tuple[int, int]] = {
    "embedding_length": (1, 1 << 16),
    "feed_forward_length": (1, 1 << 20),
    "block_count": (1, 512),
    "attention.head_count": (1, 1 << 12),
    "image_size": (1, 1 << 14),
    "patch_size": (1, 1 << 10),
}
REQUIRED = ("embedding_length", "feed_forward_length", "block_count", "attention.head_count", "projection_dim", REAL)

PLAIN = frozenset({
    "mlp", "ldp", "ldpv2", "gemma3", "idefics3", "pixtral", "internvl", "qwen2vl_merger", "qwen2.5vl_merger",
    "qwen3vl_merger",
})  # fmt: skip
"""Projectors of one ordinary vision transformer. Others are laid out in ways of their own; only types are checked."""
LLAVA = frozenset({"mlp"})


def check(header: Header) -> Iterator[Finding]:
    """Findings on a projector that stands beside a model."""
    troubles = list(_types(header))
    kind = header.text("clip.projector_type") or header.text("clip.vision.projector_type")
    if kind in PLAIN and not troubles:
        troubles = list(_numbers(header))
    yield from troubles
    if kind not in PLAIN or troubles:
        return
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    yield from _pairs(shapes)
    yield from _transformer(header, shapes)
    if kind in LLAVA:
        yield from _llava(header, shapes)


def _types(header: Header) -> Iterator[Finding]:
    wanted: dict[str, tuple[tuple[int, ...], ...]] = dict.fromkeys(TRUTHS, ((BOOL,),))
    wanted |= dict.fromkeys(TEXTS, ((STRING,),))
    for sense in SENSES:
        wanted |= {f"clip.{sense}.{key}": ((UINT32,),) for key in NUMBERS}
        wanted |= {f"clip.{sense}.{key}": ((ARRAY, FLOAT32),) for key in REALS}
        wanted[f"clip.{sense}.{REAL}"] = ((FLOAT32,),)
    for key, kinds in wanted.items():
        found = header.kinds.get(key)
        if found is not None and found not in kinds:
            yield critical("wrong_type", f"{key} is {type_words(found)}, not {type_words(kinds[0])}. Convert it again.")


def _numbers(header: Header) -> Iterator[Finding]:
    for key in REQUIRED:
        if f"clip.vision.{key}" not in header.keys:
            yield critical("missing_key", f"clip.vision.{key} is missing: the projector cannot be loaded.")
    for key, (least, most) in RANGES.items():
        number = _number(header, key)
        if number is not None and not least <= number <= most:
            yield _bad(key, number, f"it has to be {least} to {most}")
    width, heads = _number(header, "embedding_length"), _number(header, "attention.head_count")
    if width and heads and width % heads and _number(header, "attention.head_dim") is None:
        yield _bad("attention.head_count", heads, f"it has to divide embedding_length, {width}")
    patch, size = _number(header, "patch_size"), _number(header, "image_size")
    if patch and size and size < patch:
        yield _bad("image_size", size, f"a patch alone has {patch}")
    epsilon = header.number(f"clip.vision.{REAL}")
    if epsilon is not None and not (math.isfinite(epsilon) and epsilon >= 0):
        yield _bad(REAL, epsilon, "it has to be a small positive number")
    for key in REALS:
        count = header.count(f"clip.vision.{key}")
        if count is not None and count < 3:
            yield _bad(key, f"{count} numbers", "a picture has 3 colours")


def _number(header: Header, key: str) -> int | None:
    return header.integer(f"clip.vision.{key}")


def _bad(key: str, value: object, why: str) -> Finding:
    return critical("bad_value", f"clip.vision.{key} is {value}; {why}. The file is damaged or wrongly converted.")


def _shape(name: str, shape: tuple[int, ...] | None, wanted: str) -> Finding:
    found = "missing" if shape is None else " x ".join(map(str, shape))
    return critical("bad_shape", f"projector tensor {name!r} is {found}; it has to be {wanted}.")


def _pairs(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    """A bias is as long as its weight gives out."""
    for name, shape in shapes.items():
        weight = shapes.get(name.removesuffix(".bias") + ".weight") if name.endswith(".bias") else None
        if weight is not None and (not weight or shape != weight[-1:]):
            yield _shape(name, shape, "as long as its weight gives out")


def _transformer(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    width, patch = _number(header, "embedding_length") or 0, _number(header, "patch_size") or 0
    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        shape = shapes.get(name)
        if shape != (patch, patch, 3, width) and not (shape is None and name.endswith("1")):
            yield _shape(name, shape, f"{patch} x {patch} x 3 x {width}")
    for layer in range(_number(header, "block_count") or 0):
        troubles = list(_layer(header, shapes, f"v.blk.{layer}", width))
        yield from troubles
        if troubles:
            return


def _layer(header: Header, shapes: Mapping[str, tuple[int, ...]], block: str, width: int) -> Iterator[Finding]:
    heads = _number(header, "attention.head_count") or 1
    length = _number(header, "attention.head_dim") or width // heads
    kv_heads = _number(header, "attention.head_count_kv") or heads
    wanted = {
        "attn_q": (width, heads * length),
        "attn_k": (width, kv_heads * length),
        "attn_v": (width, kv_heads * length),
    }
    if f"{block}.attn_qkv.weight" in shapes:
        wanted = {"attn_qkv": (width, (heads + 2 * kv_heads) * length)}
    for part, shape in {**wanted, "attn_out": (heads * length, width)}.items():
        found = shapes.get(f"{block}.{part}.weight")
        if found != shape:
            yield _shape(f"{block}.{part}.weight", found, f"{shape[0]} x {shape[1]}")
    for part in ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"):
        found = shapes.get(f"{block}.{part}", (width,))
        if found != (width,):
            yield _shape(f"{block}.{part}", found, f"{width} long")
    up, down = shapes.get(f"{block}.ffn_up.weight"), shapes.get(f"{block}.ffn_down.weight")
    if up is None or down is None or len(up) != 2 or up[::-1] != down or width not in up:
        yield _shape(f"{block}.ffn_up.weight", up, f"rows of {width}, and ffn_down.weight its transpose")


def _llava(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    """The tensors that clip.cpp takes for granted in a LLaVA projector, and how they follow each other."""
    width = _number(header, "embedding_length") or 0
    if "mm.1.weight" in shapes or "mm.3.weight" in shapes:  # another kind, under the same name
        return
    for name in ("mm.0", "mm.2"):
        weight = shapes.get(f"{name}.weight")
        if weight is None or len(weight) != 2 or weight[0] != width:
            yield _shape(f"{name}.weight", weight, f"rows of {width}")
            return
        if f"{name}.bias" not in shapes:
            yield _shape(f"{name}.bias", None, "there")
        width = weight[1]
    side = (_number(header, "image_size") or 0) // (_number(header, "patch_size") or 1)
    wanted = (_number(header, "embedding_length"), side * side + ("v.class_embd" in shapes))
    places = shapes.get("v.position_embd.weight")
    if places != wanted:
        yield _shape("v.position_embd.weight", places, f"{wanted[0]} x {wanted[1]}")
