from __future__ import annotations

from shared.store import api_key


def test_a_digest_is_sha256() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert api_key.digest("abc").hex() == expected


def test_different_keys_have_different_digests() -> None:
    assert api_key.digest("sk-one") != api_key.digest("sk-two")
