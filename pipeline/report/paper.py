"""Published numbers, to stand beside ours where the data set is theirs.

Salehi et al. 2024, "SIGMA: Sinkhorn-Guided Masked Video Modeling" (ECCV 2024, arXiv 2407.15447),
ViT-B: fine-tuning and linear probing, in per cent; and what the authors of other methods say of
theirs. Those of the other benchmarks stand beside their tables (`pipeline.evaluation`).
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.evaluation.table import Line, published
from pipeline.report.results import Results
from pipeline.report.tables import ScoreTable

SOURCE = "Salehi et al., ECCV 2024 (arXiv 2407.15447)"


class Published(NamedTuple):
    """A method's numbers in per cent, by data set, and where they are from."""

    source: str
    finetuned: dict[str, float]
    linear: dict[str, float] = {}  # noqa: RUF012 - nobody writes to it


# Top-1 of ViT-B. Others are pretrained on the same videos for so many epochs, where nothing else is
# said, and fine-tuned by own recipes; `unverified` is what no source at hand confirms.
METHODS: dict[str, Published] = {
    "SIGMA-DINO": Published(
        SOURCE,
        {"ssv2": 70.9, "k400": 81.6},
        {"ssv2": 20.8, "k400": 47.5, "ucf101": 80.7, "hmdb51": 52.3, "in1k": 45.0, "c100": 66.7},
    ),
    "SIGMA-MLP": Published(
        SOURCE,
        {"ssv2": 70.4, "k400": 80.2},
        {"ssv2": 19.9, "k400": 30.7, "ucf101": 73.8, "hmdb51": 45.0, "in1k": 24.1, "c100": 46.2},
    ),
    "SIGMA, motion-guided masks": Published(f"{SOURCE}; unverified", {"ssv2": 71.2}),
    "VideoMAE": Published(
        f"{SOURCE}: 800 epochs, fine-tuned without repeated augmentation",
        {"ssv2": 69.6, "k400": 80.0},
        {"ssv2": 17.5, "k400": 20.7, "ucf101": 58.6, "hmdb51": 37.7, "in1k": 20.2, "c100": 40.4},
    ),
    "VideoMAE, 800 epochs": Published("github.com/MCG-NJU/VideoMAE", {"k400": 81.0}),
    "VideoMAE, 1,600 / 2,400 epochs": Published(
        "github.com/MCG-NJU/VideoMAE", {"k400": 81.5, "ssv2": 70.8}
    ),
    "VideoMAE, 3,200 epochs": Published("github.com/MCG-NJU/VideoMAE", {"ucf101": 91.3}),
    "VideoMAE v2, distilled from ViT-g": Published(
        "github.com/OpenGVLab/VideoMAEv2", {"k400": 86.6}
    ),
    "MAE-ST": Published("github.com/facebookresearch/SlowFast", {"k400": 81.3}),
    "AdaMAE, 800 epochs": Published("github.com/wgcban/adamae", {"k400": 81.7, "ssv2": 70.0}),
    "MGMAE, 800 epochs": Published("github.com/MCG-NJU/MGMAE", {"k400": 81.2, "ssv2": 71.0}),
    "MGMAE, 1,600 / 2,400 epochs": Published(
        "github.com/MCG-NJU/MGMAE", {"k400": 81.8, "ssv2": 72.3}
    ),
    "MGMAE": Published(
        "third hand", {}, {"k400": 24.9, "ssv2": 16.8, "ucf101": 64.4, "hmdb51": 41.3}
    ),
    "MGM, 800 epochs": Published("arXiv 2308.12962; unverified", {"k400": 80.8, "ssv2": 70.6}),
    "MGM, 1,600 epochs": Published("arXiv 2308.12962; unverified", {"k400": 81.7, "ssv2": 72.1}),
    "EVEREST, 3,200 epochs": Published("github.com/sunilhoho/EVEREST", {"ucf101": 93.7}),
    "MME, SSv2, 400 epochs": Published("github.com/XinyuSun/MME", {"ssv2": 69.2}),
    "MME, K400, 1,600 epochs": Published(
        "github.com/XinyuSun/MME", {"k400": 81.8, "ssv2": 71.5, "ucf101": 96.5, "hmdb51": 78.0}
    ),
    "MVD, K400, teachers ViT-B, 400 epochs": Published(
        "github.com/ruiwang2021/mvd", {"k400": 82.7, "ssv2": 72.5, "ucf101": 97.0, "hmdb51": 76.4}
    ),
    "MVD, K400, teachers ViT-L, 400 epochs": Published(
        "github.com/ruiwang2021/mvd", {"k400": 83.4, "ssv2": 73.7, "ucf101": 97.5, "hmdb51": 79.7}
    ),
    "UMT, K710, 200 epochs": Published("github.com/OpenGVLab/unmasked_teacher", {"ssv2": 70.8}),
    "UMT, K710, fine-tuned there first": Published(
        "github.com/OpenGVLab/unmasked_teacher", {"k400": 87.4}
    ),
    "SMILE, K400, 600 epochs": Published("github.com/fmthoker/SMILE", {"k400": 83.1, "ssv2": 72.1}),
    "SMILE, K400, 1,200 epochs": Published(
        "github.com/fmthoker/SMILE", {"k400": 83.4, "ssv2": 72.4}
    ),
    "SMILE, SSv2, 800 epochs": Published("github.com/fmthoker/SMILE", {"ssv2": 72.5}),
    "SMILE": Published("second hand", {}, {"k400": 56.2}),
    "TrackMAE, pixels, 800 epochs": Published(
        "github.com/rvandeghen/TrackMAE",
        {"k400": 80.8, "ssv2": 70.1},
        {"k400": 25.7, "ssv2": 23.6},
    ),
    "TrackMAE, CLIP, 800 epochs": Published(
        "github.com/rvandeghen/TrackMAE",
        {"k400": 83.9, "ssv2": 72.8},
        {"k400": 55.2, "ssv2": 27.3},
    ),
}

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
    return published(columns, {method: row.source for method, row in METHODS.items()})


def recognition(data: str, classes: int, *, frozen: bool) -> dict[str, float]:
    """Return each method's top-1 in per cent; empty where the data set is not the paper's.

    Args:
        data: the data set's name, as the keys of `CLASSES`.
        classes: how many classes were told apart.
        frozen: of a linear probe; else of a fine-tuned encoder.
    """
    if CLASSES.get(data) != classes:
        return {}
    rows = {name: row.linear if frozen else row.finetuned for name, row in METHODS.items()}
    return {method: row[data] for method, row in rows.items() if data in row}
