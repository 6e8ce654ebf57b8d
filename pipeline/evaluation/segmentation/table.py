"""The table of segmentation, with the paper's rows: its ViT-B, mean IoU in per cent.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447).
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluation.benchmark import Body
from pipeline.evaluation.table import Column, Scores, Table, published

PROTOCOLS = {"clustering": "clustering", "over_clustering": "over-clustering"}

# Mean IoU by method, then by kind of data set and protocol (as in segmentation.json).
PAPER: dict[str, dict[tuple[str, str], float]] = {
    "SIGMA-DINO": {
        ("youtube_vos", "clustering"): 36.4,
        ("davis2017", "clustering"): 30.6,
        ("youtube_vos", "over_clustering"): 60.4,
        ("davis2017", "over_clustering"): 56.5,
    },
    "SIGMA-MLP": {
        ("youtube_vos", "clustering"): 35.9,
        ("davis2017", "clustering"): 30.2,
        ("youtube_vos", "over_clustering"): 57.4,
        ("davis2017", "over_clustering"): 52.9,
    },
    "VideoMAE": {
        ("youtube_vos", "clustering"): 34.1,
        ("davis2017", "clustering"): 27.2,
        ("youtube_vos", "over_clustering"): 49.7,
        ("davis2017", "over_clustering"): 50.9,
    },
}


def table(bodies: Mapping[str, Body]) -> Table | None:
    """Mean IoU per data set, clip length and protocol; None where nothing was segmented."""
    scores = Scores.of(bodies, "data", "kind", "frames", "protocol")
    columns = {
        ((data, kind, frames, protocol), "miou"): Column(
            f"{data}, {frames} frames", PROTOCOLS[protocol]
        )
        for data, kind, frames, protocol in scores.first
    }
    if not columns:
        return None
    of_paper = [paper_row(kind, protocol) for _, kind, _, protocol in scores.first]
    return Table(
        id="segmentation",
        title="Unsupervised video object segmentation",
        unit="mean IoU, %",
        remark="Tokens of a clip are clustered with k-means: into as many clusters as the clip has "
        "objects (clustering), or into a fixed number (over-clustering), and compared with the "
        "masks (docs/segmentation.md). One segment: what calling all pixels one segment gives.",
        columns=tuple(columns.values()),
        runs=scores.lines(columns),
        others=(scores.line("one segment", "one_segment", columns), *published(of_paper)),
    )


def paper_row(kind: str, protocol: str) -> dict[str, float]:
    """Return each method's mean IoU in per cent; empty where the data set is not the paper's."""
    cells = {method: row.get((kind, protocol)) for method, row in PAPER.items()}
    return {method: value for method, value in cells.items() if value is not None}
