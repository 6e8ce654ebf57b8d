"""Image data sets as still clips: every image is repeated for all frames of a clip.

As in the paper's table of linear probes (section 4.1), which takes ImageNet-1k and CIFAR-100.

- `imagenet`: a folder with `train/CLASS/IMAGE` and `val/CLASS/IMAGE`. `val` is the test split, as
  its own test labels were never published.
- `cifar100`: the binary version (`cifar-100-binary`), as an unpacked folder or as the .tar.gz. The
  Python version of the same page is pickled, which this project reads nowhere.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from pipeline.configuration.schema import Clip, ImageSet
from pipeline.data.fetch import archive_formats
from pipeline.data.fetch.archive_formats import Damaged
from pipeline.data.load import crops
from pipeline.data.load.evaluation_clips import EvaluationBatch
from pipeline.data.load.workers import load_in_order
from pipeline.errors import UserError

Pixels = NDArray[np.uint8]

SUFFIXES = {".jpeg", ".jpg", ".png", ".webp", ".bmp"}
CIFAR_SIDE = 32  # pixels
CIFAR_FILES = ("fine_label_names.txt", "train.bin", "test.bin")
CIFAR_LARGEST = 2**29  # bytes, of all files; those of the original have 185 million
CIFAR_RECORD = 2 + 3 * CIFAR_SIDE**2  # coarse label, fine label, red, green and blue plane


class Pictures(Protocol):
    """The images of one split."""

    @property
    def ids(self) -> Sequence[str]:
        """Unique in the data set."""

    @property
    def classes(self) -> Sequence[str]:
        """The class of each image."""

    @property
    def sha256(self) -> str:
        """Changes with the images."""

    def read(self, place: int) -> Pixels:
        """Return one image, uint8 (H, W, 3)."""


@dataclass(frozen=True)
class Folder:
    """Images in files, in a folder per class."""

    ids: Sequence[str]
    classes: Sequence[str]
    files: Sequence[Path]

    @classmethod
    def list(cls, folder: Path, split: str) -> Folder:
        """List `folder`/CLASS/IMAGE; ids are `split`/CLASS/IMAGE."""
        files = sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError("there are no images", place=str(folder / "CLASS"), remedy=_LAYOUT)
        ids = [f"{split}/{path.parent.name}/{path.name}" for path in files]
        return cls(ids, [path.parent.name for path in files], files)

    @property
    def sha256(self) -> str:
        """Of names and sizes: reading a million files would take as long as scoring them."""
        lines = (
            f"{name} {path.stat().st_size}\n"
            for name, path in zip(self.ids, self.files, strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def read(self, place: int) -> Pixels:
        path = self.files[place]
        try:
            with Image.open(path) as image:
                return np.array(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise UserError(
                f"the image cannot be read: {error}",
                place=str(path),
                remedy="fetch it again, or set evaluation.on_failure=report",
            ) from None


@dataclass(frozen=True)
class Records:
    """Images of CIFAR-100 in memory (150 MB for the train split)."""

    ids: Sequence[str]
    classes: Sequence[str]
    pixels: Pixels = field(repr=False)  # n, 3, H, W

    @classmethod
    def parse(cls, content: bytes, names: Sequence[str], split: str, place: str) -> Records:
        """Read the records of one `.bin` file."""
        if not content or len(content) % CIFAR_RECORD:
            problem = f"{len(content):,} bytes are no whole number of records of {CIFAR_RECORD}"
            raise UserError(problem, place=place, remedy=_CIFAR)
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR_RECORD)
        fine = records[:, 1]
        if int(fine.max()) >= len(names):
            problem = f"class {int(fine.max())} has no name among {len(names)}"
            raise UserError(problem, place=place, remedy=_CIFAR)
        ids = [f"{split}/{number:05d}" for number in range(len(records))]
        pixels = records[:, 2:].reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE)
        return cls(ids, [names[label] for label in fine], pixels)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(self.pixels.tobytes())
        return hashlib.sha256(f"{digest.hexdigest()} {self.classes}".encode()).hexdigest()

    def read(self, place: int) -> Pixels:
        return np.ascontiguousarray(self.pixels[place].transpose(1, 2, 0))


_LAYOUT = "the folder needs train/CLASS/IMAGE and val/CLASS/IMAGE"
_CIFAR = "unpack cifar-100-binary.tar.gz there, or name that file (not cifar-100-python)"


def load(settings: ImageSet) -> dict[str, Pictures]:
    """Return the splits `train` and `test` of an image data set.

    Raises:
        UserError: where the folder is not there, or is not laid out as its format says.
    """
    folder = Path(settings.folder)
    if not folder.exists():
        remedy = _LAYOUT if settings.format == "imagenet" else _CIFAR
        raise UserError(
            f"there is no image data set {settings.name!r}", place=str(folder), remedy=remedy
        )
    if settings.format == "imagenet":
        return {
            "train": Folder.list(folder / "train", "train"),
            "test": Folder.list(folder / "val", "val"),
        }
    files = _cifar_files(folder)
    names = files["fine_label_names.txt"].decode().split()
    return {
        split: Records.parse(files[f"{split}.bin"], names, split, f"{folder}, {split}.bin")
        for split in ("train", "test")
    }


def _cifar_files(place: Path) -> Mapping[str, bytes]:
    try:
        if place.is_dir():
            inner = place / "cifar-100-binary"
            folder = inner if inner.is_dir() else place
            return {name: _read((folder / name).open("rb")) for name in CIFAR_FILES}
        return _cifar_archive(place)
    except (OSError, LookupError, ValueError, Damaged, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"this is not the binary version of CIFAR-100: {error}", place=str(place), remedy=_CIFAR
        ) from None


def _cifar_archive(place: Path) -> Mapping[str, bytes]:
    """Read the files in an archive into memory: nothing is unpacked to the disk."""
    contents: dict[str, bytes] = {}
    size = 0
    for member in archive_formats.members([place]):
        size += max(member.size, member.skipped)
        if size > CIFAR_LARGEST:
            raise ValueError(f"it holds more than {CIFAR_LARGEST:,} bytes")
        name = Path(member.name).name
        if name in CIFAR_FILES and not member.refusal:
            contents[name] = _read(member.open())
    return {name: contents[name] for name in CIFAR_FILES}


def _read(handle: IO[bytes]) -> bytes:
    with handle:
        content = handle.read(CIFAR_LARGEST + 1)
    if len(content) > CIFAR_LARGEST:
        raise ValueError(f"a file has more than {CIFAR_LARGEST:,} bytes")
    return content


@dataclass(frozen=True)
class ImageClips:
    """The images of one split as clips of one view: the centre square, repeated."""

    pictures: Pictures
    clip: Clip
    on_failure: str = "stop"

    @property
    def ids(self) -> Sequence[str]:
        return self.pictures.ids

    @property
    def views(self) -> int:
        return 1

    def batches(
        self, places: Sequence[int], batch_size: int, workers: int
    ) -> Iterator[EvaluationBatch]:
        steps = Stills(self, places, batch_size)
        return load_in_order(steps, range(-(-len(places) // batch_size)), workers)


@dataclass
class Stills(Dataset[EvaluationBatch]):
    """Number of a batch -> the images in it."""

    clips: ImageClips
    places: Sequence[int]
    batch_size: int

    def __getitem__(self, step: int) -> EvaluationBatch:
        size, frames = self.clips.clip.size, self.clips.clip.frames
        videos, ids = [], []
        for place in self.places[step * self.batch_size : (step + 1) * self.batch_size]:
            try:
                image = self.clips.pictures.read(place)
            except UserError:
                if self.clips.on_failure == "stop":
                    raise
                continue
            (window,) = crops.along_long_side(image.shape[0], image.shape[1], 1)
            still = crops.cut(image[None], window, size)  # 1, size, size, 3
            videos.append(np.repeat(still[None], frames, axis=1))
            ids.append(self.clips.ids[place])
        stacked = np.stack(videos) if videos else np.zeros((0, 1, frames, size, size, 3), np.uint8)
        return EvaluationBatch(torch.from_numpy(stacked), ids)
