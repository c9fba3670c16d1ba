"""What the stand-in for `ollama serve` asks its llama.cpp children."""

from __future__ import annotations

from tests.fakes.ollama_memory import Body

SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "presence_penalty"),
    *("frequency_penalty", "repeat_penalty", "repeat_last_n", "stop"),
)


def translated(body: Body) -> Body:
    """Ollama's options and format in llama.cpp's words."""
    options = body.get("options") or {}
    sent = {name: options[name] for name in SAMPLING if name in options}
    sent |= {"stream": True, "stream_options": {"include_usage": True}}
    sent["max_tokens"] = options.get("num_predict", -1)
    form = body.get("format")
    if form == "json":
        sent["response_format"] = {"type": "json_object"}
    elif form:
        named = {"name": "format", "schema": form}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    return sent
