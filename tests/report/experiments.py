"""An experiment on disk in the documented formats, with text in it that wants to break the page."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.layout import DataLayout, ExperimentLayout, times
from pipeline.configuration.schema import Params
from pipeline.data import synthetic
from pipeline.data.load.mixture import ClipMixture, Component
from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards.format import ShardSummary, summary_file
from pipeline.data.shards.index import DatasetIndex
from pipeline.data.shards.shard_stage import pack
from pipeline.runtime.files import sha256_file, write_json, write_text
from pipeline.weights import hub

HOSTILE = "</script><img src=x onerror=alert(1)>"  # a clip's id
REASON = 'ends after <b>3</b> of 9 "frames" & {{ 7 * 7 }} [red]'  # of a lost clip
SKIPPED = "no clip has a label 'weather' <i>"
CLASSES = ["<b>up</b>", "down", "left", "right", "round", "still"]
MIXTURE = ClipMixture("from", (Component("<b>few</b>", 3, 4), Component("many", 1, 16)), "0")
STEPS = 6
SCORED, UNLABELLED, OF = 80, 15, 100  # test clips: 5 are lost
TOP1 = {"sigma_mlp": (0.75, 0.5), "pixel": (0.5, 0.625), "random": (0.25, 0.25)}


@dataclass(frozen=True)
class Experiment:
    """A reported experiment: where it lies, and what was written and printed."""

    folder: Path  # the working directory that it was made in
    params: Params
    layout: ExperimentLayout
    html: str
    evaluation: dict[str, Any]
    printed: str


class Element:
    """A start tag of the page, its attributes, and the text right inside it."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes, self.text = tag, attributes, ""


