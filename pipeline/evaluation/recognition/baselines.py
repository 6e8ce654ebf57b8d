"""How far a label is told by grey pixels alone: of the middle frame, and of frame differences.

Two rows beside the scores of every encoder, by the same linear probe on the same clips. Features
that do not beat the differences have learned little about motion.

Shapes: b clips, T frames, H height, W width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import LinearProbe, Params
from pipeline.evaluation import features
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition.probes import Labels, Subject, probe_all, probes
from pipeline.method.pixels import denormalise
from pipeline.runtime import claims

SIDE = 12  # pixels of a grey map
BINS = 4  # of time, of the differences
MIDDLE_FRAME, DIFFERENCES = "middle frame", "frame differences"
GREY = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601)
PROBE = LinearProbe(inverse_regularisation=(0.0003, 0.003, 0.03), max_iterations=200)
PARTS = {MIDDLE_FRAME: slice(SIDE**2), DIFFERENCES: slice(SIDE**2, None)}  # of the maps
CODE = ("pipeline.evaluation.recognition.baselines", "pipeline.evaluation.features")


class GreyMaps(nn.Module):
    """The middle frame, and mean absolute differences in a few bins of time, as small grey maps."""

    width = (1 + BINS) * SIDE**2

    def forward(self, videos: Tensor) -> Tensor:
        """Return (b, width) of normalised videos (b, 3, T, H, W): the middle frame comes first."""
        grey = torch.einsum("bcthw,c->bthw", denormalise(videos), videos.new_tensor(GREY))
        middle = functional.adaptive_avg_pool2d(grey[:, grey.shape[1] // 2], SIDE)
        differences = grey.diff(dim=1).abs() if grey.shape[1] > 1 else grey * 0
        maps = functional.adaptive_avg_pool3d(differences.unsqueeze(1), (BINS, SIDE, SIDE))
        return torch.cat((middle.flatten(1), maps.flatten(1)), dim=1)


def scores(
    params: Params, subject: Subject, labels: Labels, lost: Mapping[str, str], split: str
) -> list[dict[str, Any]]:
    """Return a row per baseline, label and split, as the linear probe's of an encoder.

    The same for every run on these clips: made by the first of them, and kept beside the data set.

    Args:
        params: their data and evaluation.
        subject: an encoder on these clips.
        labels: of every clip.
        lost: split of every lost clip, by id.
        split: the one that is scored; `val` is scored beside it.
    """
    columns = params.data.labels
    if not any(labels[clip].get(column) for clip in labels for column in columns):
        return []
    key = {k: value for k, value in subject.key.items() if k not in ("weights", "pooling")}
    key["code"] = stages.modules_sha256(*CODE)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = DataLayout(params.data.name).baselines(digest)
    options = replace(subject.options, label=f"{subject.options.label}, baselines")
    settings = params.evaluation.model_copy(
        update={"linear": PROBE, "attentive": None, "knn": None, "finetune": None}
    )
    rows = []
    with claims.held(path):
        maps = features.computed(
            GreyMaps(), GreyMaps.width, subject.splits, path=path, key=key, options=options
        )
        for name, columns_of_maps in PARTS.items():
            found = {part: _only(each, columns_of_maps) for part, each in maps.items()}
            folder = path.with_suffix("") / name.replace(" ", "_")
            grey = replace(subject, features=found, key=key, folder=folder, options=options)
            results = probe_all(columns, labels, found, lost, probes(settings, grey), split=split)
            both = [*results.scores, *results.validation]
            rows += [{"baseline": name, **row.model_dump(mode="json")} for row in both]
    return rows


def _only(part: SplitFeatures, columns: slice) -> SplitFeatures:
    return replace(part, values=part.values[..., columns])
