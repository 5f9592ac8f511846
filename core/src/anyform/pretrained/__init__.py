"""Folders as `save_pretrained` writes them, read without an engine, for every plugin that meets them.

It imports the contract and `anyform.finding` alone.
"""
