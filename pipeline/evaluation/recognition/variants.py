"""One probe of clips as they are, asked about test clips as they are and altered.

Shapes: n clips, V views, D width of the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.configuration.schema import LinearProbe
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.metrics import top_k
from pipeline.evaluation.recognition import linear
from pipeline.evaluation.recognition.task import Labelled, Task


def some(ids: Sequence[str], count: int | None) -> set[str]:
    """Return `count` of the ids, those with the smallest hashes; all where there are no more."""
    return set(sorted(ids, key=lambda clip: hashlib.sha256(clip.encode()).hexdigest())[:count])


def top1_of(
    asked: Task, variants: Mapping[str, SplitFeatures], settings: LinearProbe
) -> list[float]:
    """Return top-1 on the test clips as they are, then in each variant, by one probe.

    The probe is that of recognition: chosen on val, and learned from train clips as they are.
    """
    parts = [asked.test]
    for variant in variants.values():
        rows = dict(zip(variant.ids, variant.values, strict=True))
        values = np.stack([rows[str(clip)] for clip in asked.test.ids])
        parts.append(replace(asked.test, features=values))
    answer = linear.predict(replace(asked, test=joined(parts)), settings)
    rankings = np.split(answer.ranking, len(parts))
    return [top_k(ranking, asked.test.truth, 1) for ranking in rankings]


def joined(parts: Sequence[Labelled]) -> Labelled:
    """Put the clips of several parts one after the other."""
    return Labelled(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.truth for part in parts]),
    )
