"""Clips with masks, as the encoder and the metric take them; from folders or the embedded data.

Shapes: T frames, H and W pixels of a video, S size of the model's clips, R resolution of masks and
segments, in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Clip, EmbeddedMasks, MaskedData, Params, Synthetic
from pipeline.data import synthetic
from pipeline.data.load import clip_reader, crops, sampling
from pipeline.data.load.decoders import DecodeError
from pipeline.data.load.workers import load_in_order
from pipeline.data.shards.format import ClipEntry
from pipeline.data.shards.index import DatasetIndex
from pipeline.errors import UserError
from pipeline.evaluation.segmentation import folders
from pipeline.evaluation.segmentation.folders import UnreadableError, Video
from pipeline.evaluation.segmentation.metric import BACKGROUND
from pipeline.runtime.files import sha256_file

Pixels = NDArray[np.uint8]
Scored = TypeVar("Scored")
Choice = Callable[[int], NDArray[np.int64]]  # which of so many frames are read
MIN_FRAMES = 2  # with masks, for a video to be one
VOID = 255  # in masks: pixels that count nowhere
MOST_OBJECTS = 64  # of a video


@dataclass(frozen=True)
class MaskedClip:
    """A clip: `frames` uint8 (T,S,S,3), `masks` uint8 (T,R,R): 0 background, 255 void.

    Of a whole video masks are as large as they are there: (T,H,W).
    """

    id: str
    frames: Pixels
    masks: Pixels


@dataclass(frozen=True)
class Lost:
    """A clip of the list that cannot be scored. `outcome` is one word, `reason` a line."""

    id: str
    outcome: str
    reason: str


class Source(Protocol):
    """A data set with masks."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def ids(self) -> Sequence[str]:
        """All clips, those that cannot be read too, in their order."""

    def clip(self, place: int, frames: int, size: int, resolution: int) -> MaskedClip | Lost:
        """Read one clip of `frames` frames."""

    def video(self, place: int, size: int) -> MaskedClip | Lost:
        """Read all frames of a video, which are scaled to `size`, and its masks as they are."""


@dataclass(frozen=True)
class FolderSource:
    """Videos in folders, each a clip of frames spread evenly over it, squeezed to a square."""

    name: str
    videos: Sequence[Video]

    @property
    def ids(self) -> Sequence[str]:
        return [video.id for video in self.videos]

    def clip(self, place: int, frames: int, size: int, resolution: int) -> MaskedClip | Lost:
        choose = partial(sampling.per_segment_centred, length=frames, views=1)
        return _scaled(self._read(place, size, lambda count: choose(count)[0]), resolution)

    def video(self, place: int, size: int) -> MaskedClip | Lost:
        return self._read(place, size, np.arange)

    def _read(self, place: int, size: int, choose: Choice) -> MaskedClip | Lost:
        video = self.videos[place]
        if not len(video):
            return Lost(video.id, "unclear" if video.is_unclear else "missing", video.problem)
        if len(video) < MIN_FRAMES:
            return Lost(video.id, "too_short", "one frame has both a picture and a mask")
        try:
            pictures, masks = video.read(choose(len(video)))
        except UnreadableError as error:
            return Lost(video.id, "corrupt", str(error))
        if reason := _no_objects(masks):
            return Lost(video.id, "no_object", reason)
        whole = crops.Window(0, 0, *masks.shape[1:])
        return MaskedClip(video.id, crops.cut(pictures, whole, size), masks)


@dataclass(frozen=True)
class EmbeddedSource:
    """Clips of the embedded data set out of its shards, with the masks that they are drawn from.

    A clip is the centred view that the model sees (`seen`), in as many frames as are asked for.
    """

    name: str
    entries: Sequence[ClipEntry]
    settings: Synthetic
    seen: Clip

    @property
    def ids(self) -> Sequence[str]:
        return [entry.id for entry in self.entries]

    def clip(self, place: int, frames: int, size: int, resolution: int) -> MaskedClip | Lost:
        seen = self.seen.model_copy(update={"frames": frames})
        choose = partial(sampling.centred, clip=seen, kind=seen.sampling)
        return _scaled(self._read(place, size, lambda count: choose(count)[0]), resolution)

    def video(self, place: int, size: int) -> MaskedClip | Lost:
        return self._read(place, size, np.arange)

    def _read(self, place: int, size: int, choose: Choice) -> MaskedClip | Lost:
        entry = self.entries[place]
        if entry.frames != self.settings.frames:
            reason = f"{entry.frames} frames where {self.settings.frames} were drawn"
            return Lost(entry.id, "resampled", reason)
        chosen = choose(entry.frames)
        try:
            pictures = clip_reader.read(entry, chosen)
        except DecodeError as error:
            return Lost(entry.id, "corrupt", str(error))
        drawn = synthetic.render(self.settings, *synthetic.parse_id(entry.id))
        window = crops.along_long_side(entry.height, entry.width, 1)[0]
        return MaskedClip(entry.id, crops.cut(pictures, window, size), drawn.masks[chosen])


