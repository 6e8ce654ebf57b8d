"""Clips on which an exported model is compared with the one that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.configuration import composition
from pipeline.configuration.schema import Clip
from pipeline.data import synthetic
from pipeline.data.load import crops
from pipeline.data.load.evaluation_clips import centred_view, evaluation_batches
from pipeline.data.shards.index import DatasetIndex
from pipeline.method.pixels import normalise
from pipeline.weights.video_clips import ClipRequest, decoding, usable_clips

DRAWN = 2  # videos of the embedded data set
TAKEN = 4  # clips of the model's own data set


def clips(videos: Sequence[Path], clip: Clip, data: DatasetIndex | None) -> tuple[Tensor, str]:
    """Return normalised clips (B,3,T,H,W) and what they are, in words.

    They are of these videos; where there are none, of the data set that the model was trained on,
    if it is here; else drawn as the embedded data set draws them.

    Raises:
        UserError: where a video cannot be used.
    """
    if not videos and data is not None and (entries := data.clips(sorted(data.splits))):
        chosen = entries[:: max(1, len(entries) // TAKEN)][:TAKEN]
        batch = next(evaluation_batches(chosen, clip, centred_view(clip), TAKEN))
        return normalise(batch.videos[:, 0]), f"{len(chosen)} clips of {data.name}"
    if not videos:
        return _drawn(clip), f"{DRAWN} videos of the embedded data set"
    request = ClipRequest(clip, decoding(clip))
    pixels = np.concatenate([usable_clips(video, request).videos for video in videos])
    names = ", ".join(video.name for video in videos)
    return normalise(torch.from_numpy(pixels)), names


def _drawn(clip: Clip) -> Tensor:
    params = composition.parse(composition.compose(["experiment=tiny"]), place="")
    settings = params.data.synthetic
    assert settings is not None  # noqa: S101 - of that experiment it is set
    made = []
    for index in range(DRAWN):
        frames = synthetic.render(settings, "test", index).frames
        chosen = frames[np.linspace(0, len(frames) - 1, clip.frames).round().astype(int)]
        window = crops.along_long_side(chosen.shape[1], chosen.shape[2], 1)[0]
        made.append(crops.cut(np.ascontiguousarray(chosen), window, clip.size))
    return normalise(torch.from_numpy(np.stack(made)))
