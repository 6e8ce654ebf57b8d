"""Which videos of a file of features are most like one of them, or like another video.

Features are compared by the cosine between them, as in the k-NN evaluation. A video with several
clips is asked for by their mean, and found by the one that is most like it.

Shapes: n rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.runtime import similarity
from pipeline.use.embedding import features_file
from pipeline.use.embedding.features_file import Features

if TYPE_CHECKING:
    from pipeline.weights.video_model import VideoModel


@dataclass(frozen=True)
class Moment:
    """A part of a video, in seconds."""

    id: str
    path: str
    start: float
    end: float
    label: str = ""


@dataclass(frozen=True)
class Query:
    """What is asked for: its moments, and one vector (D,)."""

    moments: tuple[Moment, ...]
    vector: NDArray[np.float32]
    in_file: bool  # it is a video of the file, so not a neighbour of its own

    @property
    def name(self) -> str:
        return self.moments[0].id


@dataclass(frozen=True)
class Hit:
    """One neighbour; `similarity` is a cosine."""

    rank: int
    similarity: float
    moment: Moment


def by_id(features: Features, clip_id: str) -> Query:
    """Ask for a video of the file. Raises UserError where there is none of this id."""
    places = list(features_file.rows_of(features, clip_id))
    if not places:
        some = ", ".join(dict.fromkeys(features.columns["id"][:3]))
        raise UserError(
            f"there is no video {clip_id!r}, neither among the features nor as a file",
            place="--query",
            remedy=f"give a file, or an id such as {some} ({len(features)} rows)",
        )
    moments = tuple(moment(features, place) for place in places)
    return Query(moments, features_file.pooled(features)[places].mean(0), in_file=True)


def by_video(features: Features, video: Path, model: VideoModel) -> Query:
    """Ask for a video that is a file: it is looked at as those of the file of features were.

    Raises:
        UserError: where the checkpoint is another one, or the video cannot be used.
    """
    import torch

    from pipeline.configuration.schema import Clip
    from pipeline.method.pixels import normalise
    from pipeline.weights.video_clips import ClipRequest, decoding, usable_clips

    about = features.about
    if model.sha256 != about.checkpoint["sha256"]:
        raise UserError(
            "the features are of another checkpoint",
            place=f"{model.origin.path} has SHA-256 {model.sha256[:16]}..., the features are of "
            f"{about.checkpoint['sha256'][:16]}...",
            remedy="give the checkpoint that they were made with: --checkpoint",
        )
    settings = about.settings
    clip = Clip(**settings["clip"], scales=(1.0,), flip=False)
    request = ClipRequest(clip, decoding(clip, **settings["decode"]), settings["clips"])
    decoded = usable_clips(video, request)
    with torch.inference_mode():
        videos = normalise(torch.from_numpy(decoded.videos))
        per_tube = bool(settings["per_tube"])
        vectors = model.tokens(videos).float().mean(1) if per_tube else model.pooled(videos)
    spans = decoded.spans.tolist()
    moments = tuple(Moment(video.name, str(video), start, end) for start, end in spans)
    return Query(moments, vectors.float().mean(0).numpy(), in_file=False)


def nearest(features: Features, query: Query, count: int) -> list[Hit]:
    """Return the `count` videos most like the query, the most alike first; of each its best clip.

    Equally similar ones keep the order of the file.
    """
    rows = similarity.unit(features_file.pooled(features))
    places, cosines = similarity.nearest(similarity.unit(query.vector[None]), rows, len(rows))
    seen = {query.name} if query.in_file else set()
    hits: list[Hit] = []
    for place, cosine in zip(places[0].tolist(), cosines[0].tolist(), strict=True):
        if len(hits) == count:
            break
        if (row := moment(features, place)).id not in seen:
            seen.add(row.id)
            hits.append(Hit(len(hits) + 1, cosine, row))
    return hits


def moment(features: Features, place: int) -> Moment:
    """Return which part of which video a row is."""
    names = ("id", "path", "start", "end", "label")
    return Moment(*(features.columns[name][place] for name in names))
