"""The session's cookie, and requests that another site may have sent."""

from __future__ import annotations

import pytest

from gateway.session import check_intent, check_origin, read_cookie, write_cookie
from shared.errors import PermissionDenied

HOST = (b"host", b"hub.example:8000")
INTENT = (b"x-aihub-session", b"1")


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    text = write_cookie("abc", 60, secure=True).decode()
    assert text.startswith("aihub_session=abc; Max-Age=60; Path=/; HttpOnly; SameSite=Strict")
    assert text.endswith("; Secure")
    assert "Secure" not in write_cookie("abc", 60, secure=False).decode()


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        (b"other=1", None),
        (b"other=1; aihub_session=abc", "abc"),
        (b"\xff\xfe;;=", None),
    ],
)
def test_the_cookie_is_read(header: bytes | None, token: str | None) -> None:
    assert read_cookie({} if header is None else {b"cookie": header}) == token


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        ("GET", [HOST], True),
        ("POST", [HOST], False),
        ("POST", [HOST, INTENT], True),
        ("DELETE", [HOST, INTENT, (b"origin", b"http://hub.example:8000")], True),
        ("DELETE", [HOST, INTENT, (b"origin", b"http://hub.example:8001")], False),
        ("DELETE", [HOST, INTENT, (b"origin", b"https://evil.example")], False),
        ("POST", [HOST, INTENT, (b"origin", b"null")], False),
        ("POST", [HOST, (b"origin", b"http://hub.example:8000")], False),
    ],
)
def test_a_change_needs_more_than_the_cookie(
    method: str, headers: list[tuple[bytes, bytes]], allowed: bool
) -> None:
    if allowed:
        check_intent(method, dict(headers))
        return
    with pytest.raises(PermissionDenied):
        check_intent(method, dict(headers))


def test_a_login_may_come_from_no_other_site() -> None:
    check_origin(dict([HOST]))
    with pytest.raises(PermissionDenied):
        check_origin(dict([HOST, (b"origin", b"https://evil.example")]))
