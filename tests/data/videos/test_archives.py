"""Archives of all kinds are unpacked whole, once, and nowhere but into their folder."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.fetch import archive_formats, archive_rar, archives
from pipeline.data.fetch.archive_cache import ArchiveCache
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from tests.data.videos.server import SETTINGS

VIDEO = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00"
FILES = {
    "v/a.mp4": VIDEO + bytes(range(256)) * 40,
    "v/deep/er/b c.mp4": VIDEO + b"b" * 700,
    "v/empty.mp4": b"",
    "ü (1).avi": VIDEO + b"u" * 3000,
}


def tar(path: Path, files: dict[str, bytes] = FILES) -> Path:
    kind = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, kind) as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return path


def zipped(path: Path, files: dict[str, bytes] = FILES, how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def rar(path: Path, files: dict[str, bytes] = FILES, *, volume: bool = False) -> Path:
    """Write a RAR 4 archive whose files are stored as they are."""
    whole = b"Rar!\x1a\x07\x00" + _block(0x73, int(volume), bytes(6))
    for name, body in files.items():
        plain = name.encode("ascii", "replace")
        fields = struct.pack("<IIBIIBBHI", len(body), len(body), 3, zlib.crc32(body), 0, 20, 0x30,
                             len(plain), stat.S_IFREG | 0o644)  # fmt: skip
        whole += _block(0x74, 0x8000, fields + plain) + body
    path.write_bytes(whole + _block(0x7B, 0x4000, b""))
    return path


def _block(kind: int, flags: int, fields: bytes) -> bytes:
    head = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(head) & 0xFFFF) + head


def cut(path: Path, pieces: int) -> str:
    """Cut a file into numbered pieces, as `split -d` does; return their pattern."""
    body = path.read_bytes()
    size = -(-len(body) // pieces)
    for number in range(pieces):
        path.with_name(f"{path.name}-{number:02d}").write_bytes(body[number * size :][:size])
    path.unlink()
    return f"{path.as_posix()}-{{00..{pieces - 1:02d}}}"


def opened(folder: Path, address: str) -> dict[str, bytes]:
    """Unpack an archive and return its files."""
    found, _ = ArchiveCache(folder / "unpacked", SETTINGS).find(f"{address}!/x")
    assert isinstance(found, archives.Unpacked), found
    assert (found.outcome, found.refused) == (Outcome.OK, {})
    base = found.folder / archives.FILES
    return {path.relative_to(base).as_posix(): path.read_bytes()
            for path in archives.files_in(found)}  # fmt: skip


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_whole_or_in_pieces_it_holds_what_was_put_in(
    name: str, pieces: int, tmp_path: Path
) -> None:
    """Would catch a lost, cut or renamed file, and pieces that are joined in another order."""
    path = (zipped if name.endswith("zip") else tar)(tmp_path / name)
    address = path.as_posix() if pieces == 1 else cut(path, pieces)
    assert opened(tmp_path, address) == FILES


def test_each_piece_in_a_zip_of_its_own(tmp_path: Path) -> None:
    """Would catch Something-Something v2 as it was shipped: zips, each of a piece of one tgz."""
    cut(tar(tmp_path / "ssv2.tar.gz"), 3)
    for piece in sorted(tmp_path.glob("ssv2*")):
        zipped(tmp_path / f"{piece.name[-2:]}.zip", {piece.name: piece.read_bytes()})
    assert opened(tmp_path, f"{tmp_path.as_posix()}/{{00..02}}.zip") == FILES


@pytest.mark.skipif(not shutil.which("zip"), reason="the program zip is not installed")
@pytest.mark.parametrize("address", ["s.zip", "s.{z01,z02,z03,zip}"])
def test_a_zip_in_volumes(address: str, tmp_path: Path) -> None:
    """Would catch entries looked for in another volume than theirs."""
    noise = {f"n{n}.mp4": VIDEO + os.urandom(41_000) for n in range(6)}
    for name, body in noise.items():
        (tmp_path / name).write_bytes(body)
    command = ["zip", "-q", "-0", "-s", "64k", "s.zip", *noise]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(list(tmp_path.glob("s.z*"))) == 4
    for name in noise:
        (tmp_path / name).unlink()
    assert opened(tmp_path, f"{tmp_path.as_posix()}/{address}") == noise


@pytest.mark.skipif(
    not (shutil.which("bsdtar") or shutil.which("unrar")), reason="neither bsdtar nor unrar"
)
def test_rar_and_rar_in_rar(tmp_path: Path) -> None:
    """Would catch HMDB51 as it is shipped: a rar of one rar per class."""
    files = {name: body for name, body in FILES.items() if name.isascii()}
    assert opened(tmp_path, rar(tmp_path / "a.rar", files).as_posix()) == files
    outer = rar(tmp_path / "o.rar", {"wave.rar": (tmp_path / "a.rar").read_bytes()})
    store = ArchiveCache(tmp_path / "unpacked", SETTINGS)
    found, member = store.find(f"{outer.as_posix()}!/wave.rar!/v/a.mp4")
    assert isinstance(found, archives.Unpacked)
    assert found.fetched(member).outcome is Outcome.OK
    assert found.path(member).read_bytes() == FILES["v/a.mp4"]


@pytest.mark.skipif(not shutil.which("bsdtar"), reason="bsdtar is not installed")
def test_bsdtar_s_zeros_are_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch members that bsdtar fills with zeros: of a cut rar, and of one in volumes."""
    monkeypatch.setattr(archive_rar, "_unrar", lambda: None)
    path = rar(tmp_path / "a.rar", {"a.mp4": VIDEO, "b.mp4": VIDEO * 500})
    path.write_bytes(path.read_bytes()[:-4000])
    found, _ = ArchiveCache(tmp_path / "unpacked", SETTINGS).find(f"{path}!/x")
    assert found.fetched("b.mp4").outcome is Outcome.CORRUPT
    volume = rar(tmp_path / "v.part1.rar", {"a.mp4": VIDEO}, volume=True)
    with pytest.raises(UserError, match="in volumes takes unrar"):
        ArchiveCache(tmp_path / "unpacked", SETTINGS).find(f"{volume}!/a.mp4")


