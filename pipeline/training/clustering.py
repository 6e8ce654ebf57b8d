"""Clusters of features as targets: k-means over tubes of the training clips, once before training.

Centroids lie beside the run under a key of all that decides them, so that a training that goes on
finds them there; one that was killed before makes the same ones again. Tubes are those of crops
that training would see in its first steps, some of each clip, drawn for each clip from the seed:
neither the number of processes nor that of workers changes which.

Shapes: S sampled tubes, D values of a feature, K clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.configuration.layout import RunLayout
from pipeline.data.load.loader import PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.data.load.order import total_steps, tubes_rng
from pipeline.errors import UserError
from pipeline.method.pixels import normalise
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import ClustersTarget
from pipeline.method.targets.clusters import ClusterTargets
from pipeline.runtime.checkpoint_sets import fingerprint
from pipeline.runtime.devices import fast_fp32
from pipeline.runtime.files import atomic_path, sha256_file
from pipeline.training.context import RunContext

Samples = npt.NDArray[np.float32]
CHUNK = 4096  # tubes, or four for each cluster, that k-means takes at a time


def hand_over(model: SigmaModel, context: RunContext) -> None:
    """Give a model whose targets are clusters their centroids: known ones, or new ones.

    All processes call it together. Raises UserError where there are fewer tubes than clusters.
    """
    for settings, network in zip(context.run.objective.all_targets, model.targets, strict=True):
        if isinstance(settings, ClustersTarget) and isinstance(network, ClusterTargets):
            network.use(_centroids(network, settings, context))


def record(context: RunContext) -> dict[str, Any]:
    """Return what pretrain.json says of clusters; nothing where there are none."""
    path, targets = _layout(context).clusters, context.run.objective.all_targets
    has = any(isinstance(each, ClustersTarget) for each in targets) and path.is_file()
    return {"clusters_sha256": sha256_file(path)} if has else {}


def _layout(context: RunContext) -> RunLayout:
    return RunLayout(context.tracked.experiment, context.tracked.run)


def _centroids(network: ClusterTargets, settings: ClustersTarget, context: RunContext) -> Tensor:
    ranks, path, key = context.ranks, _layout(context).clusters, _key(network, settings, context)

    def known() -> Tensor | None:
        try:
            with safe_open(path, framework="pt") as handle:
                noted = (handle.metadata() or {}).get("key")
                centroids: Tensor = handle.get_tensor("centroids")
                return centroids if noted == key else None
        except (OSError, SafetensorError):
            return None

    centroids = ranks.on_rank_zero(known)
    if centroids is not None:
        return centroids
    rows = list(_features(network, settings, context))
    samples = np.concatenate(rows)[: settings.clusters * settings.tubes_per_cluster]
    if len(samples) < settings.clusters:
        raise UserError(
            f"{len(samples):,} tubes cannot be put into {settings.clusters:,} clusters",
            place="objective.target.clusters",
            remedy="ask for fewer clusters, or more tubes_per_cluster",
        )
    context.checkpoints.say(f"{settings.clusters:,} clusters of {len(samples):,} tubes: k-means")
    k_means = KMeans(settings.clusters, context.run.trainer.seed)
    for _ in range(settings.passes):  # no process waits for longer than a pass
        ranks.on_rank_zero(lambda: k_means.go_over(samples, context.run.trainer.threads))

    def keep() -> Tensor:
        found = torch.from_numpy(k_means.centroids)
        with atomic_path(path) as temporary:
            save_file({"centroids": found}, temporary, metadata={"key": key})
        return found

    return ranks.on_rank_zero(keep)


def _key(network: ClusterTargets, settings: ClustersTarget, context: RunContext) -> str:
    """Return a hash of all that decides the centroids."""
    trainer, given = context.run.trainer, context.checkpoints.settings
    return fingerprint(
        {
            "features": network.features.digest,
            "target": repr(settings),
            "data": given["data"],
            "tube": list(context.run.model.tube),
            "seed": trainer.seed,
            "batch_size": trainer.batch_size,  # of which clips make a step
            **({"mixture": repr(trainer.mixture)} if trainer.mixture else {}),
        }
    )


def _features(
    network: ClusterTargets, settings: ClustersTarget, context: RunContext
) -> Iterator[Samples]:
    """Yield the features of sampled tubes, those of all processes, a step at a time: S,D."""
    run, trainer, ranks = context.run, context.run.trainer, context.ranks
    clips = PretrainingClips(
        context.entries,
        context.clip,
        None,
        run.model.tube,
        trainer.seed,
        trainer.batch_size,
        mixture=context.mixture,
    )
    grid = network.features.grid
    wanted, seed = settings.clusters * settings.tubes_per_cluster, trainer.seed
    most = total_steps(1, n=len(context.entries), batch_size=trainer.batch_size)
    each = min(grid.count, math.ceil(wanted / (most * trainer.batch_size)))
    steps = min(most, math.ceil(wanted / (each * trainer.batch_size)))
    options = LoaderOptions(
        trainer.workers,
        trainer.cache_mib,
        trainer.decoder,
        trainer.max_failed_share,
        context.device,
    )
    context.checkpoints.say(f"features of {each} tubes of each clip, {steps:,} steps of clips")
    batches = pretraining_batches(clips, range(steps), options, rank=ranks.rank, world=ranks.world)
    with torch.inference_mode(), fast_fp32(context.device, grid.count):
        for batch in batches:
            drawn = [tubes_rng(seed, *sample).random(grid.count) for sample in batch.samples]
            chosen = np.sort(np.argsort(np.stack(drawn), axis=1)[:, :each], axis=1)
            tubes = grid.split(normalise(batch.videos))
            features = network.features(tubes, torch.from_numpy(chosen).to(context.device))
            rows = features.flatten(0, 1).float().cpu().numpy()
            yield np.concatenate(ranks.all_gather(rows))


class KMeans:
    """K-means over batches of samples (Sculley 2010), equal for equal samples, seed and threads."""

    def __init__(self, clusters: int, seed: int) -> None:
        from sklearn.cluster import MiniBatchKMeans

        self.estimator = MiniBatchKMeans(clusters, random_state=seed, n_init=1)
        self.rng = np.random.Generator(np.random.Philox(seed))
        self.chunk = max(CHUNK, 4 * clusters)

    def go_over(self, samples: Samples, threads: int) -> None:
        """Take all samples S,D once, in an order that is drawn anew."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        order = np.argsort(self.rng.random(len(samples)))
        parts = max(1, len(samples) // self.chunk)
        with threadpool_limits(threads):
            for part in np.array_split(order, parts):
                self.estimator.partial_fit(samples[part])

    @property
    def centroids(self) -> Samples:
        """K,D."""
        return np.ascontiguousarray(self.estimator.cluster_centers_, dtype=np.float32)
