"""The paper's numbers, to stand beside ours where the data set is the paper's.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447),
ViT-B: fine-tuning and linear probing, in per cent. Those of the other benchmarks stand beside their
tables (`pipeline.evaluation`).
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
