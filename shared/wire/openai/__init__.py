"""The OpenAI wire, as far as the gateway serves it."""
