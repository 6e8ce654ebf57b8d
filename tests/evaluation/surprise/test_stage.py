"""The stage that scores surprise: what it writes, that it goes on, and whom it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.configuration.build import sigma_model
from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.data.synthetic import events
from pipeline.evaluation.surprise import predictor
from pipeline.evaluation.surprise.predictor import PredictionError
from pipeline.evaluation.surprise.settings import Surprise
from pipeline.evaluation.surprise.table import table
from pipeline.method.sigma import Prediction
from pipeline.runtime.files import sha256_file, write_json
from pipeline.weights import hub

from ..conftest import scores_of, with_benchmark, write_video
from .test_surprise import RUN, Repeats

PLAIN: dict[str, Any] = {
    "data": [{"name": "embedded", "kind": "drawn", "scenes": 2}],
    "contexts": [0.25, 0.5],
    "step": 2,
    "pictures": 1,
}
VIDEOS = 2 * 2 * 2 * len(events.EVENTS)  # scenes, pairs of each, videos of a pair


@pytest.fixture
def surprise(embedded: Path, embedded_params: Params) -> Callable[..., dict[str, Any]]:
    """The stage, on a model of fresh weights whose settings say that it was trained."""
    run = embedded_params.runs[RUN]
    torch.manual_seed(1)
    model = sigma_model(run.model, run.objective, embedded_params.data.clip)
    layout = RunLayout(embedded_params.name, RUN)
    layout.folder.mkdir(parents=True, exist_ok=True)
    hub.save(layout.weights, model, run, embedded_params.data.clip)
    write_json(layout.pretrained, {"model_sha256": sha256_file(layout.weights)})

    def scored(run: str = RUN, params: Params = embedded_params, **changes: Any) -> dict[str, Any]:
        return scores_of("surprise", with_benchmark(params, "surprise", PLAIN | changes), run)

    return scored


def test_the_stage_scores_every_event_and_draws_pairs(
    embedded_params: Params, surprise: Callable[..., dict[str, Any]]
) -> None:
    """Catches an event that is left out, scores of other videos than are told, and no picture."""
    body = surprise()
    layout = RunLayout(embedded_params.name, RUN)
    kept = pq.read_table(layout.rows("surprise")).to_pylist()
    assert body["census"] == {"embedded": {"ok": VIDEOS}}
    contexts = list(dict.fromkeys(row["context"] for row in body["scores"]))
    assert {row["property"] for row in body["scores"]} == set(events.EVENTS)
    assert contexts[0] == "mean"
    assert len(kept) == VIDEOS * (len(contexts) - 1)
    for row in body["scores"]:
        assert (row["pairs"], row["scored"], row["of"]) == (4, 8, 8)
        if row["context"] == "mean":
            continue
        mine = [line for line in kept if line["property"] == row["property"]]
        mine = [line for line in mine if line["context"] == row["context"]]
        means = {(line["pair"], line["possible"]): line["mean"] for line in mine}
        pairs = {line["pair"] for line in mine}
        more = [means[pair, False] > means[pair, True] for pair in pairs]
        assert row["relative_accuracy"] == np.mean(more)
    assert len(body["pictures"]) == 1
    with Image.open(layout.folder / body["pictures"][0]["file"]) as image:
        assert image.width > image.height
    shown = table({RUN: body})
    assert shown is not None
    assert len(shown.columns) == 2 * len(events.EVENTS)
    assert shown.charts[0].points[RUN]


def test_batches_workers_and_processes_change_nothing(
    embedded_params: Params, surprise: Callable[..., dict[str, Any]]
) -> None:
    """Catches an error that depends on the windows beside it, and videos that are exchanged."""
    before = surprise()
    run = embedded_params.runs[RUN]
    trainer = run.trainer.model_copy(update={"workers": 1})
    evaluation = embedded_params.evaluation.model_copy(update={"batch_size": 3, "processes": 2})
    changed = embedded_params.model_copy(
        update={
            "runs": {**embedded_params.runs, RUN: run.model_copy(update={"trainer": trainer})},
            "evaluation": evaluation,
        }
    )
    after = surprise(params=changed)
    for old, new in zip(before["scores"], after["scores"], strict=True):
        assert new["relative_accuracy"] == old["relative_accuracy"]
        assert new["excess"] == pytest.approx(old["excess"], abs=1e-4)


def test_an_interrupted_job_goes_on(
    surprise: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches videos that are predicted twice, or lost with the process."""
    whole = surprise()
    seen = []
    forward = PredictionError.forward

    def stops(self: PredictionError, videos: Tensor) -> Tensor:
        seen.append(len(videos))
        if len(seen) == 5:
            raise KeyboardInterrupt
        return forward(self, videos)

    monkeypatch.setattr(PredictionError, "forward", stops)
    with pytest.raises(KeyboardInterrupt):
        surprise()
    assert surprise() == whole
    assert len(seen) == VIDEOS + 1


