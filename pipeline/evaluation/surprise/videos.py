"""Possible and impossible videos in matched pairs: drawn ones, and those of folders.

Shapes: n sampled frames, S size of the model's clips in pixels.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.configuration.schema import Clip, Params, Synthetic
from pipeline.data.load import crops, decoders
from pipeline.data.records import Outcome
from pipeline.data.synthetic import events
from pipeline.data.synthetic.tasks import View
from pipeline.evaluation.surprise import folders
from pipeline.evaluation.surprise.folders import Video
from pipeline.evaluation.surprise.settings import DrawnPairs, PairData
from pipeline.weights import video_clips

Frames = NDArray[np.uint8]


class UnreadableError(Exception):
    """A video that cannot be read, and why."""


class VideoSource(Protocol):
    """A data set of pairs."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def videos(self) -> Sequence[Video]:
        """All videos, a pair's beside each other."""

    @property
    def digest(self) -> str:
        """A hash of all that the frames depend on."""

    def read(self, video: Video) -> Frames:
        """Return every `stride`-th frame, scaled to the model's size: (n,S,S,3).

        Raises:
            UnreadableError: where it cannot be read.
        """


@dataclass(frozen=True)
class DrawnSource:
    """Clips of moving digits (`pipeline.data.synthetic.events`), drawn when they are read."""

    name: str
    scenes: int
    settings: Synthetic
    clip: Clip
    split: str  # whose images of digits

    @property
    def view(self) -> View:
        """What the model sees of a clip at once."""
        return View(self.clip.frames, self.clip.stride)

    @property
    def videos(self) -> Sequence[Video]:
        return [
            Video(f"{pair}-{'possible' if possible else 'impossible'}", pair, event, possible)
            for event in events.EVENTS
            for number in range(self.scenes)
            for beginning in (0, 1)
            for pair in [f"{event}-{number:04d}-{beginning}"]
            for possible in (True, False)
        ]

    @property
    def digest(self) -> str:
        body = {
            "settings": self.settings.model_dump(mode="json", exclude={"train", "val", "test"}),
            "clip": self.clip.model_dump(mode="json"),
            "scenes": self.scenes,
            "split": self.split,
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    def read(self, video: Video) -> Frames:
        event, number, beginning = video.pair.split("-")
        kind = next(each for each in events.EVENTS if each == event)
        both = events.render(kind, self.settings, self.view, self.split, int(number))
        first, second = both if beginning == "0" else both[::-1]
        frames = first if video.possible else events.spliced(first, second)
        return _squeezed(frames[:: self.clip.stride], self.clip.size)


@dataclass(frozen=True)
class FolderSource:
    """Videos in files, or as folders of pictures; squeezed to a square."""

    name: str
    videos: Sequence[Video]
    clip: Clip
    stride: int

    @property
    def digest(self) -> str:
        files = [
            (video.id, video.possible, str(path), path.stat().st_size)
            for video in self.videos
            for path in folders.files_of(video)
        ]
        return hashlib.sha256(json.dumps([files, self.stride]).encode()).hexdigest()

    def read(self, video: Video) -> Frames:
        files = folders.files_of(video)
        if not files:
            raise UnreadableError("there is no such file")
        if folders.is_picture(files[0]):
            return _pictures(files[:: self.stride], self.clip.size)
        return self._decoded(files[0])

    def _decoded(self, path: Path) -> Frames:
        with tempfile.TemporaryDirectory() as folder:
            made, content = video_clips.shown(
                path, video_clips.decoding(self.clip), video_clips.WHOLE, Path(folder)
            )
        if made.outcome is not Outcome.OK:
            raise UnreadableError(f"{made.outcome}: {made.reason}")
        chosen = np.arange(0, made.frames, self.stride)
        shape = (made.frames, made.height, made.width)
        try:
            return _squeezed(decoders.read(content, chosen, shape), self.clip.size)
        except decoders.DecodeError as error:
            raise UnreadableError(str(error)) from None


def open_source(params: Params, data: PairData, stride: int) -> VideoSource | str:
    """Return a data set's videos; or why they cannot be had.

    Raises:
        UserError: where a folder is missing, or holds no such data set.
    """
    if isinstance(data, DrawnPairs):
        if params.data.synthetic is None:
            return f"data set {params.data.name!r} is not drawn"
        split = "test" if params.evaluation.test else "val"
        clip = params.data.clip.model_copy(update={"stride": stride})
        return DrawnSource(data.name, data.scenes, params.data.synthetic, clip, split)
    return FolderSource(data.name, folders.videos(data), params.data.clip, stride)


def _pictures(paths: Sequence[Path], size: int) -> Frames:
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except (OSError, SyntaxError, ValueError) as error:  # what PIL raises for damaged files
            raise UnreadableError(f"{path.name}: {error}") from None
    if len({frame.shape for frame in frames}) > 1:
        raise UnreadableError("its pictures differ in size")
    return _squeezed(np.stack(frames), size)


def _squeezed(frames: Frames, size: int) -> Frames:
    return crops.cut(frames, crops.Window(0, 0, *frames.shape[1:3]), size)
