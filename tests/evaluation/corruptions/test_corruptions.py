"""Corruptions: each kind by its definition, scores of known features, and as a stage."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import LinearProbe, Params
from pipeline.evaluation.corruptions import run
from pipeline.evaluation.corruptions.kinds import AMOUNTS, Corrupted
from pipeline.evaluation.corruptions.settings import KINDS, STRENGTHS, Corruptions, Kind
from pipeline.evaluation.corruptions.table import table
from pipeline.evaluation.features import SplitFeatures
from pipeline.runtime.files import read_json

from ..conftest import RUN, SIZES
from ..recognition.problems import problem

PROBE = LinearProbe(inverse_regularisation=(0.1, 1.0), max_iterations=500)


def clip(frames: int = 8, side: int = 32) -> torch.Tensor:
    """Two views (V,T,H,W,3) of a moving pattern, neither black nor white."""
    y, x, t = np.meshgrid(np.arange(side), np.arange(side), np.arange(frames), indexing="ij")
    wave = 90 + 50 * np.sin((x + 2 * t) / 3) * np.cos(y / 4)
    video = np.moveaxis(wave, -1, 0)[None, ..., None] + np.array([0, 20, 40])
    return torch.from_numpy(np.repeat(video, 2, axis=0).astype(np.uint8))


def corrupted(kind: Kind, strength: int, name: str = "clip", seed: int = 0) -> np.ndarray[Any, Any]:
    return Corrupted(kind, strength, seed)(name, clip()).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stronger_corruption_is_farther_from_the_clip(kind: Kind) -> None:
    """Catches strengths in the wrong order, a kind that does nothing, a clip that is changed in
    place, and random numbers that depend on what was drawn before."""
    before = clip(side=112)
    errors = []
    for strength in STRENGTHS:
        video = clip(side=112)
        changed = Corrupted(kind, strength, 0)("clip", video)
        assert changed.dtype == torch.uint8
        assert changed.shape == video.shape
        assert (video == before).all()
        assert (Corrupted(kind, strength, 0)("clip", video) == changed).all()
        errors.append((changed.float() - before.float()).abs().mean().item())
    assert errors == sorted(set(errors))
    assert errors[0] > 0


@pytest.mark.parametrize("kind", ["noise", "dropped"])
def test_chance_is_of_the_clip_and_the_seed(kind: Kind) -> None:
    """Catches one noise for all clips, and a seed that is not used."""
    one = corrupted(kind, 3)
    assert (one != corrupted(kind, 3, name="other")).any()
    assert (one != corrupted(kind, 3, seed=1)).any()


def test_kinds_are_what_they_are_called() -> None:
    """Catches another amount or another operation than the one that is documented."""
    video = clip().numpy().astype(float)
    for strength in STRENGTHS:
        place = strength - 1
        noise = corrupted("noise", strength) - video
        inside = (corrupted("noise", strength) > 0) & (corrupted("noise", strength) < 255)
        if inside.all():
            assert noise.std() == pytest.approx(255 * AMOUNTS["noise"][place], rel=0.02)
        bright = np.clip(video + 255 * AMOUNTS["brightness"][place], 0, 255)
        assert np.abs(corrupted("brightness", strength) - bright).max() <= 0.5
        file = io.BytesIO()
        Image.fromarray(clip().numpy()[1, 5]).save(
            file, "JPEG", quality=AMOUNTS["compression"][place]
        )
        assert (corrupted("compression", strength)[1, 5] == np.asarray(Image.open(file))).all()
        lost = (corrupted("dropped", strength) == 0).all(axis=(0, 2, 3, 4))
        assert lost.mean() == AMOUNTS["dropped"][place]
        kept = corrupted("dropped", strength)[:, ~lost]
        assert (kept == video[:, ~lost]).all()
    deviation = 224 * AMOUNTS["blur"][1]
    line = np.exp(-(np.arange(-40, 41) ** 2) / (2 * deviation**2))
    wide = np.zeros((1, 1, 224, 224, 3))
    wide[0, 0, 112] = 255  # a line across, whose blur is a Gaussian of one dimension
    found = Corrupted("blur", 2, 0)("x", torch.from_numpy(wide.astype(np.uint8))).numpy()
    assert np.abs(found[0, 0, 72:153, 112, 0] - 255 * line / line.sum()).max() < 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.sampled_from(STRENGTHS), st.text(max_size=5))
def test_a_repeated_frame_is_the_last_one_that_is_not_lost(
    frames: int, strength: int, name: str
) -> None:
    """Catches frames of the future, a first frame that is lost, and views that differ."""
    numbers = torch.arange(frames, dtype=torch.uint8).reshape(1, -1, 1, 1, 1)
    video = numbers.expand(2, -1, 2, 2, 3)
    seen = Corrupted("repeated", strength, 0)(name, video)
    assert (seen[0] == seen[1]).all()
    places = seen[0, :, 0, 0, 0].tolist()
    for place, shown in enumerate(places):
        assert shown == place or (place and shown == places[place - 1])
    lost = sum(shown != place for place, shown in enumerate(places))
    assert lost == min(frames - 1, max(1, round(AMOUNTS["repeated"][strength - 1] * (frames - 1))))


def test_means_and_drops_are_those_of_the_strengths() -> None:
    """Catches a kind's features taken for another's, and a drop that is not of the clean number."""
    asked = problem(5.0)
    wanted = Corruptions(kinds=("noise", "blur"), linear=PROBE, clips=None, seed=0)
    assert wanted.kinds == ("noise", "blur")
    ids, plain = tuple(map(str, asked.test.ids)), asked.test.features
    variants = {}
    for kind in wanted.kinds:
        for strength in STRENGTHS:
            broken = np.arange(len(ids)) < (20 * strength if kind == "blur" else 0)
            values = np.where(broken[:, None, None], -plain, plain)
            variants[run.variant(kind, strength)] = SplitFeatures(ids[::-1], values[::-1])
    clean, noise, blur, mean = run.rows(asked, variants, wanted)
    assert clean["top1"] == noise["top1"] > 0.97
    assert noise["drop"] == 0
    assert blur["by_strength"] == sorted(blur["by_strength"], reverse=True)
    assert blur["by_strength"][-1] == pytest.approx(clean["top1"] - 0.5, abs=0.03)
    assert blur["top1"] == pytest.approx(np.mean(blur["by_strength"]))
    assert mean["top1"] == pytest.approx((noise["top1"] + blur["top1"]) / 2)
    assert mean["drop"] == pytest.approx((clean["top1"] - mean["top1"]) / clean["top1"])
    assert mean["by_strength"] == pytest.approx(
        np.mean([noise["by_strength"], blur["by_strength"]], axis=0)
    )


@pytest.fixture
def corrupt(
    params: Params, recognised: None, score: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    plain = {"kinds": ["brightness", "noise"], "linear": params.evaluation.linear}
    return lambda **changes: score("corruptions", **{**plain, "clips": None, "seed": 0, **changes})


def test_a_stage_scores_all_kinds_and_reuses_its_features(
    params: Params, corrupt: Callable[..., dict[str, Any]], computed: list[int]
) -> None:
    """Catches a clean number unlike recognition's, lost or unasked clips that are not counted, and
    features that are computed anew for another probe."""
    body = corrupt()
    assert computed == [SIZES["test"]] * 10
    kinds = [row["kind"] for row in body["scores"]]
    assert kinds == ["clean", "noise", "brightness", "mean"]
    evaluated = read_json(RunLayout(params.name, RUN).result("evaluation"))
    (probe,) = (row for row in evaluated["scores"] if row["probe"] == "linear")
    clean, *_ = body["scores"]
    assert (clean["top1"], clean["scored"]) == (probe["top1"], probe["scored"])
    assert clean["of"] == SIZES["test"] + 1
    shown = table({RUN: body, "other": {}})
    assert shown is not None
    assert [each.title for each in shown.columns] == [*kinds, "drop"]
    assert shown.cells(shown.runs[0])[-1].text == f"{body['scores'][-1]['drop']:.3f}"
    (chart,) = shown.charts
    assert [x for x, _ in chart.points[RUN]] == [0, *STRENGTHS]
    assert chart.points[RUN][0][1] == 100 * clean["top1"]

    computed.clear()
    corrupt(linear={"solver": "lbfgs", "inverse_regularisation": [1.0], "max_iterations": 50})
    assert computed == []
    fewer = corrupt(clips=5)
    assert computed == [5] * 10
    assert fewer["scores"][0]["scored"] <= 5