def open_source(params: Params, data: MaskedData) -> tuple[Source, list[Lost], str] | str:
    """Return a data set's clips, those that were lost before, and its hash; or why it cannot be.

    Raises:
        UserError: where a folder is missing, or the embedded data has no test clip.
    """
    if not isinstance(data, EmbeddedMasks):
        videos = folders.videos(data)
        return FolderSource(data.name, videos), [], folders.digest(videos)
    if params.data.synthetic is None:
        return f"the masks of data set {params.data.name!r} are not known"
    if not params.evaluation.test:
        return "test clips are left alone (evaluation.test=false)"
    files = DataLayout(params.data.name)
    index = DatasetIndex.load(files.shards)
    lost = {clip["id"]: clip for clip in index.lost if clip.get("split") == "test"}
    entries = {entry.id: entry for entry in index.clips(["test"])}
    if not entries:
        raise UserError("the test split has no clip", place=str(files.index))
    ids = sorted(entries.keys() | lost.keys())[: data.clips]
    source = EmbeddedSource(
        data.name,
        [entries[clip] for clip in ids if clip in entries],
        params.data.synthetic,
        params.data.clip,
    )
    gone = [Lost(clip, lost[clip]["outcome"], lost[clip]["reason"]) for clip in ids if clip in lost]
    return source, gone, sha256_file(files.index)


def divided(outcomes: Sequence[Scored | Lost]) -> tuple[list[Scored], list[Lost]]:
    """Return what is scored, and what is lost."""
    scored = [each for each in outcomes if not isinstance(each, Lost)]
    return scored, [each for each in outcomes if isinstance(each, Lost)]


def census(outcomes: Sequence[object]) -> dict[str, int]:
    """Count what became of clips, `ok` first: each is lost, or what it scores."""
    counts = Counter(each.outcome if isinstance(each, Lost) else "ok" for each in outcomes)
    return dict(sorted(counts.items(), key=lambda item: (item[0] != "ok", item[0])))


def _no_objects(masks: Pixels) -> str:
    """Return why the numbers of these masks are no objects'; empty where they are."""
    numbers = np.unique(masks)
    objects = numbers[(numbers != BACKGROUND) & (numbers != VOID)]
    if len(objects) > MOST_OBJECTS:
        return f"its masks have {len(numbers)} numbers: shades of grey, not numbers of objects"
    if len(objects):
        return ""
    if VOID in numbers:
        return (
            f"its masks have no number but {', '.join(map(str, numbers))}, and 255 is void, which "
            "counts nowhere: objects are 1, 2 ... (255 as 1 for a single one)"
        )
    return "the masks of the frames looked at are 0 throughout, the background"


def _scaled(clip: MaskedClip | Lost, resolution: int) -> MaskedClip | Lost:
    if isinstance(clip, Lost):
        return clip
    return replace(clip, masks=scaled_masks(clip.masks, resolution))


def scaled_masks(masks: Pixels, resolution: int) -> Pixels:
    """Return masks (T,H,W) at (T,R,R): of each pixel the number at its middle."""
    middles = np.arange(resolution) + 0.5
    rows = (middles * masks.shape[1] / resolution).astype(np.int64)
    columns = (middles * masks.shape[2] / resolution).astype(np.int64)
    return np.ascontiguousarray(masks[:, rows[:, None], columns])


def read_in_order(
    read: Callable[[int], MaskedClip | Lost], places: Sequence[int], workers: int
) -> Iterator[MaskedClip | Lost]:
    """Yield the clips that `read` gives of these places, in order, by `workers` processes.

    Without workers this process reads.

    Raises:
        UserError: where a shard of the embedded data set is damaged.
    """
    return load_in_order(_Reading(read, places), range(len(places)), workers)


@dataclass
class _Reading(Dataset["MaskedClip | Lost"]):
    read: Callable[[int], MaskedClip | Lost]
    places: Sequence[int]

    def __getitem__(self, number: int) -> MaskedClip | Lost:
        return self.read(self.places[number])
