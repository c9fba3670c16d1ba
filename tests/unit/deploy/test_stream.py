from __future__ import annotations

import pytest

from deploy import stream


def test_text_of_a_chunk() -> None:
    assert list(stream.pieces(b'{"choices":[{"delta":{"content":"hi"}}]}')) == ["hi"]
    assert list(stream.pieces(b'{"choices":[{"delta":{"role":"assistant"}}]}')) == []
    assert list(stream.pieces(b'{"choices":[],"usage":{"total_tokens":3}}')) == []


def test_an_error_event_is_raised() -> None:
    event = b'{"error":{"message":"the engine broke","type":"server_error","code":"engine_failed"}}'
    with pytest.raises(stream.ApiError, match=r"^the engine broke \[engine_failed\]$"):
        list(stream.pieces(event))


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(stream.ApiError, match="no chat chunk"):
        list(stream.pieces(b"<html>"))


def test_refusals_in_words() -> None:
    body = b'{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}'
    assert stream.explain(401, body) == "Incorrect API key [invalid_api_key] (HTTP 401)"
    assert stream.explain(502, b"Bad gateway\n") == "HTTP 502: Bad gateway"


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http:///v1", ""])
def test_a_base_url_has_scheme_and_host(url: str) -> None:
    with pytest.raises(stream.ApiError, match="no base_url"):
        stream.Client(url, None)
