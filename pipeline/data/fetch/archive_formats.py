"""What is in a tar, zip or rar file, one member after the other."""

from __future__ import annotations

import functools
import glob
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from pipeline.errors import UserError

ZIP, RAR = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"), b"Rar!\x1a\x07"
LINK = "is a link: refused"
DEVICE = "is a device or the like: refused"


HEADER = 2**20  # bytes that a member's name and the like may take: they are read into memory
DIRECTORY = 2**27  # bytes of a zip's list of members, a million and more
HEADERS = 16  # of one member, one after the other


class Damaged(Exception):  # noqa: N818 - of the archive, not of ours
    """The archive cannot be read, or not to its end; the message says how that shows."""

    whole = False  # the members that came before may be damaged, too


class Member(NamedTuple):
    """Something in an archive; `open` may be called before the next one is asked for."""

    name: str
    size: int  # bytes, as the archive says; what `open` gives may differ
    refusal: str  # why it is not unpacked; empty for a plain file
    open: Callable[[], IO[bytes]]
    sparse: bool = False  # most of its bytes may be in no archive, nor on any disk
    skipped: int = 0  # bytes that are read all the same where it is refused


def members(archive: Sequence[Path]) -> Iterator[Member]:
    """Yield everything but the folders of an archive, given as its parts in order.

    Raises:
        Damaged: where it cannot be read on.
        OSError: a part cannot be opened.
        UserError: it takes a program that is not there.
    """
    with archive[0].open("rb") as handle:
        start = handle.read(8)
    if start.startswith(RAR):
        from pipeline.data.fetch import archive_rar  # which builds on this module

        entries = archive_rar.members(archive[0])
    elif start.startswith(ZIP):
        entries = _zip(archive)
    else:
        entries = _tar(archive)
    try:
        yield from entries
    except (Damaged, UserError):
        raise
    except OSError as error:
        if error.errno is None:  # of `bz2`
            raise Damaged(str(error)) from None
        raise
    except Exception as error:  # noqa: BLE001 - the readers raise much that is not documented
        lines = str(error).splitlines()  # `tarfile` lists what it tried
        raise Damaged(lines[0].rstrip(":") if lines else type(error).__name__) from None


def volumes(archive: Sequence[Path]) -> Sequence[Path]:
    """Return all parts of an archive: `name.zip` is the last where `name.z01` lies beside it."""
    last = archive[-1]
    if len(archive) > 1 or last.suffix.lower() != ".zip":
        return archive
    first = last.parent.glob(f"{glob.escape(last.stem)}.[zZ][0-9]*")
    return [*sorted(first, key=lambda path: int(path.suffix[2:])), last]


def is_zip(path: Path) -> bool:
    """Whether a file is a whole zip archive by itself."""
    return zipfile.is_zipfile(path)


class _Joined(io.RawIOBase):
    """Several files that are read as one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        sizes = [path.stat().st_size for path in files]
        self.starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self.position, self.starts[-1])[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        for path, start, end in zip(self.files, self.starts, self.starts[1:], strict=False):
            if start <= self.position < end:
                with path.open("rb") as handle:
                    handle.seek(self.position - start)
                    block = handle.read(min(len(buffer), end - self.position))
                buffer[: len(block)] = block
                self.position += len(block)
                return len(block)
        return 0


def _opened(archive: Sequence[Path]) -> IO[bytes]:
    if len(archive) == 1:
        return archive[0].open("rb")
    return io.BufferedReader(_Joined(archive), buffer_size=2**20)


class _Headers:
    """A tar's file while the headers of one member are read: these are kept in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left, self.count = file, HEADER, 0
        self.tell, self.seek = file.tell, file.seek

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"headers of more than {HEADER:,} bytes")
        return self.file.read(size)


