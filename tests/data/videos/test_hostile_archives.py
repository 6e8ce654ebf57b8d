"""Archives made to break who unpacks them: each ends with a reason, soon, and in little memory."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.fetch import archive_formats, archive_rar, archives
from pipeline.data.fetch.archive_cache import ArchiveCache
from pipeline.data.fetch.archives import Limits, Unpacked
from pipeline.data.records import Outcome
from tests.data.videos.server import SETTINGS
from tests.data.videos.test_archives import VIDEO, tar, zipped

FEW = SETTINGS.model_copy(update={"max_bytes": 1_000_000})


def find(path: Path, member: str = "good.mp4", given: object = SETTINGS) -> tuple[Outcome, str]:
    """Unpack an archive; return what became of a member, and why."""
    found, name = ArchiveCache(path.parent / "unpacked", given).find(f"{path}!/{member}")  # type: ignore[arg-type]
    fetched = found.fetched(name) if isinstance(found, Unpacked) else found
    return fetched.outcome, fetched.reason


def entry(name: str, body: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int = -1) -> bytes:
    """Return a member of a tar, whose header may give another size than it has."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(body) if size < 0 else size
    return info.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


GOOD = entry("good.mp4", VIDEO)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
@pytest.mark.parametrize("count", [100, 5000])
def test_headers_without_end(kind: bytes, count: int, tmp_path: Path) -> None:
    """Catches a tar of headers only, each of which calls the reader from within the one before."""
    body = b"11 path=ab\n" if kind in b"xg" else b"name\0"
    path = tmp_path / "a.tar"
    path.write_bytes(GOOD + entry("long", body, kind) * count + GOOD + bytes(1024))
    assert find(path)[0] is Outcome.OK
    outcome, reason = find(path, "other.mp4")
    assert outcome is Outcome.CORRUPT
    assert "more than 16 headers" in reason


@pytest.mark.parametrize("mode", ["", ":gz"])
def test_sparse_maps_without_end(mode: str, tmp_path: Path) -> None:
    """Catches a list of the pieces of a sparse file that is read until memory is full."""
    piece = struct.pack("12s12s", b"00000000001\0", b"00000000001\0")
    more = (piece * 21 + b"\1").ljust(512, b"\0")
    head = bytearray(entry("s", kind=tarfile.GNUTYPE_SPARSE))
    head[386:482], head[482:483] = piece * 4, b"\1"
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:512]))
    path = tmp_path / "a.tar"
    with gzip.open(path, "wb") if mode else path.open("wb") as file:
        file.write(GOOD + bytes(head))
        for _ in range(20):
            file.write(more * 500)
    began = time.process_time()
    assert find(path, "s") == (
        Outcome.CORRUPT, "the archive is damaged: headers of more than 1,048,576 bytes",
    )  # fmt: skip
    assert find(path)[0] is Outcome.OK
    assert time.process_time() - began < 5


@pytest.mark.parametrize("how", ["old", "pax"])
def test_a_sparse_giant_is_refused_and_the_others_are_there(how: str, tmp_path: Path) -> None:
    """Catches a file of a terabyte of nothing, written to the disk; or all lost because of it."""
    path = tmp_path / "a.tar"
    if how == "old":
        head = bytearray(entry("huge.mp4", kind=tarfile.GNUTYPE_SPARSE))
        head[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
        head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:512]))
        path.write_bytes(bytes(head) + GOOD + bytes(1024))
    else:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            info = tarfile.TarInfo("huge.mp4")
            info.pax_headers = {
                "GNU.sparse.map": "0,5", "GNU.sparse.size": str(2**40),
                "GNU.sparse.realsize": str(2**40), "GNU.sparse.name": "huge.mp4",
            }  # fmt: skip
            info.size = 5
            archive.addfile(info, io.BytesIO(b"abcde"))
            good = tarfile.TarInfo("good.mp4")
            good.size = len(VIDEO)
            archive.addfile(good, io.BytesIO(VIDEO))
    outcome, reason = find(path, "huge.mp4")
    assert outcome is Outcome.FAILED
    assert "1,099,511,627,776 bytes" in reason
    assert find(path)[0] is Outcome.OK


