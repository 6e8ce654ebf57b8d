"""Addresses of videos: which of them are fetched, and what is wrong with the others."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import urlsplit

WEB = ("http", "https")
# What fsspec may be asked for. It knows many others, by which a row of a list would read files of
# this machine (`file`, `zip`), go round the limits on fetching (`simplecache`), or run code.
STORES = (
    "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "hf", "sftp", "ssh", "ftp",
    "smb", "hdfs", "webhdfs",
)  # fmt: skip
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "hf")  # have no port
LONGEST = 8192  # letters of an address
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_PLAIN_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")


def scheme_of(url: str) -> str:
    """Return `s3` of `s3://bucket/key`; empty where there is none."""
    scheme, mark, _ = url.partition("://")
    return scheme.lower() if mark else ""


def problem(scheme: str) -> str:
    """Say why addresses of a scheme are never fetched; empty for all others."""
    if scheme in WEB or scheme in STORES:
        return ""
    return f"does not begin with http://, https:// or a store's scheme ({', '.join(STORES)})"


def fault(address: str) -> str:
    """Say what is wrong with an address, without asking anybody; empty where nothing is."""
    if len(address) > LONGEST:
        return f"is longer than {LONGEST:,} letters"
    return _fault(address)


@functools.lru_cache(maxsize=4096)  # an archive is named by each of its members
def _fault(address: str) -> str:
    scheme = scheme_of(address)
    if scheme_problem := problem(scheme):
        return scheme_problem
    if _CONTROL.search(address):
        return "is a bad address: it holds a character that cannot be printed"
    if scheme not in WEB and not address.startswith(f"{scheme}://"):
        return f"is a bad address: write {scheme}:// in small letters"
    try:
        server, host = urlsplit(address).netloc, urlsplit(address).hostname or ""
    except ValueError:
        return "is a bad address: brackets enclose no IPv6 address"
    if "::" in re.sub(r"\[[0-9A-Fa-f:.]*(%\w*)?\]", "", address):
        return "holds ::, which chains file systems; where it is part of a name, write %3A%3A"
    if not server.rpartition("@")[2] or "\\" in server:
        return "is a bad address: it names no server, or no bucket"
    if scheme in BUCKETS:
        return ""
    try:
        port = urlsplit(address).port
    except ValueError:
        port = 0
    if port == 0:
        return "is a bad address: the port is no number from 1 to 65535"
    return _host_fault(host)


def _host_fault(host: str) -> str:
    if _PLAIN_HOST.fullmatch(host) and not host.replace(".", "").isdecimal():
        return "" if "xn--" not in host else _encoding_fault(host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _encoding_fault(host)
    return ""


def _encoding_fault(host: str) -> str:
    """Say why a host's name is none that can be looked up, by the rules that the client follows."""
    import idna

    wrong = "is a bad address: there can be no server of this name"
    if host.replace(".", "").isdecimal() or "%" in host or ":" in host:
        return wrong
    try:
        encoded = idna.encode(host.lower()).decode()
    except UnicodeError:  # idna's own errors are of this kind
        return wrong
    return "" if _PLAIN_HOST.fullmatch(encoded) else wrong
