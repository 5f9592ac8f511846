"""Ollama's API over anyform's models. Source: https://github.com/ollama/ollama/blob/main/docs/api.md."""
