"""What an address begins with, and whether anyone knows how to fetch from it."""

from __future__ import annotations

import functools

WEB = ("http", "https")


def scheme_of(url: str) -> str:
    """Return `s3` of `s3://bucket/key`; empty where there is none."""
    scheme, mark, _ = url.partition("://")
    return scheme.lower() if mark else ""


@functools.cache
def problem(scheme: str) -> str:
    """Say why addresses of a scheme cannot be fetched, whatever is installed; empty where they can.

    The web needs no fsspec, which takes a moment to import.
    """
    if scheme in WEB:
        return ""
    from fsspec.registry import available_protocols

    if scheme in available_protocols():
        return ""
    return "does not begin with http://, https:// or a scheme that fsspec knows (s3://, gs://)"
