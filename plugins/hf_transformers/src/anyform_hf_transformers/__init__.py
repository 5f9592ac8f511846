"""anyform plugin: Hugging Face folders, and transformers to run them."""
