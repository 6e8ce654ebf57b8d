"""Online evaluation: what the features of an encoder are worth while it is trained.

Every `trainer.probe_every` steps, before the first and after the last one, a copy of the encoder
looks at a few fixed clips (`probe_clips`), each whole and in its centred view, which is sampled as
in training. Features are the mean over tubes, or over those that change (`probe_drop_tubes`), as in
evaluation.

- `knn_LABEL`: share of clips whose class the `K` nearest neighbours name, weighted by cosine.
- `rankme`: the effective rank of the features (Garrido et al., "RankMe", ICML 2023).

Training does not notice. The copy has the weights that would be written at this step (averaged ones
where there are such), which any engine gathers on rank 0; rank 0 computes, the others wait. No
random number of the training is drawn.

Shapes: n clips that are asked about, m that answer, D width of the encoder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.configuration import build
from pipeline.configuration.schema import Clip, Run
from pipeline.data.load.evaluation_clips import centred_view, evaluation_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.shards.format import ClipEntry
from pipeline.errors import UserError
from pipeline.method.pixels import normalise, to_device
from pipeline.method.pooling import Pooled
from pipeline.method.vit import Encoder
from pipeline.runtime.similarity import nearest, unit, vote_shares
from pipeline.training.engines import Engine
from pipeline.training.logs import KNN, RANKME
from pipeline.training.probe_clips import ProbeClips

K = 10  # neighbours
TEMPERATURE = 0.07  # of their votes, as in evaluation
BATCH = 32  # clips at once

Names = NDArray[np.str_]


@dataclass
class OnlineEvaluation:
    """Scores the encoder of a run that is being trained, on always the same clips."""

    run: Run
    clip: Clip
    clips: ProbeClips

    def scores(self, engine: Engine) -> dict[str, float]:
        """Return the scores of the weights as they are now, by their keys in the log.

        All processes call this together. Raises UserError where no clip can be read.
        """
        weights = engine.full_weights(averaged=True)
        return engine.ranks.on_rank_zero(lambda: self._scores(weights or {}, engine))

    def record(self) -> dict[str, Any]:
        """Return what `pretrain.json` says of the clips, and of what guessing would give."""
        queries, clips = self.clips.queries, self.clips
        return {
            "split": clips.split,
            "clips": len(queries),
            "train_clips": len(clips.gallery or queries) - (not clips.gallery),
            "labels": {label: _guessing(queries, label) for label in clips.labels},
        }

    def _scores(self, weights: dict[str, Tensor], engine: Engine) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]):  # a new encoder, and loader processes, draw from it
            self._encoder.to(engine.device).load_state_dict(_of_encoder(weights))
            queries = self._features(self._queries, engine)
            gallery = self._features(self._gallery, engine) if self.clips.gallery else None
        scores = {RANKME: effective_rank(queries)}
        for label in self.clips.labels:
            truth = _truth(self._queries, label)
            others = None if gallery is None else _truth(self._gallery, label)
            share = knn_top1(queries, truth, gallery, others)
            if share is not None:
                scores[f"{KNN}{label}"] = share
        return scores

    @cached_property
    def _encoder(self) -> Encoder:
        return build.encoder(self.run.model, self.clip).eval()

    @cached_property
    def _queries(self) -> Videos:
        return self._read(self.clips.queries)

    @cached_property
    def _gallery(self) -> Videos:
        return self._read(self.clips.gallery)

    def _read(self, entries: Sequence[ClipEntry]) -> Videos:
        """Decode clips once, without those that cannot be read: they stay in memory as bytes."""
        trainer = self.run.trainer
        options = LoaderOptions(workers=trainer.workers, decoder=trainer.decoder)
        view = centred_view(self.clip)
        batches = [
            *evaluation_batches(entries, self.clip, view, BATCH, options, on_failure="report")
        ]
        if not any(batch.ids for batch in batches):
            raise UserError(
                f"none of the {len(entries)} clips of online evaluation can be read",
                place=str(entries[0].shard),
                remedy="make this data set's shards anew, or set trainer.probe_every=0",
            )
        labels = {entry.id: entry.labels for entry in entries}
        return Videos(
            torch.cat([batch.videos[:, 0] for batch in batches]),
            [labels[name] for batch in batches for name in batch.ids],
        )

    def _features(self, videos: Videos, engine: Engine) -> NDArray[np.float64]:
        """Return the mean over tubes of each clip, or of those that change most: (n, D)."""
        network = Pooled(self._encoder, self.run.trainer.probe_drop_tubes)
        parts = []
        with torch.inference_mode(), engine.precision.autocast():
            for part in videos.pixels.split(BATCH):  # type: ignore[no-untyped-call]
                parts.append(network(normalise(to_device(part, engine.device))).cpu())
        return torch.cat(parts).double().numpy()


@dataclass(frozen=True)
class Videos:
    """Decoded clips, uint8 (n, T, H, W, 3), and the labels of each."""

    pixels: Tensor
    labels: Sequence[dict[str, str]]


def _of_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "encoder."
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def _truth(videos: Videos, label: str) -> Names:
    """Return the class of each clip, (n,); "" where it has none."""
    return np.array([each.get(label, "") for each in videos.labels], np.str_)


def _guessing(entries: Sequence[ClipEntry], label: str) -> dict[str, float]:
    counts = Counter(entry.labels[label] for entry in entries if entry.labels.get(label))
    majority = max(counts.values(), default=0) / max(1, counts.total())
    return {"classes": len(counts), "majority": round(majority, 4)}


def effective_rank(features: NDArray[np.float64]) -> float:
    """Return RankMe of features (n, D): from 1 (all alike) to the smaller of n and D.

    The exponential of the entropy of the singular values' shares of their sum (Garrido et al. 2023,
    equations 1 and 2), of features as they are, not centred.
    """
    values = np.linalg.svd(features, compute_uv=False)
    shares = values / max(float(values.sum()), 1e-12) + 1e-7
    return float(np.exp(-(shares * np.log(shares)).sum()))


def knn_top1(
    queries: NDArray[np.float64],
    truth: Names,
    gallery: NDArray[np.float64] | None,
    gallery_truth: Names | None,
) -> float | None:
    """Return the share of queries (n, D) whose class the nearest of a gallery (m, D) vote for.

    Without a gallery each query is compared with the others. Clips whose class is "" are left out;
    None where there is no query left, or nothing to compare it with.
    """
    rows = unit(queries)[truth != ""]
    truth = truth[truth != ""]
    if gallery is None or gallery_truth is None:
        if len(rows) < 2:
            return None
        classes, columns = np.unique(truth, return_inverse=True)
        places, cosines = _without_itself(*nearest(rows, rows, min(K + 1, len(rows))))
    else:
        others = unit(gallery)[gallery_truth != ""]
        if not len(rows) or not len(others):
            return None
        classes, columns = np.unique(gallery_truth[gallery_truth != ""], return_inverse=True)
        places, cosines = nearest(rows, others, K)
    shares = vote_shares(columns[places], cosines, len(classes), TEMPERATURE)
    return float((classes[shares.argmax(axis=1)] == truth).mean())


def _without_itself(
    places: NDArray[np.intp], cosines: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Leave the n-th row out of the neighbours of the n-th row, or else the farthest of them."""
    itself = places == np.arange(len(places))[:, None]
    order = np.argsort(itself, axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(cosines, order, axis=1)
