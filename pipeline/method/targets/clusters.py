"""The cluster of a frozen network's feature as a tube's target (ClusterFit, Yan et al. 2020).

Clusters are found once, before training (`training.clustering`). Which one a tube belongs to is
decided anew whenever it is seen, by the nearest centroid of its feature: crops and flips move
tubes, so that no stored number would be that of the tube seen.

Shapes: B clips, N tubes of a clip, M predicted ones, P pixel values of a tube, D of a feature,
K clusters.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from pipeline.method.frozen_network import tensors_digest
from pipeline.method.pixels import to_device
from pipeline.method.targets import ClustersTarget
from pipeline.method.targets.frozen import FrozenFeatures
from pipeline.method.targets.network import TargetNetwork
from pipeline.method.tubes import TubeGrid


class ClusterTargets(TargetNetwork):
    """Targets B,M,K: 1 at the tube's cluster, 0 elsewhere."""

    frozen = True
    centroids: Tensor  # K,D; empty until they are found

    def __init__(self, settings: ClustersTarget, grid: TubeGrid, *, load: bool = True) -> None:
        super().__init__()
        features = settings.features.build(grid, load=load)
        if not isinstance(features, FrozenFeatures):
            raise TypeError(f"target {settings.features.kind!r} has no frozen network")
        self.features, self.width = features, settings.clusters
        self.register_buffer("centroids", torch.empty(0), persistent=False)

    def use(self, centroids: Tensor) -> None:
        """Take centroids K,D, in the space of the features."""
        self.centroids = to_device(centroids, self.centroids.device)
        digests = f"{self.features.digest} {tensors_digest({'centroids': centroids})}"
        self.digest = hashlib.sha256(digests.encode()).hexdigest()

    @torch.no_grad()
    def forward(self, tubes: Tensor, predicted: Tensor) -> Tensor:
        """Targets of the predicted tubes, float32."""
        features = self.features(tubes, predicted)
        targets = tubes.new_zeros(*predicted.shape, self.width, dtype=torch.float32)
        if tubes.is_meta:
            return targets
        if not len(self.centroids):
            raise RuntimeError("this model was built without its clusters' centroids")
        return targets.scatter_(-1, nearest(features, self.centroids)[..., None], 1)


def nearest(features: Tensor, centroids: Tensor) -> Tensor:
    """The number, int64 ..., of the centroid K,D that is nearest to each feature ...,D."""
    with torch.autocast(features.device.type, enabled=False):
        points = centroids.float()
        distances = points.square().sum(1) - 2 * features.float() @ points.T
    return distances.argmin(-1)
