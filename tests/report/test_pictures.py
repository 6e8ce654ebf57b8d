"""What is drawn: the right tubes, the right frames, the right pixels."""

from __future__ import annotations

import base64
import contextlib
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pipeline.configuration import composition
from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Paste
from pipeline.method.masks import Mask, TrajectoryMask, TubeMask
from pipeline.method.masks.trajectory import object_tubes
from pipeline.method.pixels import normalise
from pipeline.method.sigma import Prediction, SigmaModel
from pipeline.method.tubes import TubeGrid
from pipeline.report import gallery, pictures, results, selection, strips
from pipeline.report.formats import environment
from pipeline.report.gallery import Gallery
from pipeline.report.page import split_uses
from pipeline.report.results import Results
from pipeline.runtime.pages import data_uri
from pipeline.weights import hub

from .experiments import HOSTILE, Experiment


@pytest.fixture(scope="module")
def found(experiment: Experiment) -> Results:
    with contextlib.chdir(experiment.folder):
        return results.read(experiment.params)


@pytest.fixture(scope="module")
def drawn(experiment: Experiment, found: Results) -> Gallery:
    with contextlib.chdir(experiment.folder):
        split, clips = gallery.choose_clips(found)
        return gallery.gallery(found.runs[0], found.params.data.clip, split, clips)


@given(st.lists(st.integers(), min_size=1, max_size=50, unique=True), st.integers(1, 60))
def test_evenly_spaced_takes_distinct_items_in_order(items: list[int], count: int) -> None:
    """Catches an item twice, one too many, or the first one (the most used) left out."""
    chosen = selection.evenly_spaced(items, count)
    assert len(chosen) == min(count, len(items))
    assert chosen[0] == items[0]
    places = [items.index(item) for item in chosen]
    assert places == sorted(set(places))
    gaps = np.diff([*places, len(items)])
    assert gaps.max() - gaps.min() <= 1


def test_nearest_tubes_are_the_nearest_of_all(
    experiment: Experiment, found: Results, drawn: Gallery
) -> None:
    """Catches a tube that is not the best of its clip, or a clip left out: against brute force."""
    with contextlib.chdir(experiment.folder):
        _, clips = gallery.choose_clips(found)
        videos = strips.read_videos(clips, found.params.data.clip)
        model = hub.load(found.runs[0].layout.weights)
    scores = model.tube_scores(normalise(torch.from_numpy(videos))).numpy()  # B,N,K
    tubes_per_frame = model.grid.height * model.grid.width
    assert len(drawn.prototypes) == gallery.PROTOTYPES
    for prototype in drawn.prototypes:
        column = scores[:, :, prototype.number]
        expected = sorted(
            (
                (row.max(), clip.id, row.argmax() // tubes_per_frame)
                for row, clip in zip(column, clips, strict=True)
            ),
            reverse=True,
        )[: gallery.NEAREST]
        for tube, (cosine, clip, t) in zip(prototype.tubes, expected, strict=True):
            assert tube.similarity == pytest.approx(cosine, abs=1e-5)
            assert (tube.clip, tube.frame, tube.last) == (clip, 2 * t, 2 * t + 2)


def test_counts_of_the_gallery_add_up(found: Results, drawn: Gallery) -> None:
    """Catches a census of prototypes over other clips or tubes than it says."""
    prototypes = found.params.runs["sigma_mlp"].objective.loss.prototypes
    assert (drawn.split, drawn.clips, drawn.of) == ("val", 6, prototypes)
    assert drawn.tubes == 6 * 64
    assert drawn.nearest <= drawn.of
    assert drawn.assigned <= drawn.of
    shares = [prototype.share for prototype in drawn.prototypes]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1
    assert HOSTILE in {tube.clip for each in drawn.prototypes for tube in each.tubes}


def test_galleries_are_cut_to_the_room_there_is(drawn: Gallery) -> None:
    """Catches a page that grows beyond its limit with the number of runs."""
    limit = drawn.size // 2
    kept = selection.within([drawn, drawn], gallery.PROTOTYPES, limit)
    assert sum(each.size for each in kept) <= limit
    assert kept[0].prototypes[0] == drawn.prototypes[0]
    assert selection.within([drawn], gallery.PROTOTYPES, drawn.size) == [drawn]
    assert selection.within([drawn], gallery.PROTOTYPES, 10) == []


@given(st.integers(0, 4 * 4 * 4 - 1))
def test_a_tube_is_outlined_where_it_is(number: int) -> None:
    """Catches a line around another tube, over the tube itself, or in another frame."""
    grid = TubeGrid(4, 4, 4, (2, 8, 8))
    video = np.zeros((8, 32, 32, 3), np.uint8)
    t, y, x = np.unravel_index(number, (4, 4, 4))
    tube = (slice(2 * t, 2 * t + 2), slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8))
    video[tube] = (10, 20, 30)
    picture = gallery.draw_tube(video, number, grid)
    scale, border = gallery.PICTURE // 24, pictures.BORDER
    height = 24 * scale + 2 * border
    assert picture.shape == (2 * height + gallery.GAP, height, 4)
    for frame in (picture[:height], picture[height + gallery.GAP :]):
        inside = (frame[..., :3] == (10, 20, 30)).all(axis=2)
        # Where the tube touches the rim its colour goes on under the line's outer side.
        core = np.argwhere(inside[border:-border, border:-border])
        assert len(core) == (8 * scale) ** 2
        (top, left), (bottom, right) = core.min(axis=0) + border, core.max(axis=0) + border
        assert (frame[top - 1, left : right + 1, :3] == pictures.LINE).all()
        assert (frame[bottom + 1, left : right + 1, :3] == pictures.LINE).all()
        assert (frame[top : bottom + 1, left - 1, :3] == pictures.LINE).all()
        assert (frame[top : bottom + 1, right + 1, :3] == pictures.LINE).all()


