"""Engines: child processes or upstreams that speak the OpenAI wire."""
