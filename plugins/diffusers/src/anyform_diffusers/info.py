"""What the backend says of itself; nothing here imports an engine."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo, Reduction

FOLDER, CHECKPOINT, LORA = "diffusers", "diffusion_checkpoint", "diffusion_lora"
"""Formats: folders with a model_index.json; one safetensors file with all of a model (Stable Diffusion's own layout,
Flux's); LoRA files, which are add-ons to a model and run by themselves nowhere."""

INSTALL = "pip install diffusers transformers torch accelerate safetensors peft pillow numpy"
"""What the extra `engine` installs, by names that are on the registry already."""

TASKS = ("image", "edit_image", "vary_image")
LOCAL = ("config", "loras")
"""Options that name folders and files of this machine."""

BACKEND = BackendInfo(
    name="diffusers",
    reads=(FOLDER, CHECKPOINT),
    tasks=TASKS,
    devices=("cpu", "cuda", "metal"),
    engine=("diffusers", "transformers", "torch", "accelerate", "safetensors", "pillow", "numpy"),
    install=INSTALL,
    local_options=LOCAL,
    reductions=(
        Reduction(options={"slicing": True, "tiling": True}, why="pictures decoded in slices and tiles, more slowly"),
        Reduction(options={"offload": "model"}, why="only the part that computes lies on the accelerator"),
        Reduction(options={"offload": "sequential"}, why="only the layer that computes lies there, much more slowly"),
    ),
)
