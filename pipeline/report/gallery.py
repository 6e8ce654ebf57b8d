"""What the prototypes stand for: the space-time tubes nearest to some of them.

Paper, section 4.3 and its figures: a prototype is shown by the tubes whose projected features score
highest with it. Shapes: B clips of a batch, T frames, H and W pixels, N tubes of a clip, K
prototypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.configuration.schema import Clip
from pipeline.data.load.evaluation_clips import centred_view, evaluation_batches
from pipeline.data.shards.format import ClipEntry
from pipeline.method.losses import SinkhornLoss
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.sinkhorn import assign
from pipeline.method.tubes import TubeGrid
from pipeline.report import pictures
from pipeline.report.models import load_with_targets
from pipeline.report.results import Results, RunResult
from pipeline.report.selection import evenly_spaced
from pipeline.runtime.devices import choose_device
from pipeline.runtime.pages import data_uri
from pipeline.runtime.progress import Progress
from pipeline.runtime.similarity import largest

PROTOTYPES = 12  # shown of each run
NEAREST = 8  # tubes of each prototype, each from another clip
CLIPS = 256  # looked at, at most,
PIXELS = 100_000_000  # and no more than this many pixels altogether: 124 clips of 16x224x224
BATCH = 40_000_000  # scores (B x N x K) in memory at a time: 8 clips at full size
CONTEXT = 3  # tubes across the picture around a tube
PICTURE = 72  # pixels across, about
GAP = 3  # between the two frames
SPLITS = ("val", "test", "train")  # the first of these that has clips is looked at


@dataclass(frozen=True)
class NearTube:
    """A tube near a prototype; the picture has its first frame above its last one."""

    clip: str
    frame: int  # the tube's first one in the view, from 0
    last: int  # the tube's last one, from 1
    similarity: float  # cosine of the tube's projected feature and the prototype
    picture: str  # a data: address


@dataclass(frozen=True)
class Prototype:
    number: int
    share: float  # of all tubes looked at that Sinkhorn assigns to it
    tubes: tuple[NearTube, ...]


@dataclass(frozen=True)
class Gallery:
    """Some prototypes of one run, the most used first."""

    run: str
    split: str
    clips: int
    tubes: int  # in all these clips
    assigned: int  # prototypes that Sinkhorn assigns at least one tube to
    nearest: int  # prototypes that are the nearest one of at least one tube
    of: int  # K
    prototypes: tuple[Prototype, ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(len(tube.picture) for each in self.prototypes for tube in each.tubes)

    def reduced(self, count: int) -> Self:
        """Return at most `count` of the prototypes."""
        return replace(self, prototypes=tuple(evenly_spaced(self.prototypes, count)))


@dataclass(frozen=True)
class Scores:
    """How a split's tubes score: per clip and prototype the best tube."""

    videos: NDArray[np.uint8]  # B,T,H,W,3
    best: NDArray[np.float32]  # B,K
    where: NDArray[np.int64]  # B,K: number of the tube, 0 to N-1
    assigned: NDArray[np.int64]  # K: tubes that Sinkhorn assigns to each prototype
    nearest: NDArray[np.int64]  # K: tubes that are nearer to it than to any other