def test_a_planted_signal_is_found_by_the_stage(
    embedded_params: Params,
    surprise: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches possible and impossible exchanged on the way from the pictures to the table: where
    nothing moves, what expects all to stay as it is must be surprised by a jump and a change."""

    def repeating(layout: RunLayout) -> Any:
        model = Repeats()
        model.grid = hub.load_pretraining(layout.weights).grid
        return model

    monkeypatch.setattr(predictor, "whole_model", repeating)
    monkeypatch.setattr(predictor.PredictionError, "_error", mean_error)
    assert embedded_params.data.synthetic is not None
    still = embedded_params.data.synthetic.model_copy(update={"speed": (0, 0), "pan": (0, 0)})
    data = embedded_params.data.model_copy(update={"synthetic": still})
    body = surprise(params=embedded_params.model_copy(update={"data": data}))
    for row in body["scores"]:
        expected = 0.5 if row["property"] == "vanish" else 1.0  # what is hidden stays hidden
        assert (row["relative_accuracy"], row["auroc"]) == (expected, expected), row


def mean_error(_: PredictionError, predictions: list[Prediction], window: int) -> Tensor:
    return functional.mse_loss(predictions[0].decoded[window], predictions[0].targets[window])


def test_an_untrained_run_is_named_with_the_reason(
    embedded_params: Params, surprise: Callable[..., dict[str, Any]]
) -> None:
    """Catches a table of random predictions, and a job that fails for want of a predictor."""
    body = surprise(run="random")
    assert body["scores"] == []
    assert body["skipped"] == [
        {"data": "embedded", "reason": "it is not trained: it predicts at random"}
    ]
    assert table({"random": body}) is None
    shown = table({"random": body, RUN: surprise()})
    assert shown is not None
    assert [line.name for line in shown.runs] == ["random", RUN]  # as the report has them
    assert set(shown.runs[0].values) == {None}


def test_videos_of_a_folder_are_read_and_bad_ones_named(
    tmp_path: Path, embedded_params: Params, surprise: Callable[..., dict[str, Any]]
) -> None:
    """Catches a bad file that ends the stage, and one that is not counted."""
    root = tmp_path / "grasp"
    for number in range(3):
        for kind in ("P_Gravity", "IP_Gravity"):
            path = root / kind / f"{number:03d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, (60, 60, 200), seed=number)
    (root / "IP_Gravity" / "002.mp4").write_bytes(b"no video")
    (root / "P_Gravity" / "001.mp4").unlink()
    body = surprise(data=[{"name": "GRASP", "kind": "grasp", "root": str(root)}])
    row = body["scores"][0]
    assert (row["property"], row["pairs"]) == ("Gravity", 1)
    assert "IP_Gravity/002" in row["missing"]
    lines = pq.read_table(RunLayout(embedded_params.name, RUN).rows("surprise")).to_pylist()
    reasons = {line["id"]: line["reason"] for line in lines if line["outcome"] != "ok"}
    assert "not_a_video" in reasons["IP_Gravity/002"]


def test_a_run_is_rebuilt_with_its_target(
    embedded_params: Params, surprise: Callable[..., dict[str, Any]]
) -> None:
    """Catches weights that are other ones than the file's, and a model without its target."""
    surprise()
    layout = RunLayout(embedded_params.name, RUN)
    model = predictor.whole_model(layout)
    saved = hub.load_pretraining(layout.weights)
    for name, value in saved.state_dict().items():
        assert torch.allclose(model.state_dict()[name], value, atol=1e-6), name


def test_replaced_settings_are_refused() -> None:
    """Catches two data sets under one name, whose files would be exchanged."""
    with pytest.raises(ValueError, match="one name"):
        Surprise.model_validate({**PLAIN, "data": PLAIN["data"] * 2})
