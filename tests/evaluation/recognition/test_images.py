"""Image data sets as still clips, from generated images."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.configuration.schema import Clip, ImageSet
from pipeline.data.load import crops
from pipeline.errors import UserError
from pipeline.evaluation.recognition import images
from pipeline.evaluation.recognition.images import ImageClips, Pixels

CLIP = Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)
NAMES = [f"class{k}" for k in range(100)]


def picture(seed: int, height: int = 32, width: int = 32) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cifar(folder: Path) -> dict[str, list[tuple[int, Pixels]]]:
    """Write CIFAR-100's binary version with a few images; return their classes and pixels."""
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES) + "\n")
    made = {}
    for split, seeds in {"train": range(5), "test": range(10, 13)}.items():
        made[split] = [(7 * seed % 100, picture(seed)) for seed in seeds]
        records = [
            bytes([seed % 20, label]) + pixels.transpose(2, 0, 1).tobytes()
            for seed, (label, pixels) in zip(seeds, made[split], strict=True)
        ]
        (folder / f"{split}.bin").write_bytes(b"".join(records))
    return made


def imagenet(folder: Path) -> None:
    for split in ("train", "val"):
        for k, name in enumerate(("n01", "n02")):
            (folder / split / name).mkdir(parents=True)
            for n in range(2):
                image = Image.fromarray(picture(10 * k + n, 40, 60))
                image.save(folder / split / name / f"{n}.png")


def wanted(kind: str, folder: Path) -> ImageSet:
    return ImageSet.model_validate({"name": "set", "format": kind, "folder": str(folder)})


@pytest.mark.parametrize("packed", [False, True])
def test_cifar_as_shipped(tmp_path: Path, packed: bool) -> None:
    """Catches colours or rows in the wrong order, the coarse label in the place of the fine one,
    and an archive that is read otherwise than the folder."""
    made = cifar(tmp_path / "cifar-100-binary")
    place = tmp_path
    if packed:
        place = tmp_path / "cifar-100-binary.tar.gz"
        with tarfile.open(place, "w:gz") as archive:
            archive.add(tmp_path / "cifar-100-binary", "cifar-100-binary")
    found = images.load(wanted("cifar100", place))
    assert list(found) == ["train", "test"]
    for split, records in made.items():
        assert found[split].classes == [NAMES[label] for label, _ in records]
        for place_, (_, pixels) in enumerate(records):
            np.testing.assert_array_equal(found[split].read(place_), pixels)
    assert len({*found["train"].ids, *found["test"].ids}) == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_stills_are_the_centre_square_in_every_frame(tmp_path: Path, workers: int) -> None:
    """Catches a stretched image, frames that differ, clips in another order than asked for, and a
    difference between loading here and in a worker."""
    imagenet(tmp_path)
    clips = ImageClips(images.load(wanted("imagenet", tmp_path))["test"], CLIP)
    assert clips.ids == ["val/n01/0.png", "val/n01/1.png", "val/n02/0.png", "val/n02/1.png"]
    assert clips.pictures.classes == ["n01", "n01", "n02", "n02"]
    batches = list(clips.batches([2, 0, 1], 2, workers))
    assert [batch.ids for batch in batches] == [[clips.ids[2], clips.ids[0]], [clips.ids[1]]]
    video = batches[0].videos[0].numpy()
    assert video.shape == (1, 4, 16, 16, 3)
    square = crops.cut(picture(10, 40, 60)[None], crops.Window(0, 10, 40, 40), 16)
    for frame in video[0]:
        np.testing.assert_array_equal(frame, square[0])


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    """Catches a traceback, another image in the place of a broken one, and a hash that does not
    notice an exchanged file."""
    imagenet(tmp_path)
    before = images.load(wanted("imagenet", tmp_path))["test"].sha256
    bad = tmp_path / "val" / "n01" / "1.png"
    bad.write_bytes(bad.read_bytes()[:50])
    pictures = images.load(wanted("imagenet", tmp_path))["test"]
    assert pictures.sha256 != before
    with pytest.raises(UserError, match="cannot be read") as caught:
        list(ImageClips(pictures, CLIP).batches(range(4), 4, 0))
    assert caught.value.place == str(bad)
    (batch,) = ImageClips(pictures, CLIP, "report").batches(range(4), 4, 0)
    assert batch.ids == [name for name in pictures.ids if name != "val/n01/1.png"]


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    """Catches tracebacks, and CIFAR's pickled version being unpickled or taken for another."""
    with pytest.raises(UserError, match="there is no image data set"):
        images.load(wanted("imagenet", tmp_path / "absent"))
    with pytest.raises(UserError, match="no images"):
        images.load(wanted("imagenet", tmp_path))
    python = tmp_path / "cifar-100-python"
    python.mkdir()
    (python / "train").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="binary") as caught:
        images.load(wanted("cifar100", python))
    assert "cifar-100-binary" in caught.value.remedy
    cifar(tmp_path / "cut")
    whole = (tmp_path / "cut" / "train.bin").read_bytes()
    (tmp_path / "cut" / "train.bin").write_bytes(whole[:-1])
    with pytest.raises(UserError, match="records"):
        images.load(wanted("cifar100", tmp_path / "cut"))


def test_an_archive_is_read_within_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an archive of some kilobytes that fills the memory, and one cut short."""
    monkeypatch.setattr(images, "CIFAR_LARGEST", 1_000_000)
    place = tmp_path / "cifar-100-binary.tar.gz"
    for name in ("train.bin", "other.bin", "../train.bin"):
        with tarfile.open(place, "w:gz") as archive:
            entry = tarfile.TarInfo(name)
            entry.size = 50_000_000
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
        assert place.stat().st_size < 100_000
        with pytest.raises(UserError, match="more than 1,000,000 bytes"):
            images.load(ImageSet(name="c", format="cifar100", folder=str(place)))
    place.write_bytes(place.read_bytes()[:20_000])
    with pytest.raises(UserError, match="not the binary version"):
        images.load(ImageSet(name="c", format="cifar100", folder=str(place)))