def test_hidden_pixels_are_those_of_masked_tubes() -> None:
    """Catches axes in another order: against the model's own way of cutting clips into tubes."""
    grid = TubeGrid(2, 3, 4, (2, 8, 4))
    hidden = np.random.default_rng(0).random((5, grid.count)) < 0.5
    tubes = torch.from_numpy(hidden)[:, :, None].expand(-1, -1, grid.pixels).float()
    expected = grid.join(tubes)[:, 0].numpy() > 0
    assert np.array_equal(strips.hidden_pixels(hidden, grid), expected)


def test_masks_hide_what_the_configuration_says() -> None:
    """Catches strips that show another ratio than training uses, or the same mask for each clip."""
    grid = TubeGrid(4, 4, 4, (2, 8, 8))
    videos = np.zeros((4, 8, 32, 32, 3), dtype=np.uint8)
    hidden = strips.draw_masks(TubeMask(ratio=0.75), grid, videos)
    assert hidden.sum(axis=1).tolist() == [48] * 4
    assert len({row.tobytes() for row in hidden}) > 1


def test_pasted_objects_are_shown_where_they_are_hidden() -> None:
    """Catches strips without a run's objects, and masks of other objects than those shown."""
    grid = TubeGrid(4, 8, 8, (2, 8, 8))
    videos = np.zeros((3, 8, 64, 64, 3), dtype=np.uint8)
    shown, facts = strips.with_objects(videos, Paste(source="digits", count=1))
    hidden = strips.draw_masks(TrajectoryMask(0.75, shown=0.0), grid, shown, facts=facts)
    assert hidden.sum(axis=1).tolist() == [4 * 48] * 3
    assert (shown != videos).any(axis=(1, 2, 3, 4)).all()
    for mask, fact in zip(hidden, facts, strict=True):
        assert fact.boxes is not None
        assert mask[object_tubes(fact.boxes, grid.shape, grid.tube)].all()
    assert strips.with_objects(videos, None)[0] is videos


class Oracle(SigmaModel):
    """A pixel model that has learned everything: it predicts its targets."""

    def forward(self, videos: Tensor, mask: Tensor) -> Prediction:
        prediction = super().forward(videos, mask)
        return prediction._replace(decoded=prediction.targets)


