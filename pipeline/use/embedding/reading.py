"""Videos as clips for an encoder, read by processes beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from pipeline.data.load.workers import load_in_order
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file
from pipeline.use.embedding.videos import VideoSource
from pipeline.weights import video_clips
from pipeline.weights.video_clips import ClipRequest, DecodedClips


@dataclass
class DecodedVideo:
    """One video as a worker hands it over."""

    sha256: str
    clips: DecodedClips | None  # None: its features are there already


@dataclass
class VideoClips(Dataset[DecodedVideo]):
    """Place of a video -> its clips."""

    videos: Sequence[VideoSource]
    request: ClipRequest
    known: Mapping[str, str]  # id -> digest of the video whose features are there
    scratch: Path

    def __getitem__(self, place: int) -> DecodedVideo:
        video = self.videos[place]
        try:
            sha256 = sha256_file(video.path) if video.path.is_file() else ""
        except OSError as error:  # a disk's error, no permission
            reason = error.strerror or type(error).__name__
            return DecodedVideo("", DecodedClips(Outcome.FORBIDDEN, reason))
        if sha256 and self.known.get(video.id) == sha256:
            return DecodedVideo(sha256, None)
        return DecodedVideo(
            sha256, video_clips.decode_clips(video.path, self.request, video.segment, self.scratch)
        )


def read_in_order(videos: VideoClips, workers: int) -> Iterator[DecodedVideo]:
    """Yield the videos in their order, read by `workers` processes, or by this one without any.

    Raises:
        UserError: where one of the processes is killed.
    """
    try:
        yield from load_in_order(videos, range(len(videos.videos)), workers)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a process that reads videos was killed; what is done is kept",
            remedy="run the same command again; with fewer --workers where memory was short",
        ) from None
