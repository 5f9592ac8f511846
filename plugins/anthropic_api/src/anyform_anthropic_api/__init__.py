"""Anthropic's Messages API over anyform's models. Source: https://docs.claude.com/en/api/messages."""