class Page(HTMLParser):
    """Reads a page strictly: a tag that is not closed where it should be fails."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append(element)
        if tag not in self.VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]


def tiny_params() -> Params:
    overrides = ["experiment=tiny", "data.labels=[motion,digit,weather]"]
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="test")


def write_data(params: Params) -> None:
    """Real shards of val, train and test clips, and an index that tells of two lost ones."""
    assert params.data.synthetic is not None
    layout = DataLayout(params.data.name)
    rows = list(synthetic.rows(params.data.synthetic))
    chosen = [row for row in rows if row["split"] == "val"][:6]
    chosen += [row for row in rows if row["split"] == "train"][:4]
    chosen += [row for row in rows if row["split"] == "test"][:3]
    paths = dict(synthetic.write_videos(params.data.synthetic, chosen, Path("videos")))
    size = params.data.synthetic.size
    records = [
        ClipRecord(
            id=HOSTILE if number == 0 else row["id"],
            outcome=Outcome.OK,
            file=str(paths[row["id"]]),
            frames=params.data.synthetic.frames,
            fps=params.data.synthetic.fps,
            width=size,
            height=size,
            split=row["split"],
            labels={"motion": row["motion"], "digit": row["digit"]},
        )
        for number, row in enumerate(chosen)
    ]
    packed = pack(records, layout.shards, 0, params.data.shards, Path("decoded.json"))
    tars = sorted({layout.shards / Path(clip.file).name for clip in packed})
    shards = [ShardSummary(**json.loads(summary_file(tar).read_text())) for tar in tars]
    lost = [
        (HOSTILE, "corrupt", REASON, "decode", "train"),
        ("gone", "missing", "no such file", "download", "val"),
    ]
    keys = ("id", "outcome", "reason", "stage", "split")
    write_json(
        layout.index,
        {
            "name": params.data.name,
            "codec": "h264",
            "shards": [asdict(shard) for shard in shards],
            "census": {"ok": 13, "missing": 1, "corrupt": 1},
            "splits": {"train": 4, "val": 6, "test": 3},
            "lost": [dict(zip(keys, clip, strict=True)) for clip in lost],
        },
    )


def write_run(params: Params, name: str) -> None:
    """Untrained weights, and logs and scores that no training gave."""
    run, layout = params.runs[name], ExperimentLayout(params.name).run(name)
    torch.manual_seed(0)
    hub.save(
        layout.weights,
        sigma_model(run.model, run.objective, params.data.clip),
        run,
        params.data.clip,
    )
    trained = run.trainer.epochs > 0
    metrics = [metrics_line(step, sigma=name == "sigma_mlp") for step in range(1, STEPS + 1)]
    speed = [{"step": step, "clips_per_s": 100.0 + step} for step in range(1, STEPS + 1)]
    write_text(layout.metrics, lines(metrics if trained else []))
    write_text(layout.speed, lines(speed if trained else []))
    write_features(params, name)
    write_predictions(params, name)
    write_times(params, name)
    manifest = {"steps": STEPS, "seconds": 61.0, "encoder_parameters": 4242}
    mixture = {"mixture": MIXTURE.record(40)} if name == "sigma_mlp" else {}
    write_json(layout.pretrained, manifest | mixture)
    inputs = {
        "index": sha256_file(DataLayout(params.data.name).index),
        "weights": sha256_file(layout.weights),
    }
    write_json(
        layout.result("evaluation"),
        {
            "run": name,
            "scores": [score(probe, top1) for probe, top1 in zip(PROBES, TOP1[name], strict=True)],
            "validation": [score(probe, 0.5, split="val") for probe in PROBES],
            "skipped": [
                {"label": "weather", "probe": probe, "reason": SKIPPED} for probe in PROBES
            ],
            "details": [details()],
            "inputs": inputs,
            "seconds": 2.0,
        },
    )


def write_features(params: Params, name: str) -> None:
    """Features in which each test clip is nearest to the training clip at its own place."""
    index = DatasetIndex.load(DataLayout(params.data.name).shards)
    arrays: dict[str, Any] = {"key": np.array("{}")}
    for split in ("train", "test"):
        clips = index.clips([split])
        arrays[f"{split}_ids"] = np.array([clip.id for clip in clips])
        places = np.eye(len(clips), 4, dtype=np.float32) + (0.1 if split == "test" else 0)
        arrays[f"{split}_features"] = places[:, None]  # one view
        arrays[f"{split}_failed"] = np.array([], dtype=np.str_)
    path = ExperimentLayout(params.name).run(name).features
    np.savez(path, allow_pickle=False, **arrays)


def write_predictions(params: Params, name: str) -> None:
    """The first clips are right: of two runs, one is right wherever the other is."""
    rows = [
        f"motion,{probe},clip-{clip},down,{'down' if clip < top1 * SCORED else 'left'},,,,"
        for probe, top1 in zip(PROBES, TOP1[name], strict=True)
        for clip in range(SCORED)
    ]
    header = "label,probe,id,true," + ",".join(f"predicted_{k}" for k in range(1, 6))
    write_text(ExperimentLayout(params.name).run(name).predictions, "\n".join([header, *rows, ""]))


def write_times(params: Params, name: str) -> None:
    """Times of this run's pretraining, interrupted once, and of the first chunk's download."""
    entry = {"began": "2026-01-01T00:00:00+00:00", "seconds": 30.5, "cpu_seconds": 50.0}
    entry |= {"peak_memory_mib": 700, "finished": False}
    body = {"sessions": [entry, entry | {"finished": True, "peak_memory_mib": 900}]}
    write_json(times(params.name, "pretrain", name), body)
    write_json(times(params.data.name, "download", 0), {"sessions": body["sessions"][1:]})


PROBES = ("linear", "knn")


def metrics_line(step: int, *, sigma: bool) -> dict[str, float]:
    line = {"step": step, "epoch": 1, "loss": 9.0 / step, "lr": 0.001 * step}
    if sigma:
        line |= {"prototypes_used": 0.5, "assignment_entropy": 0.9, "branch_agreement": 0.125}
        line["loss"] = math.nan if step == 3 else line["loss"]
    return line


def score(probe: str, top1: float, *, split: str = "test") -> dict[str, Any]:
    counts = {"classes": len(CLASSES), "train_clips": 4, "scored": SCORED, "of": OF}
    counts["unlabelled_clips"] = UNLABELLED
    shares = {"top1": top1, "top5": 0.875, "chance": 1 / len(CLASSES), "majority": 0.25}
    return {"label": "motion", "probe": probe, "split": split, **counts, **shares}


def details() -> dict[str, Any]:
    """All right but for one clip of the first class, which is taken for the second."""
    confusion = [[int(i == j) for j in range(len(CLASSES))] for i in range(len(CLASSES))]
    confusion[0] = [2, 1, 0, 0, 0, 0]
    per_class = {name: {"clips": 1, "right": 1} for name in CLASSES}
    per_class[CLASSES[0]] = {"clips": 3, "right": 2}
    body = {"label": "motion", "probe": "linear", "split": "test", "per_class": per_class}
    return body | {"classes": CLASSES, "confusion": confusion}


def lines(values: list[dict[str, float]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)
