"""What `ARCHIVE!/MEMBER` names: the archive or its parts, and the file in it."""

from __future__ import annotations

import functools
from urllib.parse import urlsplit

from pipeline.data.manifest import addresses, braces

MARK = "!/"
SUFFIXES = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".zip", ".rar",
)  # fmt: skip

LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes, of what Linux takes


def split(source: str) -> tuple[str, str] | None:
    """Return archive and member of `ARCHIVE!/MEMBER`; None for the path or address of a file.

    MEMBER may have a `!/` of its own, where an archive lies in an archive. A folder may be called
    `name!`: so what is before `!/` must be called as archives are, or be a pattern of parts.
    """
    archive, mark, member = source.partition(MARK)
    if not mark or not member:
        return None
    try:
        name = urlsplit(archive).path if "://" in archive else archive
    except ValueError:  # no address at all
        return None
    is_archive = name.lower().endswith(SUFFIXES) or ("{" in archive and "}" in archive)
    return (archive, member) if is_archive else None


def parts(archive: str) -> list[str]:
    """Return the paths or addresses that an archive consists of: one, or those of its pattern.

    A pattern of too many parts, which no list may hold, is taken for a name.
    """
    try:
        return braces.expand(archive)
    except braces.TooManyParts:
        return [archive]


def fault(source: str, *, is_address: bool) -> str:
    """Say what is wrong with a path or an address, or with `ARCHIVE!/MEMBER`; empty: nothing is.

    Nobody is asked, and no file is looked at.
    """
    rest = source
    while named := split(rest):
        archive, member = named
        if problem := _archive_fault(archive, is_address and rest == source):
            return problem
        if ".." in member.split("/"):
            return "names a member outside of its archive (..)"
        rest = member
    return addresses.fault(rest) if is_address and rest == source else _name_fault(rest)


@functools.lru_cache(maxsize=4096)  # it is named by each of its members
def _archive_fault(archive: str, is_address: bool) -> str:
    try:
        names = braces.expand(archive)
    except braces.TooManyParts as error:
        return f"{error}, which is more than an archive has"
    fixed = len(archive.partition("{")[0].rpartition("/")[0])
    for part in names:
        if part != archive and ".." in part[fixed:].split("/"):
            return "is a pattern that leads to another folder (..)"
        if problem := addresses.fault(part) if is_address else _name_fault(part):
            return problem
    return ""


def _name_fault(path: str) -> str:
    if len(path) < LONGEST_NAME // 4:  # bytes that a letter takes, at most
        return ""
    if max(len(name.encode(errors="surrogatepass")) for name in path.split("/")) > LONGEST_NAME:
        return f"holds a name of more than {LONGEST_NAME} bytes"
    if len(path.encode(errors="surrogatepass")) > LONGEST_PATH:
        return f"is longer than {LONGEST_PATH:,} bytes"
    return ""
