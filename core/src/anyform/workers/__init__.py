"""Runs models: a worker process each, spoken to over framed loopback sockets; and the pool that holds them."""
