"""Published numbers, to stand beside ours where the data set is theirs.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447),
ViT-B: fine-tuning and linear probing, in per cent; and what the authors of other methods say of
theirs. Those of the other benchmarks stand beside their tables (`pipeline.evaluation`).
"""

from __future__ import annotations

from pipeline.evaluation.table import Line, published
from pipeline.report.results import Results
from pipeline.report.tables import ScoreTable

SOURCE = "Salehi et al., ECCV 2024 (arXiv 2407.15447)"

# Top-1 by method, after fine-tuning.
FINETUNED: dict[str, dict[str, float]] = {
    "SIGMA-DINO": {"ssv2": 70.9, "k400": 81.6},
    "SIGMA-MLP": {"ssv2": 70.4, "k400": 80.2},
}

# Of other methods' ViT-B, as their authors' repositories say (docs/methods names them): pretrained
# on the same videos for so many epochs, where nothing else is said, and fine-tuned by own recipes.
OTHERS: dict[str, dict[str, float]] = {
    "VideoMAE, 1,600 / 2,400 epochs": {"k400": 81.5, "ssv2": 70.8},
    "VideoMAE v2, distilled from ViT-g": {"k400": 86.6},
    "MAE-ST": {"k400": 81.3},
    "AdaMAE, 800 epochs": {"k400": 81.7, "ssv2": 70.0},
    "MGMAE, 1,600 / 2,400 epochs": {"k400": 81.8, "ssv2": 72.3},
    "EVEREST, 3,200 epochs": {"ucf101": 93.7},
    "MVD, K400, teachers ViT-B, 400 epochs": {
        "k400": 82.7, "ssv2": 72.5, "ucf101": 97.0, "hmdb51": 76.4,
    },
    "UMT, K710, 200 epochs": {"ssv2": 70.8},
    "SMILE, K400, 600 epochs": {"k400": 83.1, "ssv2": 72.1},
}  # fmt: skip

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
# What an image data set's format is called there.
IMAGES = {"imagenet": "in1k", "cifar100": "c100"}


def lines(results: Results, table: ScoreTable) -> list[Line]:
    """Return the paper's rows beneath a table; none where its data set is not the paper's.

    A linear probe is compared with the paper's linear probe, a fine-tuned encoder with its
    fine-tuned ones; fine-tuning with a frozen encoder is the paper's linear probe.
    """
    if table.beside:  # scores on val stand for nothing that the paper has
        return []
    formats = {images.name: images.format for images in results.params.evaluation.images}
    is_image = table.label in formats
    data = IMAGES[formats[table.label]] if is_image else results.params.data.name
    finetune = results.params.evaluation.finetune
    columns: list[dict[str, float]] = []
    for probe in table.probes:
        frozen = probe == "linear" or bool(finetune and finetune.frozen)
        known = probe in ("linear", "finetune")
        columns.append(recognition(data, table.classes, frozen=frozen) if known else {})
        columns += [{}] * (1 + table.with_top5)  # top-5 and gain
    return published(columns)


def recognition(data: str, classes: int, *, frozen: bool) -> dict[str, float]:
    """Return each method's top-1 in per cent; empty where the data set is not the paper's.

    Args:
        data: the data set's name, as the keys of `CLASSES`.
        classes: how many classes were told apart.
        frozen: of a linear probe; else of a fine-tuned encoder.
    """
    if CLASSES.get(data) != classes:
        return {}
    rows = LINEAR if frozen else FINETUNED | OTHERS
    return {method: row[data] for method, row in rows.items() if data in row}