class Entry(tarfile.TarInfo):
    """A member of a tar whose name and the like are of a reasonable size and number."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read what belongs to the header; where that is a member's name, the member is next."""
        file: Any = tar.fileobj
        headers = file if isinstance(file, _Headers) else _Headers(file)
        headers.count += 1
        if headers.count > HEADERS:
            raise tarfile.ReadError(f"a member of more than {HEADERS} headers")
        tar.fileobj = headers  # type: ignore[assignment]
        try:
            return super()._proc_member(tar)  # type: ignore[misc,no-any-return]
        finally:
            tar.fileobj = file


def _tar(archive: Sequence[Path]) -> Iterator[Member]:
    with (
        _opened(archive) as handle,
        tarfile.open(fileobj=handle, mode="r:*", tarinfo=Entry) as tar,
    ):
        yield from tar_members(tar)
        # `tarfile` takes a header that makes no sense for the end of the archive.
        file = cast(IO[bytes], tar.fileobj)
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise Damaged(f"no member begins at byte {tar.offset:,}")


def tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    """Yield everything but the folders of an open tar."""
    while (entry := tar.next()) is not None:
        # Else it would remember every member: gigabytes, of millions.
        tar.members = []  # type: ignore[attr-defined]
        if entry.isdir():
            continue
        link = LINK if entry.issym() or entry.islnk() else ""
        refusal = link or ("" if entry.isreg() else DEVICE)
        has_data = entry.isreg() or entry.type not in tarfile.SUPPORTED_TYPES  # as `tarfile` reads
        skipped = entry.size if has_data else 0
        opened = cast(Callable[[], IO[bytes]], functools.partial(tar.extractfile, entry))
        yield Member(entry.name, entry.size, refusal, opened, entry.issparse(), skipped)


def _zip(archive: Sequence[Path]) -> Iterator[Member]:
    _check_directory(archive)
    with _opened(archive) as handle, zipfile.ZipFile(handle) as opened:
        if len(archive) > 1:
            _place_entries(opened, archive)
        for entry in opened.infolist():
            if entry.is_dir():
                continue
            mode = entry.external_attr >> 16
            refusal = LINK if stat.S_ISLNK(mode) else ""
            if not refusal and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                refusal = DEVICE
            if entry.flag_bits & 1:
                refusal = "is encrypted"
            name = entry.filename.replace("\\", "/")  # as some programs on Windows write it
            yield Member(name, entry.file_size, refusal, functools.partial(opened.open, entry))


def _check_directory(archive: Sequence[Path]) -> None:
    """Raise where the list of a zip's members is too long to be read into memory.

    Its size stands in the record at the end, or where that has no place for it, in another one
    before that (APPNOTE.TXT 4.3.14, 4.3.16).
    """
    with _opened(archive) as handle:
        size = handle.seek(0, 2)
        handle.seek(max(0, size - 2**16 - 98))
        end = handle.read()
    place, wide = end.rfind(ZIP[1]), end.rfind(b"PK\x06\x06")
    sizes = [0]
    if 0 <= place <= len(end) - 16:
        sizes.append(struct.unpack_from("<I", end, place + 12)[0])
    if sizes[-1] == 2**32 - 1 and 0 <= wide <= len(end) - 48:
        sizes = list(struct.unpack_from("<Q", end, wide + 40))
    if max(sizes) > DIRECTORY:
        raise Damaged(f"a directory of more than {DIRECTORY:,} bytes")


def _place_entries(opened: zipfile.ZipFile, volumes: Sequence[Path]) -> None:
    """Correct where the entries of a zip in volumes begin.

    Each entry gives its volume and its place in that, and so does the directory of all entries
    (APPNOTE.TXT 4.4.11, 4.4.16, 4.3.16). `zipfile` takes all for one file that has other data
    before it. In a file that was cut in pieces afterwards, all is in volume 0.
    """
    last = volumes[-1].read_bytes()[-(2**16 + 22) :]
    end = last[last.rfind(ZIP[1]) :]
    volume, directory = struct.unpack_from("<HH", end, 4)
    if volume == 0:
        return
    starts = _Joined(volumes).starts
    for entry in opened.infolist():
        if entry.volume >= len(volumes):
            raise Damaged(f"volume {entry.volume + 1} of it is not there")
        entry.header_offset += starts[entry.volume] - starts[directory]
