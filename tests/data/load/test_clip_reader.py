"""Reading clips of any codec: exact frames and windows, and damage that is said, not survived."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.configuration.schema import Shards
from pipeline.data.load import clip_reader
from pipeline.data.load.crops import Window
from pipeline.data.load.decoders import DecodeError, Frames
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import index
from pipeline.data.shards.format import ClipEntry, clips_file
from pipeline.data.shards.shard_stage import pack
from pipeline.errors import UserError

FRAMES, HEIGHT, WIDTH = 12, 40, 56
Entries = dict[str, ClipEntry]


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> Entries:
    """One clip in every codec, the second of its shard."""
    folder = tmp_path_factory.mktemp("stored")
    path = folder / "clip.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    command += [f"testsrc2=s={WIDTH}x{HEIGHT}:r=8", "-frames:v", str(FRAMES), "-g", "4"]
    subprocess.run([*command, "-bf", "0", "-pix_fmt", "yuv420p", str(path)], check=True)
    about = {"file": str(path), "frames": FRAMES, "fps": 8, "width": WIDTH, "height": HEIGHT}
    found = {}
    for codec in ("h264", "jpeg", "raw"):
        records = [ClipRecord(id=i, outcome=Outcome.OK, **about) for i in ("a", "b")]
        settings = Shards(codec=codec, jpeg_quality=95, clips_per_shard=10)
        pack(records, folder / codec, 0, settings, folder / "decoded.json")
        (tar,) = (folder / codec).glob("*.tar")
        found[codec] = ClipEntry.parse(clips_file(tar).read_text().splitlines()[1], tar)
    return found


@pytest.fixture(scope="module")
def whole(entries: Entries) -> dict[str, Frames]:
    """All frames of the clip, by codec."""
    every = np.arange(FRAMES)
    return {codec: clip_reader.read(entry, every) for codec, entry in entries.items()}


def test_codecs_hold_the_same_pictures(whole: dict[str, Frames]) -> None:
    """Catches frames out of order, swapped colours, and codecs that a model could tell apart."""
    assert np.array_equal(whole["raw"], whole["h264"])
    error = np.abs(whole["jpeg"][:, None].astype(int) - whole["h264"]).mean((2, 3, 4))  # T,T
    assert error.argmin(axis=1).tolist() == list(range(FRAMES))
    assert error.diagonal().max() < 12  # grey levels, from coding such saturated colours


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[int], Window]:
    """Some frames, in any order and more than once, and a window."""
    indices = draw(st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=20))
    top, left = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    height, width = draw(st.integers(1, HEIGHT - top)), draw(st.integers(1, WIDTH - left))
    return indices, Window(top, left, height, width)


@pytest.mark.parametrize("codec", ["h264", "jpeg", "raw"])
@pytest.mark.parametrize("read_through", [0, 2**17])
@given(request=requests())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_asked_for_and_nothing_else(
    entries: Entries,
    whole: dict[str, Frames],
    monkeypatch: pytest.MonkeyPatch,
    codec: str,
    read_through: int,
    request: tuple[list[int], Window],
) -> None:
    """Catches a frame or a rectangle beside the one asked for, however the reads are grouped."""
    monkeypatch.setattr(clip_reader, "READ_THROUGH", read_through)
    indices, window = request
    got = clip_reader.read(entries[codec], np.array(indices), window)
    assert np.array_equal(got, whole[codec][indices, window.rows, window.columns])


def test_few_reads(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a read per frame: images that lie close together come in one, far ones do not."""
    sizes: list[int] = []

    def counted(entry: ClipEntry, offset: int, size: int) -> bytes:
        sizes.append(size)
        return index.read_at(entry, offset, size)

    monkeypatch.setattr(clip_reader, "read_at", counted)
    clip_reader.read(entries["jpeg"], np.array([0, 2, 4]))
    assert len(sizes) == 3  # offsets, checksums, and all three images
    monkeypatch.setattr(clip_reader, "READ_THROUGH", 0)
    sizes.clear()
    clip_reader.read(entries["jpeg"], np.array([0, 1, 4]))
    assert len(sizes) == 4
    assert sum(sizes[2:]) < entries["jpeg"].size / 2