def test_without_a_program_for_rar_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a traceback, and clips recorded as lost for want of a program."""
    path = rar(tmp_path / "a.rar", {"a.mp4": VIDEO})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="neither unrar nor bsdtar") as caught:
        ArchiveCache(tmp_path / "unpacked", SETTINGS).find(f"{path}!/a.mp4")
    assert "install unrar, or bsdtar" in str(caught.value)


def hostile(path: Path, outside: Path) -> dict[str, str]:
    """Write a tar of members that may not be unpacked; return their names and what is said."""
    entries = {
        "../out.mp4": "leads out",
        "v/../../out.mp4": "leads out",
        str(outside / "out.mp4"): "absolute",
        "a\\b.mp4": "character",
        "bell\x07.mp4": "character",
        "n" * 300: "too long",
        "good.mp4/in.mp4": "lies in a file",
    }
    special = {
        "sym.mp4": (tarfile.SYMTYPE, str(outside / "secret"), "link"),
        "hard.mp4": (tarfile.LNKTYPE, "good.mp4", "link"),
        "into": (tarfile.SYMTYPE, str(outside), "link"),
        "null": (tarfile.CHRTYPE, "", "device"),
        "pipe": (tarfile.FIFOTYPE, "", "device"),
    }
    with tarfile.open(path, "w") as archive:

        def add(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            entry.size = len(VIDEO) if kind == tarfile.REGTYPE else 0
            archive.addfile(entry, io.BytesIO(VIDEO))

        add("good.mp4")
        for name in entries:
            add(name)
        for name, (kind, target, _) in special.items():
            add(name, kind, target)
        add("into/out.mp4")  # through a link to a folder, if that had been made
        add("last.mp4")
    return entries | {name: said for name, (_, _, said) in special.items()}


def test_members_that_lead_elsewhere_are_refused_and_the_rest_is_there(tmp_path: Path) -> None:
    """Would catch writing outside, following a link, and one bad member that loses all."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    path = tmp_path / "in" / "evil.tar"
    path.parent.mkdir()
    refused = hostile(path, outside)
    before = {file for file in tmp_path.rglob("*") if "unpacked" not in file.parts}
    found, _ = ArchiveCache(tmp_path / "unpacked" / "here", SETTINGS).find(f"{path}!/x")
    assert isinstance(found, archives.Unpacked)
    for name, said in refused.items():
        fetched = found.fetched(name)
        assert fetched.outcome is Outcome.FAILED, name
        assert said in fetched.reason
    for name in ("good.mp4", "last.mp4", "./good.mp4", "into/out.mp4"):
        assert found.fetched(name).outcome is Outcome.OK
    assert found.fetched("other.mp4").reason == "the archive has no such member"
    made = {file for file in tmp_path.rglob("*") if "unpacked" not in file.parts}
    assert made == before
    assert not any(file.is_symlink() for file in (tmp_path / "unpacked").rglob("*"))


