"""Passwords, signatures and tokens: taken out of an address before it is written down or shown.

The whole address stays in the user's list alone. Only what fetches it reads it, from there.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Collection
from urllib.parse import unquote

from pipeline.data.manifest import addresses, members

# Names of parameters that prove who asks, in addresses signed by AWS, Google, Azure, CloudFront,
# Akamai, Alibaba, Tencent and others, without what is no letter or digit.
_SECRET = re.compile(
    r"token|secret|signature|passw|credential|apikey|accesskey|auth(?!or$)|jwt|hmac|session|keypairid"
    r"|accessid|^(x(amz|goog|oss|cos|obs|ms)|qsign|qheader|qurlparam|qak)"
    r"|^(sig|sign|key|pass|pwd|pw|policy|expires?|exp|code|ticket|md5|sid|user|username|login|sharekey"
    r"|rlkey|privatelink)$"
)
# Of Azure's signatures, which are called `sig`, and mean nothing without it.
_AZURE = {
    "sv", "ss", "srt", "sr", "st", "se", "sp", "sip", "spr", "skoid", "sktid", "skt", "ske", "sks",
    "skv", "saoid", "suoid", "scid", "ses", "sdd", "si",
}  # fmt: skip
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+")  # as a web token begins
_IN_PATH = re.compile(r"(?<=[/;~,*])([\w.%-]+)=[^/;~,*?#]*")
NAME = "redacted"  # of the parameter that takes the place of what was taken out
_REDACTED = re.compile(rf"[?&]{NAME}=[0-9a-f]{{16}}(?=$|#|!/)")
# An address in a text; or a parameter of one in which a space or a control character stands.
_ADDRESS = re.compile(
    r"[A-Za-z][A-Za-z0-9+.:-]*://[^\s'\"<>]+|[?&;#](?P<name>[\w.%-]+)=[^\s&;#?'\"<>]*"
)


def is_redacted(address: str) -> bool:
    """Whether an address looks like one of which `redact` has taken something out."""
    return bool(_REDACTED.search(address))


def redact(address: str) -> str:
    """Return what may be passed on of an address: no user, password, signature or token.

    Where anything was taken out, `redacted=` and a hash of the whole address come in its place:
    equal addresses stay equal, and others different. Of `ARCHIVE!/MEMBER` the archive is hashed.
    """
    if not re.search(r"[@=]|eyJ", address):
        return address
    archive, member = members.split(address) or (address, "")
    bare = _bare(archive)
    if bare == archive:
        return address
    user = re.match(r"[^/?#]*//([^/?#]*)@", archive)
    whole = f"{_slow_hash(user[1])} {archive[user.end() :]}" if user else archive
    digest = hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:16]
    before, mark, fragment = bare.partition("#")
    bare = f"{before}{'&' if '?' in before else '?'}{NAME}={digest}{mark}{fragment}"
    return f"{bare}{members.MARK}{member}" if member else bare


def redact_text(text: str) -> str:
    """Return a message, or any text, without what `redact` takes out of the addresses in it."""
    return _ADDRESS.sub(_shown, text)


def _shown(found: re.Match[str]) -> str:
    if found["name"] is None:
        return redact_any(found[0])
    return f"{found[0][0]}{found['name']}=" if _is_secret(found["name"]) else found[0]


def redact_any(address: str) -> str:
    """Return what a message may show of an address, even of one that cannot be read."""
    if addresses.fault(address):  # then user and password may be anywhere before an @
        found = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(//)?", address)
        start = found[0] if found else ""
        address = start + address.removeprefix(start).rpartition("@")[2]
    return redact(address)


@functools.lru_cache(maxsize=1024)
def _slow_hash(user: str) -> str:
    """Hash a name and a password so that trying a dictionary of passwords takes long."""
    hashed = hashlib.scrypt(user.encode(errors="surrogatepass"), salt=b"", n=2**12, r=8, p=1)
    return hashed.hex()


def _bare(address: str) -> str:
    """Take user information and secret parameters out of an address."""
    # Of Azure's addresses it is the container, unless a password comes with it.
    keep = r"(?![^/?#:]*@)" if addresses.scheme_of(address) in ("az", "abfs", "abfss") else ""
    bare = re.sub(rf"^([^/?#]*//){keep}[^/?#]*@", r"\1", address)
    before, mark, fragment = bare.partition("#")
    path, asks, query = before.partition("?")
    start, slashes, rest = path.partition("://")
    rest = _IN_PATH.sub(lambda match: "" if _is_secret(match[1]) else match[0], rest)
    query, fragment = _without_secrets(query), _without_secrets(fragment)
    path = f"{start}{slashes}{rest}"
    return f"{path}{asks if query else ''}{query}{mark if fragment else ''}{fragment}"


def _without_secrets(query: str) -> str:
    pieces = re.split(r"[&;]", query)
    names = {_plain(piece.partition("=")[0]) for piece in pieces}
    signed = _AZURE if "sig" in names else set()
    kept = [piece for piece in pieces if not _tells(piece, signed)]
    return query if len(kept) == len(pieces) else "&".join(kept)


def _tells(piece: str, also: Collection[str]) -> bool:
    """Whether a parameter is secret: by its name, as a web token, or as an address with secrets."""
    name, mark, value = piece.partition("=")
    if mark and (_is_secret(name) or _plain(name) in also):
        return True
    value = unquote(value or name)
    return bool(_TOKEN.match(value)) or ("://" in value and _bare(value) != value)


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(_plain(name)))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", unquote(name).lower())