Damage = Callable[[ClipEntry, bytearray], None]


def _offsets(entry: ClipEntry, tar: bytearray) -> None:
    tar[entry.table + 128 + 8 : entry.table + 128 + 16] = b"\xff" * 8


def _offsets_header(entry: ClipEntry, tar: bytearray) -> None:
    tar[entry.table : entry.table + 6] = b"000000"


def _image(entry: ClipEntry, tar: bytearray) -> None:
    tar[entry.offset : entry.offset + entry.size] = b"x" * entry.size


def _array(entry: ClipEntry, tar: bytearray) -> None:
    tar[entry.offset] ^= 1


@pytest.mark.parametrize(
    ("codec", "damage", "problem"),
    [
        ("jpeg", _offsets, "offsets do not fit"),
        ("jpeg", _offsets_header, "offsets cannot be read"),
        ("jpeg", _image, "frame 0: "),
        ("raw", _array, "no array of 12 frames of 56x40"),
        ("h264", _image, "."),
    ],
)
def test_damage_is_said(
    entries: Entries, tmp_path: Path, codec: str, damage: Damage, problem: str
) -> None:
    """Catches noise that is trained on, and errors other than DecodeError."""
    entry = entries[codec]
    tar = bytearray(entry.shard.read_bytes())
    damage(entry, tar)
    (tmp_path / entry.shard.name).write_bytes(tar)
    broken = dataclasses.replace(entry, shard=tmp_path / entry.shard.name)
    with pytest.raises(DecodeError, match=problem):
        clip_reader.read(broken, np.arange(3))


@pytest.mark.parametrize("codec", ["h264", "jpeg", "raw"])
def test_shard_that_was_cut_short(entries: Entries, tmp_path: Path, codec: str) -> None:
    """Catches the signal that ends a process which touches mapped memory beyond a file's end."""
    entry = entries[codec]
    path = tmp_path / entry.shard.name
    path.write_bytes(entry.shard.read_bytes()[: entry.offset + entry.size // 2])
    with pytest.raises(UserError, match="ends before the end of clip 'b'"):
        clip_reader.read(dataclasses.replace(entry, shard=path), np.array([0, FRAMES - 1]))


@pytest.mark.parametrize("codec", ["h264", "jpeg", "raw"])
@given(data=st.data())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_the_pictures_can_change_unseen(
    entries: Entries, tmp_path_factory: pytest.TempPathFactory, codec: str, data: st.DataObject
) -> None:
    """Catches a flipped bit that is decoded as if nothing were wrong, wherever it lies."""
    entry = entries[codec]
    tar = bytearray(entry.shard.read_bytes())
    first = 128 if codec == "raw" else 0  # numpy's header is looked at by itself
    place = entry.offset + data.draw(st.integers(first, entry.size - 1))
    tar[place] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flipped") / entry.shard.name
    path.write_bytes(tar)
    with pytest.raises(DecodeError, match="checksum"):
        clip_reader.read(dataclasses.replace(entry, shard=path), np.arange(FRAMES))


@pytest.mark.parametrize("codec", ["h264", "jpeg", "raw"])
def test_shards_without_checksums_are_read(
    entries: Entries, whole: dict[str, Frames], codec: str
) -> None:
    """Catches shards of before there were checksums that are refused."""
    line = json.loads(entries[codec].line())
    line = {name: value for name, value in line.items() if name not in ("xxh3", "checks")}
    entry = ClipEntry.parse(json.dumps(line), entries[codec].shard)
    assert (entry.xxh3, entry.checks) == (None, 0)
    assert np.array_equal(clip_reader.read(entry, np.arange(FRAMES)), whole[codec])
