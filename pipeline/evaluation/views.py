"""Multi-view testing: a fine-tuned network's answers to several views of each clip, averaged.

`segments` x `crops` views (Tong et al. 2022: 2 x 3 with one frame of each of 16 segments for
Something-Something, 5 x 3 dense ones for Kinetics); probabilities are averaged, not logits.

Shapes: n clips, V views, C classes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from pipeline.evaluation import rows
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.finetune_loss import Kind
from pipeline.evaluation.metrics import average
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.runtime.store import Store
from pipeline.weights.classifier import Classifier


def predict(
    classifier: Classifier,
    kind: Kind,
    clips: Clips,
    options: ExecutionOptions,
    store: Store | None = None,
) -> NDArray[np.float32]:
    """Return the answers (n, C): the mean over views of what `kind` makes of the logits.

    `single`: the logarithm of the mean softmax; `multi`: the mean sigmoid; `regression`: the mean
    of the values. With a `store` an interrupted call goes on; it is removed at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = store or Store(Path(folder) / "answers", {})
        answers = rows.compute(classifier, clips, store, options, classifier.encoder.grid.count)
        logits = answers.stacked(clips.views, classifier.head.out_features).astype(np.float64)
        store.remove()
    if kind == "single":
        return average(logits)
    values = expit(logits) if kind == "multi" else logits
    return np.asarray(values.mean(axis=1), dtype=np.float32)