def choose_clips(results: Results) -> tuple[str, list[ClipEntry]]:
    """Return a split and clips spread evenly over it: the same ones at every call."""
    clip = results.params.data.clip
    limit = max(1, min(CLIPS, PIXELS // (clip.frames * clip.size**2)))
    names = [*SPLITS, *sorted(set(results.index.splits) - set(SPLITS))]
    if not results.params.evaluation.test:
        names.remove("test")
    split = next(name for name in names if results.index.splits.get(name))
    return split, evenly_spaced(results.index.clips([split]), limit)


def gallery(run: RunResult, clip: Clip, split: str, entries: Sequence[ClipEntry]) -> Gallery:
    """Score all tubes of these clips with the run's prototypes, and draw the nearest ones."""
    model = load_with_targets(run)
    scores = score(model, run, clip, entries)
    used = largest(scores.assigned, int(np.count_nonzero(scores.assigned)))
    total = int(scores.assigned.sum())
    shown = [
        Prototype(
            number=int(k),
            share=float(scores.assigned[k] / total),
            tubes=tuple(_nearest(scores, int(k), model.grid, entries)),
        )
        for k in evenly_spaced(used.tolist(), PROTOTYPES)
    ]
    return Gallery(
        run=run.name,
        split=split,
        clips=len(entries),
        tubes=total,
        assigned=len(used),
        nearest=int(np.count_nonzero(scores.nearest)),
        of=len(scores.nearest),
        prototypes=tuple(shown),
    )


def score(model: SigmaModel, run: RunResult, clip: Clip, entries: Sequence[ClipEntry]) -> Scores:
    """Score the clips' tubes, keeping per clip and prototype the best one: memory stays small.

    As in training, Sinkhorn spreads the tubes of a batch; here of all tubes, not of masked ones.
    """
    device = choose_device()
    model = model.to(device).eval()
    loss = run.settings.objective.loss
    assert isinstance(loss, SinkhornLoss)  # noqa: S101 - has_prototypes
    per_clip = model.grid.count * loss.prototypes
    batch_size = max(1, min(run.settings.trainer.batch_size, BATCH // per_clip))
    batches = evaluation_batches(entries, clip, centred_view(clip), batch_size)
    videos, best, where = [], [], []
    counts = torch.zeros(2, loss.prototypes, dtype=torch.int64)
    label = f"prototypes {run.name}"
    with torch.inference_mode(), Progress(label, len(entries), "clips") as progress:
        for batch in batches:
            seen = batch.videos[:, 0]  # B,T,H,W,3
            scores = model.tube_scores(normalise(seen.to(device))).float()  # B,N,K
            flat = scores.flatten(0, 1)
            assigned = assign(flat, loss.epsilon, loss.iterations)
            for row, numbers in zip(counts, (assigned, flat.argmax(1)), strict=True):
                row += numbers.bincount(minlength=flat.shape[1]).cpu()
            highest = scores.max(dim=1)
            videos.append(seen.numpy())
            best.append(highest.values.cpu().numpy())
            where.append(highest.indices.cpu().numpy())
            progress.advance(len(seen))
    return Scores(
        np.concatenate(videos), np.concatenate(best), np.concatenate(where), *counts.numpy()
    )


def _nearest(
    scores: Scores, prototype: int, grid: TubeGrid, entries: Sequence[ClipEntry]
) -> list[NearTube]:
    order = largest(scores.best[:, prototype], NEAREST)
    tubes = []
    for place in order.tolist():
        number = int(scores.where[place, prototype])
        picture = draw_tube(scores.videos[place], number, grid)
        frame = number // (grid.height * grid.width) * grid.tube[0]
        tubes.append(
            NearTube(
                clip=entries[place].id,
                frame=frame,
                last=frame + grid.tube[0],
                similarity=float(scores.best[place, prototype]),
                picture=data_uri(picture),
            )
        )
    return tubes


def draw_tube(video: NDArray[np.uint8], number: int, grid: TubeGrid) -> pictures.Picture:
    """Draw tube `number` of a clip T,H,W,3, outlined, with a tube's width around it.

    Returns its first frame above its last one, transparent between them. At the clip's edge the
    part of the frame shown is moved inwards.
    """
    frames, height, width = grid.tube
    t, place = divmod(number, grid.height * grid.width)
    y, x = divmod(place, grid.width)
    high, wide = min(CONTEXT * height, video.shape[1]), min(CONTEXT * width, video.shape[2])
    top = min(max(0, (y - 1) * height), video.shape[1] - high)
    left = min(max(0, (x - 1) * width), video.shape[2] - wide)
    drawn = []
    for frame in (t * frames, (t + 1) * frames - 1):
        part = pictures.fit(video[frame, top : top + high, left : left + wide], PICTURE)
        scale = part.shape[1] / wide
        box = (y * height - top, x * width - left, height, width)
        top_, left_, high_, wide_ = (round(scale * side) for side in box)
        drawn.append(pictures.outlined(part, (top_, left_, high_, wide_)))
    return pictures.stack(drawn, GAP)