def test_a_small_sparse_file_is_unpacked(tmp_path: Path) -> None:
    """Catches sparse files refused altogether."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("s.mp4")
        info.pax_headers = {"GNU.sparse.map": f"0,{len(VIDEO)}", "GNU.sparse.size": "5000"}
        info.size = len(VIDEO)
        archive.addfile(info, io.BytesIO(VIDEO))
    found, _ = ArchiveCache(tmp_path / "u", SETTINGS).find(f"{path}!/s.mp4")
    assert isinstance(found, Unpacked)
    assert found.path("s.mp4").read_bytes() == VIDEO.ljust(5000, b"\0")


@pytest.mark.parametrize("make", [tar, zipped])
def test_names_that_no_folder_takes(make: object, tmp_path: Path) -> None:
    """Catches folders 1,500 deep, and names of 300 letters, that end the job."""
    bad = {
        "d/" * 1500 + "x.mp4": "64 folders deep",
        "d/" * 65 + "x.mp4": "64 folders deep",
        "n" * 300: "too long a name",
        "n" * 300 + "/x.mp4": "too long a name",
        "ü" * 200: "too long a name",
        ("n" * 200 + "/") * 10 + "x.mp4": "too long a name",
    }
    path = make(tmp_path / f"a.{'tar' if make is tar else 'zip'}",  # type: ignore[operator]
                dict.fromkeys([*bad, "good.mp4", "d/" * 60 + "x.mp4"], VIDEO))  # fmt: skip
    for name, said in bad.items():
        outcome, reason = find(path, name)
        assert (outcome, said in reason) == (Outcome.FAILED, True), (name[:20], reason)
    assert find(path)[0] is find(path, "d/" * 60 + "x.mp4")[0] is Outcome.OK


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 12, 13, 20, 27, 64])
@pytest.mark.parametrize("start", [b"Rar!\x1a\x07\x00", b"Rar!\x1a\x07\x01\x00", b"PK\x03\x04"])
def test_archives_of_some_bytes(start: bytes, size: int, tmp_path: Path) -> None:
    """Catches a reader that takes for granted that there is a header."""
    path = tmp_path / "a.rar"
    path.write_bytes((start + b"\xff" * 64)[:size])
    if start.startswith(b"Rar!") and not (shutil.which("bsdtar") or shutil.which("unrar")):
        pytest.skip("neither bsdtar nor unrar")
    try:
        outcome, reason = find(path)
    except archive_rar.TakesUnrar:  # of which `Sources` makes a record
        return
    assert outcome in (Outcome.CORRUPT, Outcome.MISSING), reason
    assert reason


@settings(max_examples=120)
@given(
    data=st.data(), name=st.sampled_from(["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
)
def test_no_damaged_archive_ends_in_a_traceback(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Catches an exception of tarfile, zipfile or a decompressor that is none of the known ones."""
    folder = tmp_path_factory.mktemp("damaged")
    path = (zipped if name.endswith("zip") else tar)(folder / name)
    body = bytearray(path.read_bytes())
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(body) - 1), st.integers(0, 255)), max_size=12)
    ):
        body[place] = byte
    path.write_bytes(bytes(body[: data.draw(st.integers(0, len(body)))]))
    for member in ("v/a.mp4", "none"):
        outcome, reason = find(path, member)
        assert outcome is Outcome.OK or reason


def test_what_is_unpacked_is_limited_and_may_be_allowed_later(tmp_path: Path) -> None:
    """Catches `max_bytes` that counts the packed file alone, and a refusal that outlives it."""
    path = tar(tmp_path / "a.tar", {"good.mp4": VIDEO, "b.mp4": VIDEO + bytes(2_000_000)})
    outcome, reason = find(path, given=FEW)
    assert outcome is Outcome.FAILED
    assert "1,000,000 bytes (max_bytes)" in reason
    assert find(path)[0] is Outcome.OK
    inner = tar(tmp_path / "b.tar", {"a.tar": path.read_bytes()})
    assert find(inner, "a.tar!/good.mp4", FEW)[0] is Outcome.FAILED


def test_what_is_skipped_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a member that is refused, and takes hours to be read over."""
    monkeypatch.setattr(archives, "SLACK", 100_000)
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("../x.mp4", "good.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 20_000_000
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert "grows to more" in find(path)[1]


@pytest.mark.parametrize("wide", [False, True])
def test_a_directory_of_millions_of_entries(
    wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a zip whose list of members fills the memory before one is unpacked."""
    path = zipped(tmp_path / "a.zip", {f"{n}.mp4": VIDEO for n in range(100)})
    if wide:  # the size stands in another record
        body = bytearray(path.read_bytes())
        end = body.rindex(b"PK\x05\x06")
        size, start = struct.unpack_from("<II", body, end + 12)
        record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 100, 100, size, start)
        locator = struct.pack("<IIQI", 0x07064B50, 0, end, 1)
        body[end + 12 : end + 20] = b"\xff" * 8
        body[end:end] = record + locator
        path.write_bytes(body)
    assert find(path, "5.mp4")[0] is Outcome.OK
    monkeypatch.setattr(archive_formats, "DIRECTORY", 1000)
    outcome, reason = find(path.rename(tmp_path / "b.zip"), "5.mp4")
    assert outcome is Outcome.CORRUPT
    assert "directory of more than 1,000 bytes" in reason


def test_an_archive_that_is_no_file(tmp_path: Path) -> None:
    """Catches a job that waits for ever for a pipe, or reads a device without end."""
    os.mkfifo(tmp_path / "a.tar")
    (tmp_path / "b.tar").mkdir()
    (tmp_path / "c.tar").symlink_to("/dev/zero")
    for name in "abc":
        assert find(tmp_path / f"{name}.tar") == (Outcome.FAILED, "its archive is no file")


def test_zip_members_of_other_kinds(tmp_path: Path) -> None:
    """Catches methods of compression that Python lacks, and sizes that are not true."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.mp4", VIDEO * 100)
        archive.writestr("good.mp4", VIDEO)
    body = bytearray(path.read_bytes())
    first = body.index(b"PK\x01\x02")
    body[first + 10 : first + 12] = struct.pack("<H", 98)  # PPMd
    body[8:10] = struct.pack("<H", 98)
    path.write_bytes(body)
    assert find(path, "bad.mp4")[0] is Outcome.CORRUPT
    assert find(path)[0] is Outcome.OK


def test_limits_are_the_smaller_ones() -> None:
    """Catches a small archive that may grow to 256 MiB where the user allows less."""
    assert Limits(10, 10**9).of(10**6) == archives.SLACK
    assert Limits(10, 10**6).of(10**9) == 10**6
    assert Limits(10, 10**12).of(10**9) == 10**10
