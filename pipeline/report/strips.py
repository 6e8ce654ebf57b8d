"""What a model sees and what it does not: rows of frames of some clips, with their masks.

Shapes: B clips, T frames, H and W pixels, N tubes of a clip, M masked ones, P values of a tube.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.configuration.build import tube_grid
from pipeline.configuration.schema import Clip, Paste
from pipeline.data.load import order, pasting
from pipeline.data.load.evaluation_clips import centred_view, evaluation_batches
from pipeline.data.shards.format import ClipEntry
from pipeline.method.masks import Mask
from pipeline.method.masks.base import VISIBLE, ClipFacts, hide_all_but
from pipeline.method.pixels import denormalise, normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets.projection import Pixels
from pipeline.method.tubes import TubeGrid, gather, split_mask
from pipeline.report import pictures
from pipeline.report.models import load_with_targets
from pipeline.report.results import Results, RunResult
from pipeline.report.selection import evenly_spaced
from pipeline.runtime.pages import data_uri
from pipeline.weights import hub

CLIPS = 4  # shown
FRAMES = 8  # of each, evenly spaced
FRAME = 96  # pixels across, about
GAP = 4
SEED = 0  # of the masks that are drawn here: no run trained with exactly these
Videos = NDArray[np.uint8]  # B,T,H,W,3


@dataclass(frozen=True)
class Strip:
    """One clip: rows of frames, each a name and a `data:` address."""

    clip: str
    frames: int  # in each row
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class StripGroup:
    """Strips of the runs that hide tubes in the same way."""

    runs: tuple[str, ...]
    mask: Mask
    grid: TubeGrid
    split: str
    hidden: int  # of `grid.count` tubes
    strips: tuple[Strip, ...]

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(len(picture) for strip in self.strips for _, picture in strip.rows)


def hiding_alike(results: Results) -> list[list[RunResult]]:
    """Return the runs trained here, those together whose pictures show the same tubes hidden.

    Weights of others have neither masks nor a decoder in this experiment.
    """
    groups: dict[tuple[Mask, tuple[int, int, int], str], list[RunResult]] = {}
    for run in results.trained:
        if run.settings.weights is not None:
            continue
        objective = run.settings.objective
        is_alone = objective.mask.in_model or objective.paste is not None
        key = (objective.mask, run.settings.model.tube, run.name if is_alone else "")
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def strip_group(
    runs: Sequence[RunResult], clip: Clip, split: str, entries: Sequence[ClipEntry]
) -> StripGroup:
    """Draw a few of the clips as runs that hide tubes in the same way have them.

    Raises UserError where a clip cannot be read, or a network that decides what is hidden.
    """
    settings = runs[0].settings
    mask, grid = settings.objective.mask, tube_grid(settings.model, clip)
    chosen = evenly_spaced(entries, CLIPS)
    videos, facts = with_objects(read_videos(chosen, clip), settings.objective.paste)
    hidden = draw_masks(mask, grid, videos, _deciding(runs[0]), facts)
    rows = dict(_rows(videos, hidden, grid, runs))
    strips = tuple(
        Strip(entry.id, min(FRAMES, clip.frames), _pictures(rows, place))
        for place, entry in enumerate(chosen)
    )
    names = tuple(run.name for run in runs)
    return StripGroup(names, mask, grid, split, int(hidden[0].sum()), strips)


def _deciding(run: RunResult) -> SigmaModel | None:
    """Return the model that decides what is hidden; None where random numbers and pixels do."""
    mask = run.settings.objective.mask
    if mask.by_attention or mask.by_flow:
        return load_with_targets(run)
    return hub.load_pretraining(run.layout.weights) if mask.in_model else None


def read_videos(entries: Sequence[ClipEntry], clip: Clip) -> Videos:
    """Return the middle view of each clip."""
    batches = evaluation_batches(entries, clip, centred_view(clip), batch_size=len(entries))
    return np.concatenate([batch.videos[:, 0].numpy() for batch in batches])


def with_objects(videos: Videos, paste: Paste | None) -> tuple[Videos, Sequence[ClipFacts]]:
    """Paste objects into clips as in training, where a run does, and say where they are."""
    if paste is None:
        return videos, [ClipFacts()] * len(videos)
    keys = (order.sample_rng(SEED, 1, place) for place in range(len(videos)))
    made = [pasting.paste(video, paste, key) for key, video in zip(keys, videos, strict=True)]
    shown, boxes = zip(*made, strict=True)
    return np.stack(shown), [ClipFacts(boxes=each) for each in boxes]


@torch.inference_mode()
def draw_masks(
    mask: Mask,
    grid: TubeGrid,
    videos: Videos,
    model: SigmaModel | None = None,
    facts: Sequence[ClipFacts] | None = None,
) -> NDArray[np.bool_]:
    """Return which tubes are hidden from the encoder, B,N; of several masks of a clip the first.

    They are drawn as in training, from random numbers of their own; those that `model` decides, of
    its embeddings, by what the network of its target attends to, or by the optical flow. `facts`
    are those of each clip (`with_objects`).
    """
    keys = (order.sample_rng(SEED, 0, place) for place in range(len(videos)))
    clips = zip(keys, videos, facts or [ClipFacts()] * len(videos), strict=True)
    drawn = [mask.draw_knowing(grid.shape, key, video, fact) for key, video, fact in clips]
    masks: NDArray[Any] = np.stack(drawn)
    first = masks.reshape(len(videos), -1, masks.shape[-1])[:, 0]
    if model is not None:
        inputs = normalise(torch.from_numpy(videos))
        tubes = model.grid.split(inputs)
        split = model.split(torch.from_numpy(first), tubes, model.evidence(inputs, tubes))
        visible: NDArray[np.int64] = split.visible.numpy()
        return hide_all_but(visible, grid.count)
    hidden: NDArray[np.bool_] = first if first.dtype == np.bool_ else first & VISIBLE == 0
    return hidden


def hidden_pixels(hidden: NDArray[np.bool_], grid: TubeGrid) -> NDArray[np.bool_]:
    """Spread masks B,N over the pixels of their tubes: B,T,H,W."""
    pixels = hidden.reshape(-1, grid.frames, grid.height, grid.width)
    for axis, size in enumerate(grid.tube, start=1):
        pixels = pixels.repeat(size, axis=axis)
    return pixels


@torch.inference_mode()
def reconstruct(model: SigmaModel, videos: Videos, hidden: NDArray[np.bool_]) -> Videos:
    """Fill the hidden tubes (B,N) with what a pixel decoder predicts for them.

    Where it predicts each tube normalised, the tube's own mean and deviation bring it back, so the
    picture's brightness and contrast are given, and its structure is predicted.
    """
    inputs, mask = normalise(torch.from_numpy(videos)), torch.from_numpy(hidden)
    model = model.eval()
    target = model.target
    if not isinstance(target, Pixels):
        raise TypeError(f"a model that predicts pixels is needed, not {type(target).__name__}")
    tubes = model.grid.split(inputs)  # B,N,P
    masked = split_mask(mask)[1]  # B,M
    filled = target.restored(model(inputs, mask).decoded, gather(tubes, masked), masked)
    where = masked.unsqueeze(-1).expand_as(filled)
    pixels = denormalise(model.grid.join(tubes.scatter(1, where, filled)))
    rounded = pixels.clamp(0, 1).mul(255).round().to(torch.uint8)
    return rounded.permute(0, 2, 3, 4, 1).numpy()


def _rows(
    videos: Videos, hidden: NDArray[np.bool_], grid: TubeGrid, runs: Sequence[RunResult]
) -> Iterator[tuple[str, Videos]]:
    """Yield the name of each row and its frames B,T,H,W,3, or 4 with opacity."""
    yield "input", videos
    opaque = np.full((*videos.shape[:4], 1), 255, np.uint8)
    seen = np.concatenate([videos, opaque], axis=4)
    seen[hidden_pixels(hidden, grid)] = pictures.HIDDEN
    yield "what the encoder sees", seen
    for run in runs:
        if run.settings.objective.target.kind == "pixel":
            model = hub.load_pretraining(run.layout.weights)
            yield f"filled in by {run.name}", reconstruct(model, videos, hidden)


def _pictures(rows: dict[str, Videos], place: int) -> tuple[tuple[str, str], ...]:
    drawn = []
    for name, videos in rows.items():
        frames = evenly_spaced(list(videos[place]), FRAMES)
        row = pictures.row([pictures.fit(frame, FRAME) for frame in frames], GAP)
        drawn.append((name, data_uri(row)))
    return tuple(drawn)
