"""Kokoro: the ONNX form with its voices, and the torch form as far as it is recognised."""
