"""anyform plugin: the GGUF format, and llama.cpp to run it."""
