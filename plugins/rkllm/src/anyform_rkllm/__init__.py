"""RKLLM models for anyform: managed anywhere, run on the NPU of a Rockchip board."""
