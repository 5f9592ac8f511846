"""LM Studio's REST API over anyform's models. Source: https://lmstudio.ai/docs/developer/rest."""
