"""Passwords, signatures and tokens of addresses are not passed on, and addresses stay apart."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.data.manifest import addresses, redaction
from tests.data.videos import hostile_rows

SECRET = [
    "https://me:HUSH@h/a.mp4", "https://HUSH@h/a.mp4", "https://me:HU@SH@h/a.mp4", "ftp://me:HUSH@h/a.mp4",
    "s3://KEY:HUSH@b/a.mp4", "abfs://box:HUSH@a.dfs.core.windows.net/a.mp4",
    "https://b.s3.amazonaws.com/a.mp4?X-Amz-Credential=HUSH&X-Amz-Security-Token=HUSH&X-Amz-Signature=HUSH",
    "https://b.s3.amazonaws.com/a.mp4?AWSAccessKeyId=HUSH&Signature=HUSH&Expires=1",
    "https://storage.googleapis.com/b/a.mp4?GoogleAccessId=HUSH&Expires=1&Signature=HUSH",
    "https://storage.googleapis.com/b/a.mp4?x-goog-signature=HUSH",
    "https://a.blob.core.windows.net/c/a.mp4?sv=HUSH&st=HUSH&se=HUSH&sr=b&sp=r&sig=HUSH%3D",
    "https://d.cloudfront.net/a.mp4?Expires=1&Policy=HUSH&Signature=HUSH&Key-Pair-Id=HUSH",
    "https://h/a.mp4?id=5&access_token=HUSH", "https://h/a.mp4?token=HUSH#t=5", "https://h/a.mp4?key=HUSH",
    "https://h/a.mp4?api_key=HUSH&x=1;apikey=HUSH", "https://h/a.mp4?%74oken=HUSH", "https://h/a?TOKEN=HUSH",
    "https://h/a.mp4#access_token=HUSH", "https://h/a;jsessionid=HUSH/b.mp4", "https://h/exp=1~hmac=HUSH/a.mp4",
    "https://h/proxy?of=https%3A%2F%2Fme%3AHUSH%40h%2Fa.mp4", "https://h/a?t=eyJhbGciOi.HUSH.x",
    "https://h/a-{00..19}.tar?token=HUSH!/b.mp4", "https://me:HUSH@h/a.zip!/b.tar!/c.mp4",
]  # fmt: skip
PLAIN = [
    "https://h/a.mp4", "https://h/@me/a.mp4?q=me@h", "https://h/x?author=me&sp=3&sr=b&page=1",
    "https://h/year=2020/a.mp4", "abfs://box@a.dfs.core.windows.net/a.mp4", "s3://b/k.mp4",
    "https://h/a-{00..19}.tar!/b.mp4?token=part_of_a_name", "https://h/?key", "https://h/a.mp4#t=10",
]  # fmt: skip


@pytest.mark.parametrize("address", SECRET)
def test_secrets_are_taken_out(address: str) -> None:
    """Catches a password or a signature in what is written down; two addresses that differ in
    nothing else taken for one; and a hash that another run, or another member, would not have."""
    shown = redaction.redact(address)
    assert "HUSH" not in shown
    assert "HU" not in shown
    assert redaction.is_redacted(shown)
    assert redaction.redact(shown) == shown
    other = redaction.redact(address.replace("SH", "SS"))
    assert other != shown
    assert other.split("redacted=")[0] == shown.split("redacted=")[0]
    assert addresses.scheme_of(shown) == addresses.scheme_of(address)
    assert address not in redaction.redact_text(f"no answer from '{address}'")


@pytest.mark.parametrize("address", PLAIN)
def test_other_addresses_stay_as_they_are(address: str) -> None:
    """Catches a change of every source of every shard there is."""
    assert redaction.redact(address) == address
    assert redaction.redact_text(f"no answer from {address}") == f"no answer from {address}"


def test_what_looks_redacted_is_looked_through_all_the_same() -> None:
    """Catches a secret that is passed on because the mark stands beside it."""
    shown = redaction.redact("https://h/a?token=HUSH&redacted=0123456789abcdef")
    assert "HUSH" not in shown


@example(address="http://127.0.0.1:9\t/a.mp4?token=hush")
@given(address=hostile_rows.addresses() | st.text(max_size=30).map("http://a:HUSH@{}".format))
def test_any_text_can_be_shown(address: str) -> None:
    """Catches an exception, and a password, for what is no address at all."""
    assert "user:word" not in redaction.redact_any(address)
    assert "hush" not in redaction.redact_text(address).partition("!/")[0]
    assert redaction.redact(redaction.redact(address)) == redaction.redact(address)
