"""Pictures that need frozen networks: masks by attention and by flow, and prototypes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.errors import UserError
from pipeline.method.masks import AttentionMask
from pipeline.method.pixels import normalise
from pipeline.method.tubes import TubeSplit
from pipeline.report import gallery, report_stage, results, strips
from pipeline.report.models import load_with_targets
from pipeline.report.results import Results, RunResult
from pipeline.weights import hub, teachers
from tests import optical_flow

from .experiments import Experiment

TARGET = ("kind=encoder", "run=pixel", "width=32", "layers=[-1]")
TAUGHT = {
    "umt": (
        "+objective@runs.umt.objective=umt_demo",
        *(f"runs.umt.objective.target.{each}" for each in TARGET),
    ),
    "mgmae": (
        "+objective@runs.mgmae.objective=mgmae_demo",
        "runs.mgmae.objective.mask.weights=raft.pth",
    ),
    "prototypes": (
        "+objective@runs.prototypes.objective=sigma_mlp_demo",
        "~runs.prototypes.objective.target",
        "+runs.prototypes.objective.target={" + ",".join(TARGET).replace("=", ": ") + "}",
    ),
}


@pytest.fixture
def found(experiment: Experiment, tmp_path: Path) -> Iterator[Results]:
    """The experiment with three runs more: targets of two are features of the run `pixel`."""
    shutil.copytree(experiment.folder, tmp_path, dirs_exist_ok=True)
    with contextlib.chdir(tmp_path):
        optical_flow.write(Path("raft.pth"))
        before = results.read(experiment.params)
        yield replace(before, runs=(*before.runs, *(taught(before, name) for name in TAUGHT)))


def taught(found: Results, name: str) -> RunResult:
    """Write what training would write of a run with a teacher; its weights are untrained."""
    overrides = (f"+runs.{name}={{model: ${{model}}, trainer: ${{trainer}}}}", *TAUGHT[name])
    text = composition.compose(["experiment=tiny", *overrides])
    params = composition.validate(yaml.safe_load(text), place="test")
    settings, clip, pixel = params.runs[name], params.data.clip, found.runs[1]
    model = sigma_model(settings.model, settings.objective, clip)
    teachers.hand_over(model, settings.objective.all_targets, lambda _: pixel.layout.weights)
    layout = replace(pixel.layout, run=name)
    hub.save(layout.weights, model, settings, clip)
    trained = {"teacher_sha256": model.teacher_digest}
    return replace(pixel, name=name, settings=settings, layout=layout, pretrained=trained)


def test_attention_hides_what_it_hides_in_training(
    found: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches pictures of another choice than that of the model's own step, for these numbers."""
    chosen: list[TubeSplit] = []
    original = AttentionMask.select

    def noted(self: AttentionMask, attention: Tensor, noise: Tensor, grid: object) -> TubeSplit:
        chosen.append(original(self, attention, noise, grid))
        return chosen[-1]

    monkeypatch.setattr(AttentionMask, "select", noted)
    run, clip = found.runs[-3], found.params.data.clip
    split, entries = gallery.choose_clips(found)
    group = strips.strip_group([run], clip, split, entries)
    (shown,) = chosen
    videos = strips.read_videos(strips.evenly_spaced(entries, strips.CLIPS), clip)
    model = load_with_targets(run)
    keys = (strips.order.sample_rng(strips.SEED, 0, place) for place in range(len(videos)))
    noise = np.stack([run.settings.objective.mask.draw(model.grid.shape, key) for key in keys])
    with torch.no_grad():
        model(normalise(torch.from_numpy(videos)), [torch.from_numpy(noise)])
    assert torch.equal(chosen[-1].visible, shown.visible)
    assert group.hidden == 48
    assert [name for name, _ in group.strips[0].rows] == ["input", "what the encoder sees"]


def test_without_its_teacher_one_run_alone_has_no_picture(found: Results) -> None:
    """Catches masks of a network that the run has never seen, and pictures of all that are gone
    with one of them; also that the reason is said."""
    names = [group.runs for group in report_stage._pictures(found).strips]
    assert names == [("sigma_mlp", "pixel", "prototypes"), ("umt",), ("mgmae",)]
    Path("raft.pth").unlink()
    teacher = found.runs[1].layout.weights
    settings, clip = found.runs[1].settings, found.params.data.clip
    torch.manual_seed(1)
    hub.save(teacher, sigma_model(settings.model, settings.objective, clip), settings, clip)
    with pytest.raises(UserError, match="not the one that it was trained with"):
        load_with_targets(found.runs[-3])
    teacher.rename("gone")
    drawn = report_stage._pictures(replace(found, runs=(found.runs[0], *found.runs[2:])))
    assert [group.runs for group in drawn.strips] == [("sigma_mlp", "prototypes")]
    assert drawn.failures.keys() == {f"masks of {n}" for n in ("umt", "mgmae")} | {
        "prototypes of prototypes"
    }
    assert "no such file" in drawn.failures["masks of umt"]
    assert "no such file: raft.pth" in drawn.failures["masks of mgmae"]


def test_prototypes_of_another_runs_features_are_drawn(found: Results) -> None:
    """Catches a report that ends with an error where SIGMA's targets are features of a run."""
    drawn = gallery.gallery(found.runs[-1], found.params.data.clip, *gallery.choose_clips(found))
    assert drawn.prototypes
    assert all(prototype.tubes for prototype in drawn.prototypes)
