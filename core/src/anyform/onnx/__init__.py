"""ONNX files read without onnxruntime, for every plugin that meets them: what a graph says, and whether it is sound.

It imports the contract and `anyform.finding` alone.
"""
