"""Speaks OpenAI's HTTP dialect: the only async code. One file a resource: read(body) -> Ask, write(event) -> bytes."""
