"""What is in a rar file, through `unrar` or `bsdtar`: no library reads the format by itself."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.data.fetch.archive_formats import LINK, Damaged, Entry, Member, tar_members
from pipeline.errors import UserError


class TakesUnrar(UserError):  # noqa: N818 - it is no more of an error than that is
    """This archive, unlike others, cannot be read with `bsdtar`."""


def members(archive: Path) -> Iterator[Member]:
    """Yield everything but the folders of a rar archive.

    Raises:
        Damaged: it cannot be read on.
        UserError: neither program is there, or not the one that it takes.
    """
    if unrar := _unrar():
        return _with_unrar(unrar, archive)
    if bsdtar := shutil.which("bsdtar"):
        if _is_volume(archive):  # bsdtar would fill with zeros what is in the other volumes
            raise TakesUnrar(
                "a rar archive in volumes takes unrar", place=str(archive), remedy="install unrar"
            )
        return _with_bsdtar(bsdtar, archive)
    raise UserError(
        "a rar archive cannot be unpacked: neither unrar nor bsdtar is installed",
        place=str(archive),
        remedy="install unrar, or bsdtar (Debian and Ubuntu: libarchive-tools; conda: libarchive)",
    )


def _unrar() -> str | None:
    """Return the program; another of the same name (unrar-free) takes other arguments."""
    path = shutil.which("unrar")
    if path:
        output = subprocess.run([path], capture_output=True, check=False, stdin=subprocess.DEVNULL)
        if b"Alexander Roshal" in output.stdout:
            return path
    return None


def _is_volume(archive: Path) -> bool:
    """Whether a rar file goes on in another: by the flag in its first header.

    The formats are described in RARLAB's technotes: version 4 has the flag at a fixed place,
    version 5 writes its fields as numbers of variable length, 7 bits to a byte.
    """
    with archive.open("rb") as handle:
        start = handle.read(64).ljust(64, b"\0")
    if start[6] == 0:
        return bool(start[10] & 1)
    numbers, position = [], 12  # after the signature and the header's checksum
    for _ in range(5):  # size, kind, flags, size of what is extra or the archive's flags
        number = shift = 0
        while position < len(start):
            byte = start[position]
            number |= (byte & 127) << shift
            position, shift = position + 1, shift + 7
            if byte < 128:
                break
        numbers.append(number)
    _, kind, flags, third, fourth = numbers
    return kind == 1 and bool((fourth if flags & 1 else third) & 1)


def _with_bsdtar(bsdtar: str, archive: Path) -> Iterator[Member]:
    """Let bsdtar turn the archive into a tar, which is read while it comes."""
    command = [bsdtar, "-cf", "-", "--format", "pax", f"@{archive.absolute()}"]
    try:
        with (
            _output(command) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=Entry) as tar,
        ):
            yield from tar_members(tar)
    except Damaged as error:
        error.whole = True  # it fills with zeros what it cannot read, and says so in the end
        raise


_LISTED = re.compile(r"^ *Name: (.*)\n *Type: (.*)\n(?: *Size: (\d+)\n)?", re.MULTILINE)


def _with_unrar(unrar: str, archive: Path) -> Iterator[Member]:
    """List the archive, then read all its files from one stream, in which they follow each other.

    So unrar itself writes no file, whatever the names in the archive are.
    """
    path = str(archive.absolute())
    listed = subprocess.run(
        [unrar, "lt", "-p-", "-idc", "--", path],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    text = listed.stdout.decode("utf-8", errors="replace")
    with _output([unrar, "p", "-inul", "-p-", "--", path]) as stream:
        for entry in text.split("\n\n"):
            match = _LISTED.search(entry + "\n")
            if not match or match[2] == "Directory":
                continue
            if match[2] != "File":
                yield Member(match[1], 0, LINK, io.BytesIO)
                continue
            rest = _Limited(stream, int(match[3] or 0))
            yield Member(match[1], rest.left, "", _as_it_is(rest))
            rest.read_rest()
        if stream.read(1):
            raise Damaged("unrar gives more than it lists")


def _as_it_is(handle: _Limited) -> Callable[[], IO[bytes]]:
    return lambda: cast(IO[bytes], handle)


class _Limited(io.RawIOBase):
    """The next `size` bytes of a stream; Damaged where it ends before."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.left = stream, size

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        size = -1 if size is None else size
        count = self.left if size < 0 else min(size, self.left)
        block = self.stream.read(count)
        if len(block) < count:
            raise Damaged("it ends early")
        self.left -= len(block)
        return block

    def read_rest(self) -> None:
        while self.left:
            self.read(2**20)


@contextlib.contextmanager
def _output(command: list[str]) -> Iterator[IO[bytes]]:
    """Give what a program prints; Damaged where it complains in the end."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )
        stream = cast(IO[bytes], process.stdout)
        try:
            yield stream
            while stream.read(2**20):
                continue
            process.wait()
        finally:
            process.kill()
            process.wait()
            stream.close()
        if process.returncode:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").strip().splitlines()
            raise Damaged(lines[-1][:150] if lines else f"{Path(command[0]).name} fails")
