"""The URL of an S3-compatible store."""

from __future__ import annotations

import pytest

from shared.files.address import Address, parse
from shared.redact import redact
from shared.settings import SettingsError, load


def test_all_of_it() -> None:
    url = "s3+https://KEY:a%2Fb%2Bc@store.example:9000/my-bucket/hub/one?region=eu-west-1"
    assert parse(url) == Address(
        origin="https://store.example:9000",
        host="store.example:9000",
        bucket="my-bucket",
        prefix="hub/one/",
        access_key="KEY",
        secret_key="a/b+c",
        region="eu-west-1",
    )
    plain = parse("s3+http://k:s@127.0.0.1/bucket")
    assert (plain.origin, plain.prefix, plain.region) == ("http://127.0.0.1", "", "us-east-1")


@pytest.mark.parametrize(
    "url",
    [
        "s3://k:s3cret@host/bucket",
        "https://k:s3cret@host/bucket",
        "s3+https://k:s3cret@/bucket",
        "s3+https://k@host/bucket?region=s3cret&no=1",
        "s3+https://k:s3cret@host",
        "s3+https://k:s3cret@host/B",
        "s3+https://k:s3cret@host/bucket/a b",
        "s3+https://k:s3cret@host/bucket?endpoint=x",
        "s3+https://k:s3cret@[host/bucket",
    ],
)
def test_what_is_wrong_is_a_setting_that_is_named(url: str) -> None:
    with pytest.raises(SettingsError, match="file_store_url, or AIHUB_FILE_STORE_URL") as wrong:
        load({"AIHUB_FILE_STORE_URL": url})
    assert "s3cret" not in str(wrong.value)


def test_the_secret_is_not_printed() -> None:
    shown = redact("file_store_url", "s3+https://KEY:s3cret@host/bucket/hub?region=r")
    assert "s3cret" not in shown
    assert "host/bucket/hub" in shown


@pytest.mark.parametrize("text", ["", "12", "lots", "1PiB"])
def test_sizes(text: str) -> None:
    if text:
        with pytest.raises(SettingsError, match="file_quota, or AIHUB_FILE_QUOTA"):
            load({"AIHUB_FILE_QUOTA": text})
    assert load({"AIHUB_FILE_QUOTA": "1TiB"}).file_quota == "1TiB"
