"""A real server over RKLLM models, whose workers run the stand-in library in the place of Rockchip's."""
