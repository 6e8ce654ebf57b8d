"""What an address begins with, and whether anyone knows how to fetch from it."""

from __future__ import annotations

WEB = ("http", "https")
# What fsspec may be asked for. It knows many others, by which a row of a list would read files of
# this machine (`file`, `zip`), go round the limits on fetching (`simplecache`), or run code.
STORES = (
    "s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "hf", "sftp", "ssh", "ftp", "smb", "hdfs",
    "webhdfs", "webdav",
)  # fmt: skip


def scheme_of(url: str) -> str:
    """Return `s3` of `s3://bucket/key`; empty where there is none."""
    scheme, mark, _ = url.partition("://")
    return scheme.lower() if mark else ""


def problem(scheme: str) -> str:
    """Say why addresses of a scheme are never fetched; empty where they are."""
    if scheme in WEB or scheme in STORES:
        return ""
    return f"does not begin with http://, https:// or a store's scheme ({', '.join(STORES)})"
