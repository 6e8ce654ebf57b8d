"""The paper's numbers, to stand beside ours where the data set is the paper's.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447),
ViT-B: fine-tuning and linear probing, unsupervised video object segmentation, SEVERE. All in
per cent, but for SEVERE's repetition counting (column `ucf_rc`), which is a relative error.
"""

from __future__ import annotations

SOURCE = "Salehi et al., ECCV 2024 (arXiv 2407.15447)"

# Top-1 by method, after fine-tuning.
FINETUNED: dict[str, dict[str, float]] = {
    "SIGMA-DINO": {"ssv2": 70.9, "k400": 81.6},
    "SIGMA-MLP": {"ssv2": 70.4, "k400": 80.2},
}

# Top-1 of a linear probe: SSv2, K400, UCF-101, HMDB-51, ImageNet-1k, CIFAR-100.
LINEAR: dict[str, dict[str, float]] = {
    "SIGMA-DINO": {
        "ssv2": 20.8, "k400": 47.5, "ucf101": 80.7, "hmdb51": 52.3, "in1k": 45.0, "c100": 66.7,
    },
    "SIGMA-MLP": {
        "ssv2": 19.9, "k400": 30.7, "ucf101": 73.8, "hmdb51": 45.0, "in1k": 24.1, "c100": 46.2,
    },
    "VideoMAE": {
        "ssv2": 17.5, "k400": 20.7, "ucf101": 58.6, "hmdb51": 37.7, "in1k": 20.2, "c100": 40.4,
    },
}  # fmt: skip

# Classes of those data sets: a part of one that goes by its name is not compared.
CLASSES = {"ssv2": 174, "k400": 400, "ucf101": 101, "hmdb51": 51, "in1k": 1000, "c100": 100}

# Mean IoU by method, then by kind of data set and protocol (as in segmentation.json).
SEGMENTATION: dict[str, dict[tuple[str, str], float]] = {
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

# SEVERE's columns (as in severe.json), and the data set of each by the name that it has here.
SEVERE_DATA = {
    "ssv2": "ssv2",
    "gym99": "gym99",
    "ucf_1000": "ucf101",
    "gym99_1000": "gym99",
    "fx_s1": "fx_s1",
    "ub_s1": "ub_s1",
    "ucf_rc": "ucfrep",
    "charades": "charades",
}

# By method, then by column and `mean`.
SEVERE: dict[str, dict[str, float]] = {
    method: dict(zip((*SEVERE_DATA, "mean"), row, strict=True))
    for method, row in {
        "SIGMA-DINO": (70.9, 89.7, 84.1, 28.0, 55.1, 79.9, 0.169, 23.3, 64.3),
        "SIGMA-MLP": (69.8, 87.4, 80.2, 26.8, 46.0, 79.7, 0.178, 20.1, 61.5),
        "VideoMAE": (68.6, 86.6, 74.6, 25.9, 42.8, 65.3, 0.172, 12.6, 57.4),
    }.items()
}


def recognition(data: str, classes: int, *, frozen: bool) -> dict[str, float]:
    """Return each method's top-1 in per cent; empty where the data set is not the paper's.

    Args:
        data: the data set's name, as the keys of `CLASSES`.
        classes: how many classes were told apart.
        frozen: of a linear probe; else of a fine-tuned encoder.
    """
    if CLASSES.get(data) != classes:
        return {}
    rows = LINEAR if frozen else FINETUNED
    return {method: row[data] for method, row in rows.items() if data in row}


def segmentation(kind: str, protocol: str) -> dict[str, float]:
    """Return each method's mean IoU in per cent; empty where the data set is not the paper's."""
    cells = {method: row.get((kind, protocol)) for method, row in SEGMENTATION.items()}
    return {method: value for method, value in cells.items() if value is not None}


def severe(column: str, data: str) -> dict[str, float]:
    """Return each method's number in a column; empty where the data set is not the paper's."""
    if SEVERE_DATA.get(column) != data:
        return {}
    return {method: row[column] for method, row in SEVERE.items()}
