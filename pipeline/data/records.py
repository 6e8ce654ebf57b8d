"""What became of every clip, and the small manifests that join the stages.

A stage writes its bulk output first and its `ChunkManifest` last. The next stage reads the
manifest and nothing else to learn which clips there are (DESIGN decisions 1 to 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import UserError
from pipeline.runtime.files import read_json, write_json


class Outcome(StrEnum):
    """How a clip ended. Everything but OK is a loss, and is counted in the census."""

    OK = "ok"
    MISSING = "missing"  # no such file, HTTP 404 or 410
    UNREACHABLE = "unreachable"  # the server did not answer, after every retry
    THROTTLED = "throttled"  # the server asked us to come back later
    FORBIDDEN = "forbidden"  # the server refuses: 401, 403, private, region
    HASH_MISMATCH = "hash_mismatch"  # the bytes are not the ones the manifest promises
    NOT_A_VIDEO = "not_a_video"  # empty, a web page, a text file
    NO_VIDEO_STREAM = "no_video_stream"  # a media file without pictures
    CORRUPT = "corrupt"  # damaged: cannot be decoded, or only in part
    TOO_SHORT = "too_short"  # fewer frames than `decode.min_frames`
    TIMED_OUT = "timed_out"  # took longer than the configured limit and was killed
    FAILED = "failed"  # anything else; the reason says what


class ClipRecord(BaseModel):
    """One clip after one stage. `file` is relative to the data set's folder."""

    model_config = ConfigDict(extra="forbid")

    id: str
    outcome: Outcome
    reason: str = ""  # for people: one line, no path of this machine
    stage: str = ""  # the stage that decided the outcome, when it is not `ok`
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    frames: int = 0  # counted, not believed (after decode)
    fps: float = 0.0
    width: int = 0
    height: int = 0
    split: str = "train"
    labels: dict[str, str] = Field(default_factory=dict)
    source: str = ""  # where the clip came from, as the manifest gives it
    start: float | None = None  # seconds: the part of the source that is wanted
    end: float | None = None


class ChunkManifest(BaseModel):
    """Everything that a stage says of one chunk."""

    model_config = ConfigDict(extra="forbid")

    stage: str
    chunk: int
    clips: list[ClipRecord]

    @property
    def counts(self) -> dict[str, int]:
        return census(self.clips)

    def write(self, path: Path) -> None:
        body = self.model_dump(mode="json", exclude_defaults=True)
        write_json(path, body | {"counts": self.counts})

    @classmethod
    def read(cls, path: Path) -> ChunkManifest:
        """Read a chunk manifest; `UserError` where the stage that writes it has not run."""
        try:
            body = read_json(path)
        except FileNotFoundError:
            raise UserError(
                "the stage before this one has not run for this chunk",
                place=str(path),
                remedy="snakemake --cores all runs the stages in order",
            ) from None
        body.pop("counts", None)
        return cls.model_validate(body)


def census(clips: Iterable[ClipRecord]) -> dict[str, int]:
    """Count outcomes, those that occur, in the order of `Outcome`."""
    return in_order(Counter(clip.outcome for clip in clips))


def in_order(counts: Mapping[Outcome, int]) -> dict[str, int]:
    """Return the outcomes that occur, in the order of `Outcome`."""
    return {outcome.value: counts[outcome] for outcome in Outcome if counts.get(outcome)}
