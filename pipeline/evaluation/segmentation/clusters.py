"""From the tokens of one clip to segments: k-means, as TimeTuning clusters them.

Salehi et al. 2023, "Time Does Tell: Self-Supervised Time-Tuning of Dense Image Representations",
and its public evaluation: every dimension of the tokens is standardised, the first principal
components are kept and scaled up bilinearly to the resolution of the masks, and their pixels are
clustered. All of it within one clip, so that no clip's score depends on another one.

Shapes: t, h, w tubes of a clip along time and space, D width of a token, T frames, R resolution.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from torch import from_numpy
from torch.nn import functional

from pipeline.configuration.schema import Segmentation

Labels = NDArray[np.int64]


def segment(
    tokens: NDArray[np.float32],
    frames: int,
    resolution: int,
    clusters: Sequence[int],
    settings: Segmentation,
) -> list[Labels]:
    """Divide a clip's pixels into as many segments as `clusters` says, once for each number.

    Args:
        tokens: (t, h, w, D); the tubes of one moment cover `frames / t` frames each.
        frames: T, a multiple of t.
        resolution: R.
        clusters: at least 1 each.
        settings: components, restarts, iterations and seed.

    Returns:
        For each number of clusters the segments (T, R, R), numbered from 0.
    """
    pixels = dense(tokens, resolution, settings.components)
    moments = len(tokens)
    segments = []
    for count in clusters:
        # The frames of a tube have the same features: to leave the repetitions out changes no
        # mean, and so no segment.
        kmeans = KMeans(
            count,
            n_init=settings.restarts,
            max_iter=settings.iterations,
            random_state=settings.seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct pixels than means
            labels = kmeans.fit_predict(pixels.reshape(-1, pixels.shape[-1]))
        maps = labels.astype(np.int64).reshape(moments, resolution, resolution)
        segments.append(np.repeat(maps, frames // moments, axis=0))
    return segments


def dense(tokens: NDArray[np.float32], resolution: int, components: int) -> NDArray[np.float64]:
    """Return (t, R, R, C) from tokens (t, h, w, D): standardised, C components, scaled up.

    C is `components`, or less where the clip has fewer tokens or the tokens fewer dimensions.
    """
    t, h, w, width = tokens.shape
    flat = StandardScaler().fit_transform(tokens.reshape(-1, width).astype(np.float64))
    with np.errstate(invalid="ignore"):  # of equal tokens no component explains a share
        kept = PCA(min(components, *flat.shape), svd_solver="full").fit_transform(flat)
    maps = from_numpy(kept.reshape(t, h, w, -1)).permute(0, 3, 1, 2)
    scaled = functional.interpolate(maps, (resolution, resolution), mode="bilinear")
    # Float64 stays: scikit-learn's k-means would convert float32 back and forth at each start.
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).numpy())
