"""Codecs: the same pictures however they are stored, bytes that others read, nothing half done."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import webdataset
from PIL import Image

from pipeline.configuration.schema import Shards
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards.shard_stage import pack
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file

CODECS = ("h264", "jpeg", "raw")
FRAMES, HEIGHT, WIDTH = 9, 48, 64


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRecord]:
    """Two clips that ffmpeg draws: no two frames are alike."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for name, source in (("a.b", "testsrc2"), ("c", "mandelbrot")):
        path = folder / f"{name}.mp4"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
        command += [f"{source}=s={WIDTH}x{HEIGHT}:r=8", "-frames:v", str(FRAMES), "-g", "4"]
        subprocess.run([*command, "-bf", "0", "-pix_fmt", "yuv420p", str(path)], check=True)
        made.append(
            ClipRecord(
                id=name,
                outcome=Outcome.OK,
                file=str(path),
                sha256=sha256_file(path),
                frames=FRAMES,
                fps=8,
                width=WIDTH,
                height=HEIGHT,
            )
        )
    return made


def write(records: list[ClipRecord], folder: Path, codec: str, quality: int = 90) -> Path:
    settings = Shards(codec=codec, jpeg_quality=quality, clips_per_shard=10)
    pack(records, folder, 0, settings, Path("decoded/0.json"))
    return folder / "train-00000-000.tar"


def decoded(path: str) -> np.ndarray:
    """All frames by the ffmpeg program, called otherwise than by the project: uint8 (T,H,W,3)."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo"]
    done = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(FRAMES, HEIGHT, WIDTH, 3)


def by_pil(frame: np.ndarray, quality: int) -> np.ndarray:
    """What PIL makes of a frame as a JPEG, H,W,3."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file))


def test_webdataset_reads_raw_and_jpeg(records: list[ClipRecord], tmp_path: Path) -> None:
    """Catches arrays, offsets or images that only our reader understands; oracles: webdataset,
    numpy, PIL and ffmpeg (which takes the images for one stream)."""
    tars = {codec: write(records, tmp_path / codec, codec) for codec in ("jpeg", "raw")}
    for codec, tar in tars.items():
        names = subprocess.run(["tar", "-tf", tar], capture_output=True, text=True, check=True)
        kinds = {
            "jpeg": ("offsets.npy", "xxh3.npy", "mjpeg", "json"),
            "raw": ("npy", "xxh3.npy", "json"),
        }[codec]
        keys = ("a%2Eb", "c")
        assert names.stdout.split() == [f"{key}.{kind}" for key in keys for kind in kinds]
    raw = webdataset.WebDataset(str(tars["raw"]), shardshuffle=False).decode()
    jpeg = webdataset.WebDataset(str(tars["jpeg"]), shardshuffle=False).decode()
    for record, as_bytes, as_images in zip(records, raw, jpeg, strict=True):
        truth = decoded(record.file)
        assert as_bytes["json"]["id"] == record.id
        assert np.array_equal(as_bytes["npy"], truth)
        offsets, stream = as_images["offsets.npy"], as_images["mjpeg"]
        assert offsets.tolist()[0] == 0
        assert offsets.tolist()[-1] == len(stream)
        assert len(offsets) == FRAMES + 1
        for frame, begin, end in zip(truth, offsets[:-1], offsets[1:], strict=True):
            image = np.asarray(Image.open(io.BytesIO(stream[begin:end])))
            assert np.abs(image.astype(int) - by_pil(frame, 90)).mean() < 2  # grey levels
        (tmp_path / "stream.mjpeg").write_bytes(stream)
        assert decoded(str(tmp_path / "stream.mjpeg")).shape == truth.shape


@pytest.mark.parametrize("codec", CODECS)
def test_same_clips_same_bytes(records: list[ClipRecord], tmp_path: Path, codec: str) -> None:
    """Catches anything in a codec that changes from run to run, and temporary files left over."""
    one, two = (write(records, tmp_path / name, codec) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert len(list(one.parent.iterdir())) == 3


def test_quality_is_that_of_the_settings(records: list[ClipRecord], tmp_path: Path) -> None:
    """Catches a quality that is read nowhere."""
    sizes = [
        write(records, tmp_path / str(quality), "jpeg", quality).stat().st_size
        for quality in (30, 90)
    ]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
@pytest.mark.parametrize(
    ("damage", "frames"),
    [(lambda data: data, FRAMES + 1), (lambda data: data[: len(data) // 2], FRAMES)],
)
def test_no_shard_of_a_clip_that_is_not_as_recorded(
    records: list[ClipRecord],
    tmp_path: Path,
    codec: str,
    damage: Callable[[bytes], bytes],
    frames: int,
) -> None:
    """Catches frames that are missing or made up, and a half shard where the last clip fails."""
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damage(Path(records[1].file).read_bytes()))
    wrong = records[1].model_copy(update={"file": str(path), "frames": frames, "sha256": ""})
    with pytest.raises(UserError, match="clip 'c' cannot be decoded: ") as caught:
        write([records[0], wrong], tmp_path / "out", codec)
    assert caught.value.place == str(path)
    assert list((tmp_path / "out").iterdir()) == []


def test_offsets_in_the_list_are_those_of_the_tar(
    records: list[ClipRecord], tmp_path: Path
) -> None:
    """Catches a table or clip that lies elsewhere than the list says, above all after the extended
    header of a long name."""
    from pipeline.data.shards.format import ClipEntry, clips_file

    long = records[1].model_copy(update={"id": "x" * 150})
    for codec in CODECS:
        tar = write([records[0], long], tmp_path / codec, codec)
        lines = clips_file(tar).read_text().splitlines()
        with tarfile.open(tar) as archive:
            members = {member.name: member for member in archive}
        for entry in (ClipEntry.parse(line, tar) for line in lines):
            key = entry.id.replace(".", "%2E")
            kind = {"h264": "mp4", "jpeg": "mjpeg", "raw": "npy"}[codec]
            pictures = members[f"{key}.{kind}"]
            assert (entry.offset, entry.size) == (pictures.offset_data, pictures.size)
            table = members[f"{key}.offsets.npy"].offset_data if codec == "jpeg" else 0
            assert (entry.table, entry.codec) == (table, codec)