@settings(max_examples=60)
@given(name=st.text(st.sampled_from("./\\a:é \n\0"), min_size=1, max_size=12))
def test_no_name_leads_out(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Would catch a spelling of a path that the check does not know."""
    base = tmp_path_factory.mktemp("names")
    files = base / "x" / "files"
    member = archive_formats.Member(name, 1, "", lambda: io.BytesIO(b"x"))
    refused: dict[str, list[str]] = {}
    archives._write_all([member], files, 1e6, refused)
    written = [path for path in base.rglob("*") if path.is_file()]
    assert len(written) + len(refused) == 1
    assert all(path.is_relative_to(files) for path in written)


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_bomb_is_refused_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an archive of some kilobytes that fills the disk."""
    monkeypatch.setattr(archives, "SLACK", 10_000)
    files = {"first.mp4": VIDEO, "zeros.mp4": bytes(5_000_000)}
    path = (zipped if kind == "zip" else tar)(tmp_path / f"bomb.{kind}", files)
    found, _ = ArchiveCache(tmp_path / "unpacked", SETTINGS).find(f"{path}!/first.mp4")
    assert isinstance(found, archives.Unpacked)
    assert found.fetched("first.mp4").outcome is Outcome.FAILED
    assert "more than 10 times its size" in found.fetched("zeros.mp4").reason
    assert not list(archives.files_in(found))


def test_a_damaged_archive_gives_what_comes_before_the_damage(tmp_path: Path) -> None:
    """Would catch a half member that passes, and members after the damage called absent."""
    noise = {f"{n}.mp4": VIDEO + os.urandom(50_000) for n in range(4)}
    whole = tar(tmp_path / "a.tar.gz", noise).read_bytes()
    plain = tar(tmp_path / "b.tar", noise).read_bytes()
    header = plain.index(b"2.mp4")
    broken = {
        "cut.tar.gz": whole[: len(whole) // 2],
        "rot.tar": plain[:header] + b"\xff" * 200 + plain[header + 200 :],
        "page.zip": b"<html>404</html>",
        "cut.zip": zipped(tmp_path / "c.zip", noise).read_bytes()[:-200],
    }
    store = ArchiveCache(tmp_path / "unpacked", SETTINGS)
    for name, body in broken.items():
        (tmp_path / name).write_bytes(body)
        found, _ = store.find(f"{tmp_path / name}!/x")
        assert isinstance(found, archives.Unpacked)
        assert found.fetched("3.mp4").outcome is Outcome.CORRUPT, name
        assert "damaged" in found.fetched("3.mp4").reason
        if "tar" in name:
            assert found.path("0.mp4").read_bytes() == noise["0.mp4"]
        for path in archives.files_in(found):
            assert path.read_bytes() == noise[path.name]
    rotten = bytearray((tmp_path / "c.zip").read_bytes())
    rotten[rotten.index(b"1.mp4") + 30_000] ^= 255
    (tmp_path / "rot.zip").write_bytes(rotten)
    found, _ = store.find(f"{tmp_path / 'rot.zip'}!/x")
    outcomes = [found.fetched(f"{n}.mp4").outcome for n in range(4)]
    assert outcomes == [Outcome.OK, Outcome.CORRUPT, Outcome.OK, Outcome.OK]


def test_what_a_killed_job_has_unpacked_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch beginning anew, half files of the killed job, and an archive that has changed."""
    path = tar(tmp_path / "a.tar")
    write, count = archives._write, 0

    def killed(*arguments: object) -> int:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(archives, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        ArchiveCache(tmp_path / "u", SETTINGS).find(f"{path}!/x")
    monkeypatch.setattr(archives, "_write", write)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "u").rglob("*.mp4")}
    assert len(times) == 2
    found, _ = ArchiveCache(tmp_path / "u", SETTINGS).find(f"{path}!/x")
    assert isinstance(found, archives.Unpacked)
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert sum(1 for _ in archives.files_in(found)) == len(FILES)
    tar(path, {"new.mp4": VIDEO})
    found, _ = ArchiveCache(tmp_path / "u", SETTINGS).find(f"{path}!/x")
    assert [file.name for file in archives.files_in(found)] == ["new.mp4"]


def test_a_folder_may_be_called_as_it_likes() -> None:
    """Would catch a path with `!/` in it taken for an archive, and an archive not known as one."""
    assert archives.split("v/Wow!/a.mp4") is None
    assert archives.split("a.zip") is None
    assert archives.split("A.TAR.GZ!/v/a.mp4") == ("A.TAR.GZ", "v/a.mp4")
    assert archives.split("https://h/a.tar?k=1!/b.mp4") == ("https://h/a.tar?k=1", "b.mp4")
    assert archives.split("o.rar!/i.rar!/b.mp4") == ("o.rar", "i.rar!/b.mp4")
    assert archives.parts("p-{08..10}") == ["p-08", "p-09", "p-10"]
    assert archives.parts("odd{name.tar") == ["odd{name.tar"]
