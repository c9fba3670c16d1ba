from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from worker.engines.cl100k import Cl100k


@pytest.fixture
def ranks(tmp_path: Path) -> Cl100k:
    tokens = [b"Hello", b" w", b"\xc3", b"\xbc"]
    path = tmp_path / "ranks"
    path.write_bytes(b"".join(b64encode(t) + b" %d\n" % at for at, t in enumerate(tokens)))
    return Cl100k(path)


def test_decodes_bytes_across_tokens(ranks: Cl100k) -> None:
    assert ranks.decode([0, 1, 2, 3]) == "Hello wü"
    assert ranks.decode([2]) == "\ufffd"
    assert ranks.decode([]) == ""


@pytest.mark.parametrize("wrong", [-1, 100_256])
def test_out_of_range(ranks: Cl100k, wrong: int) -> None:
    with pytest.raises(IndexError):
        ranks.decode([0, wrong])
