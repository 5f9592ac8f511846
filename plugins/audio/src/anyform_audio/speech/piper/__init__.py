"""Piper: voices of one ONNX model and its JSON each."""
