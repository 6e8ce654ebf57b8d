"""Made-up features with a signal of known strength, for tests of the probes."""

from __future__ import annotations

import numpy as np

from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import task

SIZES = {"train": 300, "val": 90, "test": 200}


def problem(
    signal: float,
    *,
    seed: int = 0,
    classes: int = 4,
    width: int = 12,
    sizes: dict[str, int] | None = None,
) -> task.Task:
    """Return a task: one Gaussian per class, means `signal` deviations from the origin."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, width))
    means *= signal / np.linalg.norm(means, axis=1, keepdims=True)
    features, labels = {}, {}
    for split, n in (sizes or SIZES).items():
        truth = np.arange(n) % classes
        ids = tuple(f"{split}-{k}" for k in range(n))
        values = means[truth] + rng.normal(size=(n, width))
        features[split] = SplitFeatures(ids, values.astype(np.float32)[:, None])
        labels |= {clip: {"kind": f"class {k}"} for clip, k in zip(ids, truth, strict=True)}
    built = task.build("kind", labels, features)
    assert isinstance(built, task.Task), built
    return built


def shuffled(part: task.Labelled, seed: int) -> task.Labelled:
    """Return the same clips with each other's labels."""
    truth = np.random.default_rng(seed).permutation(part.truth)
    return task.Labelled(part.ids, part.features, truth)