def test_a_perfect_prediction_fills_in_the_input(experiment: Experiment) -> None:
    """Catches a wrong way back from normalised tubes to pixels, and tubes in the wrong place."""
    run, clip = experiment.params.runs["pixel"], experiment.params.data.clip
    model = sigma_model(run.model, run.objective, clip)
    model.__class__ = Oracle
    shape = (3, clip.frames, clip.size, clip.size, 3)
    videos = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    hidden = strips.draw_masks(run.objective.mask, model.grid, videos)
    filled = strips.reconstruct(model, videos, hidden)
    assert np.abs(filled.astype(int) - videos).max() <= 1


def test_what_is_visible_stays_as_it_is(experiment: Experiment) -> None:
    """Catches a reconstruction that paints over what the encoder was given."""
    run, clip = experiment.params.runs["pixel"], experiment.params.data.clip
    torch.manual_seed(0)
    model = sigma_model(run.model, run.objective, clip)
    shape = (2, clip.frames, clip.size, clip.size, 3)
    videos = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    hidden = strips.draw_masks(run.objective.mask, model.grid, videos)
    filled = strips.reconstruct(model, videos, hidden)
    seen = ~strips.hidden_pixels(hidden, model.grid)
    assert np.abs(filled[seen].astype(int) - videos[seen]).max() <= 1
    assert np.abs(filled[~seen].astype(int) - videos[~seen]).mean() > 5


def test_strips_show_the_runs_that_share_a_mask(experiment: Experiment, found: Results) -> None:
    """Catches strips of the untrained run, and the same strips twice."""
    with contextlib.chdir(experiment.folder):
        (runs,) = strips.hiding_alike(found)
        group = strips.strip_group(runs, found.params.data.clip, *gallery.choose_clips(found))
    assert group.runs == ("sigma_mlp", "pixel")
    names = ["input", "what the encoder sees", "filled in by pixel"]
    assert [name for name, _ in group.strips[0].rows] == names
    seen = decode(group.strips[0].rows[1][1])
    transparent = (seen == pictures.HIDDEN).all(axis=2).mean()
    assert transparent == pytest.approx(0.75 * 8 * 96 / seen.shape[1], abs=1e-3)


def test_weights_of_others_hide_nothing(found: Results) -> None:
    """Catches masks, and pixels filled in by a decoder of random weights, of runs that were given
    an encoder; and a split that is said to be for a pretraining that there is none of."""
    given = tuple(
        replace(run, settings=run.settings.model_copy(update={"weights": "a.pth", "trainer": none}))
        for run in found.runs
        for none in [run.settings.trainer.model_copy(update={"epochs": 0})]
    )
    others = replace(found, runs=given)
    assert strips.hiding_alike(others) == []
    assert split_uses(found)["train"] == "pretraining, what probes learn from"
    assert split_uses(others)["train"] == "what probes learn from"


METHODS = composition.parse(composition.compose(("experiment=methods",)), place="test")
MASKS_OF = {name: run.objective.mask for name, run in METHODS.runs.items()}


@pytest.mark.parametrize("mask", MASKS_OF.values(), ids=MASKS_OF)
def test_every_kind_of_mask_is_told(mask: Mask) -> None:
    """Catches a sentence about what some kinds of mask have and others have not."""
    strip = strips.Strip("a", 2, (("input", "data:,"), ("what the encoder sees", "data:,")))
    group = strips.StripGroup(("x",), mask, TubeGrid(4, 4, 4, (2, 8, 8)), "test", 48, (strip,))
    shown = SimpleNamespace(strips=[group], overlays=[])
    told = environment().get_template("masks.html").render(pictures=shown, colours={})
    assert f"{mask.kind.replace('_', ' ').capitalize()} masking" in told
    assert "hides 48 of 64 tubes" in told


def decode(address: str) -> pictures.Picture:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(content)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_png_keeps_every_pixel(height: int, width: int, gap: int) -> None:
    """Catches channels or rows that change on the way into the page."""
    rng = np.random.default_rng(height * 100 + width)
    parts = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]
    row = decode(data_uri(pictures.row(parts, gap)))
    assert row.shape == (height, 2 * width + gap, 4)
    assert np.array_equal(row[:, :width, :3], parts[0])
    assert np.array_equal(row[:, width + gap :, :3], parts[1])
    assert (row[:, :width, 3] == 255).all()
    assert (row[:, width : width + gap] == 0).all()
