"""What runs again after a setting, a source file or a manifest has changed: dry runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import material
from pipeline.configuration.layout import DataLayout, ExperimentLayout
from pipeline.data.records import ChunkManifest

from .workspace import Workspace

pytestmark = pytest.mark.system

DATA = DataLayout("synthetic_tiny")
TINY_RESULTS = ExperimentLayout("tiny")
AFTER_TRAINING = {"evaluate": 3, "report": 1}
BENCHMARKS = {"segment": 3, "severe": 3}
ALL_BUT_DATA = {"pretrain": 3, **BENCHMARKS, **AFTER_TRAINING}
ANOTHER_RUN = {"pretrain": 1, "evaluate": 1, "segment": 1, "severe": 1, "report": 1}
ANOTHER_DATA_SET = {
    **{"manifest_again": 1, "download_again": 2, "decode_again": 2, "shard_again": 2},
    **{"index_again": 1, "evaluate_again": 3, "report": 1},
}
FROM_DECODE = {"decode": 2, "shard": 2, "index": 1, **ALL_BUT_DATA}


@pytest.mark.parametrize(
    ("override", "rerun"),
    [
        ("evaluation.knn.k=3", AFTER_TRAINING),
        ("data.labels=[motion]", AFTER_TRAINING),
        ("data.clip.scales=[0.9]", ALL_BUT_DATA),
        ("data.decode.crf=30", FROM_DECODE),
        ("data.download.timeout_s=7", {"download": 2, **FROM_DECODE}),
        ("data.synthetic.seed=5", {"manifest": 1, "download": 2, **FROM_DECODE}),
        ("segmentation.clusters=4", {"segment": 3, "report": 1}),
        ("severe.drawn.test=8", {"severe": 3, "report": 1}),
        ("runs.pixel.objective.mask.ratio=0.5", ANOTHER_RUN),
        ("encoders={again: results/tiny/runs/pixel/model.safetensors}", ANOTHER_RUN),
        ("data={synthetic_tiny: synthetic_tiny, again: synthetic_tiny}", ANOTHER_DATA_SET),
        ("objective.loss.epsilon=0.2", {"report": 1}),  # no run reads it; the report shows it
    ],
)
def test_a_setting_reruns_what_reads_it(
    finished: Workspace, tmp_path: Path, override: str, rerun: dict[str, int]
) -> None:
    """Catches a stage that misses a change of a setting, and one that runs again in vain."""
    changed = finished.copy(tmp_path / "changed")
    changed.compose(override)
    assert changed.planned() == rerun


@pytest.mark.parametrize(
    ("source", "edit", "rerun"),
    [
        ("pipeline/evaluation/recognition/knn.py", "X = 1", AFTER_TRAINING),
        ("pipeline/method/sinkhorn.py", "X = 1", {**ALL_BUT_DATA}),
        ("pipeline/report/templates/report.css", "/* */", {"report": 1}),
        ("pipeline/runtime/progress.py", "X = 1", {}),  # decides no result
        ("pipeline/data/records.py", "# a remark", {}),  # all stages consist of it
    ],
)
def test_a_source_file_reruns_its_stages(
    finished: Workspace, tmp_path: Path, source: str, edit: str, rerun: dict[str, int]
) -> None:
    """Catches results of code that is no longer there; a revert makes them valid again. An edit
    that changes no meaning reruns nothing."""
    changed = finished.copy(tmp_path / "changed")
    path = changed.folder / source
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}\n{edit}\n", "utf-8")
    assert changed.planned() == rerun
    path.write_text(text, encoding="utf-8")
    assert changed.planned() == {}


def test_a_replaced_video_reruns_its_chunk(fresh: Workspace, tmp_path: Path) -> None:
    """Catches results of a video that is no longer there, and a rerun for a time stamp."""
    videos = material.videos(None, tmp_path / "videos", sizes=("64x64", "80x64"))
    lines = [f"c{n},{video}" for n, video in enumerate(videos)]
    (fresh.folder / "list.csv").write_text("\n".join(["id,path", *lines]) + "\n")
    fresh.compose("data=folder", "data.manifest=list.csv", "data.chunks=1")
    fresh.snakemake("decoded")
    videos[0].touch()
    assert "Nothing to be done" in fresh.snakemake("-n", "decoded").stdout
    videos[0].write_bytes(videos[1].read_bytes())
    fresh.snakemake("decoded")
    records = ChunkManifest.read(fresh.folder / DataLayout("folder").decoded(0)).clips
    assert records[0].sha256 == records[1].sha256
    assert "Nothing to be done" in fresh.snakemake("-n", "decoded").stdout


@pytest.mark.parametrize(
    ("manifest", "rule"),
    [
        (DATA.manifest, "manifest"),
        (DATA.downloaded(0), "download"),
        (DATA.decoded(1), "decode"),
        (DATA.sharded(0), "shard"),
        (DATA.index, "index"),
        (TINY_RESULTS.run("pixel").pretrained, "pretrain"),
        (TINY_RESULTS.run("random").result("evaluation"), "evaluate"),
        (TINY_RESULTS.run("pixel").result("segmentation"), "segment"),
        (TINY_RESULTS.run("sigma_mlp").result("severe"), "severe"),
        (TINY_RESULTS.report, "report"),
    ],
)
def test_a_manifest_that_is_gone_is_made_again(
    finished: Workspace, tmp_path: Path, manifest: Path, rule: str
) -> None:
    """Catches a default target that lists too little: `Nothing to be done` after a killed stage."""
    changed = finished.copy(tmp_path / "changed")
    (changed.folder / manifest).unlink()
    assert changed.planned().get(rule) == 1
