"""Multi-view testing: a fine-tuned network's answers to several views of each clip, averaged.

`segments` x `crops` views (Tong et al. 2022: 2 x 3 with one frame of each of 16 segments for
Something-Something, 5 x 3 dense ones for Kinetics); probabilities are averaged, not logits.

Letters: n clips, V views, C classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.configuration.schema import Clip, Views
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.format import ClipEntry
from pipeline.evaluation import rows
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.finetune import Kind
from pipeline.evaluation.metrics import average
from pipeline.evaluation.rows import How
from pipeline.weights.classifier import Classifier


def predict(
    classifier: Classifier,
    kind: Kind,
    entries: Sequence[ClipEntry],
    clip: Clip,
    views: Views,
    *,
    how: How,
    path: Path | None = None,
    key: Mapping[str, Any] | None = None,
    cache: ViewCache | None = None,
) -> NDArray[np.float32]:
    """Return the answers (n, C): the mean over views of what `kind` makes of the logits.

    `single`: the logarithm of the mean softmax; `multi`: the mean sigmoid; `regression`: the mean
    of the values. With `path` (of the rows, without suffix) and `key` (what they depend on) an
    interrupted call goes on; the files are removed at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = rows.compute(
            classifier,
            VideoClips(entries, clip, views, cache=cache),
            (classifier.head.out_features,),
            path=path or Path(folder) / "answers",
            key=key or {},
            how=how,
            tokens=classifier.encoder.grid.count,
        )
        logits = np.array(found.values, dtype=np.float64)
    if path is not None:
        for file in path.parent.glob(f"{path.name}.*"):
            file.unlink()
    if kind == "single":
        return average(logits)
    values = expit(logits) if kind == "multi" else logits
    return np.asarray(values.mean(axis=1), dtype=np.float32)
