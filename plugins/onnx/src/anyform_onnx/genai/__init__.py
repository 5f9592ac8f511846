"""onnxruntime-genai: its engine for text, which batches by itself."""
