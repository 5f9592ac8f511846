"""What the backend says of itself, and the words that the plugin's parts share; nothing here loads a library."""

from __future__ import annotations

from anyform.contract.facts import BackendInfo, Reduction

FORMAT = "rkllm"
SUFFIX = ".rkllm"
KIND = "rknpu"
"""The kind of device that is an NPU with Rockchip's own driver."""
LIBRARY = "librkllmrt.so"
CONTEXT = 4096
"""What a model is loaded with where nothing says its limit: that of the vendor's own conversions."""
INSTALL = 'pip install "anyform-rkllm[engine]"'
"""What the chat templates of models need; the library itself is Rockchip's, and on no registry."""

BACKEND = BackendInfo(
    name="rkllm",
    reads=(FORMAT,),
    tasks=("chat", "complete", "embed"),
    devices=(KIND,),
    install=INSTALL,
    parallel=1,
    features=("tools", "thinking", "vision"),
    local_options=("library", "stand_in", "platform", "loras", "prompt_cache", "vision"),
    reductions=(
        Reduction(context_factor=0.5, why="half the context, which the model may not have been made for"),
        Reduction(context_factor=0.5, why="a quarter of the context, which the model may not have been made for"),
    ),
)
