"""The thin HTTP front: OpenAI wire in, jobs out, reply items back into JSON and SSE."""
