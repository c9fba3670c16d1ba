"""One thin route file per OpenAI resource."""
