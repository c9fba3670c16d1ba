from __future__ import annotations

import msgspec
import pytest

from worker.engines.ollama_server import Loaded, Offers, address, full

TAGS = b"""{"models":[{"name":"gemma3:latest","model":"gemma3:latest",
"modified_at":"2026-08-17T23:44:52.163405+02:00","size":3338801804,
"digest":"a2af6cc3eb7fa8be8504abaf9b04e88f17a119ec3f04a3addf55f92841195f5a",
"details":{"parent_model":"","format":"gguf","family":"gemma3","families":["gemma3"],
"parameter_size":"4.3B","quantization_level":"Q4_K_M","context_length":131072},
"capabilities":["completion","vision"]}]}"""
PS = b"""{"models":[{"name":"gemma3:latest","model":"gemma3:latest","size":6591830464,
"digest":"a2af6cc3eb7f","details":{"parent_model":"","format":"gguf","family":"gemma3",
"families":["gemma3"],"parameter_size":"4.3B","quantization_level":"Q4_K_M"},
"expires_at":"2026-08-17T23:49:52.163405+02:00","size_vram":5333539264,"context_length":4096}]}"""


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        (None, "127.0.0.1", 11434),
        ("gpu-box", "gpu-box", 11434),
        ("gpu-box:8080", "gpu-box", 8080),
        ("http://gpu-box:11434", "gpu-box", 11434),
        ("http://gpu-box", "gpu-box", 80),
    ],
)
def test_where_it_listens(url: str | None, host: str, port: int) -> None:
    found = address(url)
    assert (found.socket, found.host, found.port, found.prefix) == ("", host, port, "")


@pytest.mark.parametrize(
    ("name", "tagged"),
    [
        ("gemma3", "gemma3:latest"),
        ("gemma3:4b", "gemma3:4b"),
        ("host:5000/team/gemma3", "host:5000/team/gemma3:latest"),
    ],
)
def test_names_without_a_tag(name: str, tagged: str) -> None:
    assert full(name) == tagged


def test_recorded_lists() -> None:
    (offer,) = msgspec.json.decode(TAGS, type=Offers).models
    assert (offer.name, offer.size, offer.capabilities) == (
        "gemma3:latest",
        3_338_801_804,
        ("completion", "vision"),
    )
    assert offer.details.context_length == 131_072
    (loaded,) = msgspec.json.decode(PS, type=Loaded).models
    assert (loaded.size, loaded.size_vram) == (6_591_830_464, 5_333_539_264)
    assert loaded.context_length == 4096
