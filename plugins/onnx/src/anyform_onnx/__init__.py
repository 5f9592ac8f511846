"""ONNX models for anyform."""
