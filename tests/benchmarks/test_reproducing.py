"""The numbers of docs/reproducing.md: computed anew, and held to independent ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import reproducing
from pipeline.cli.doctor import estimates
from pipeline.cli.doctor.room import footage_of
from pipeline.data.decode import decode_stage
from pipeline.data.fetch import download_stage
from pipeline.data.manifest import manifest_stage


def test_the_committed_page_is_what_is_computed() -> None:
    """Would catch a recipe or a measured rate that changed without the page."""
    text = reproducing.PAGE.read_text(encoding="utf-8")
    assert text == reproducing.page(text), "run: python -m benchmarks.reproducing --write"


def test_operations_are_those_that_others_publish() -> None:
    """Would catch a factor of two: VideoMAE (Tong et al. 2022, table 6) has ViT-B at 180 G products
    and sums for a clip of 16 x 224 x 224, DINO's ViT-B/16 has 17.6 G for an image."""
    forward, step = reproducing.classifier_operations(
        reproducing.params_of("k400_vit_base_mlp"), 400
    )
    assert forward == pytest.approx(2 * 180e9, rel=0.02)
    assert step == pytest.approx(3 * forward, rel=0.01)
    teacher = reproducing.teacher_of(reproducing.run_of("k400_vit_base_dino"))
    assert teacher == pytest.approx(8 * 2 * 17.6e9, rel=0.05)


def test_disk_is_about_what_the_stages_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an estimate that is off by more than a factor of three, on the embedded data."""
    import yaml

    from pipeline.configuration import composition

    text = composition.compose(["experiment=tiny", "data.chunks=1", "data.synthetic.train=8"])
    params = composition.validate(yaml.safe_load(text), place="test")
    monkeypatch.chdir(tmp_path)
    manifest_stage.run(params)
    download_stage.run(params, 0)
    decode_stage.run(params, 0)
    footage, is_fetched = footage_of(params)
    room = estimates.room(footage, params.data, is_fetched=is_fetched)
    for folder, expected in (("downloads", room.sources), ("data/*/clips", room.clips)):
        places = [str(path) for path in tmp_path.glob(folder)]
        assert shutil.which("du")
        said = subprocess.run(["du", "-sB1", *places], capture_output=True, text=True, check=True)
        written = sum(int(line.split()[0]) for line in said.stdout.splitlines())
        assert expected / 3 < written < expected * 3


def test_hours() -> None:
    """Would catch seconds taken for hours."""
    assert reproducing.training_hours(3600e12, peak=2e12, share=0.5) == pytest.approx(1.0)
