"""The embedded ingredients of SEVERE: each variant shows what its label says, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from scipy.ndimage import label as components

from pipeline.configuration.composition import CONF
from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import SPLITS, Rendered, digits, render, shapes, tasks
from pipeline.data.synthetic.randomness import Uniform
from pipeline.data.synthetic.scene import draw

VIEW = tasks.View(8, 1)


@pytest.fixture(scope="module")
def settings() -> Synthetic:
    text = (CONF / "data" / "synthetic.yaml").read_text(encoding="utf-8")
    return Synthetic(**yaml.safe_load(text)["synthetic"])


def clips(settings: Synthetic, variant: str, count: int, split: str = "train") -> list[Rendered]:
    return [tasks.render(variant, settings, VIEW, split, index) for index in range(count)]


def steps(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Displacement (T-1, 2: x, y) from each mask to the next on the circle, by their phases."""
    waves = np.fft.fft2(masks.astype(float))
    size = masks.shape[1]
    x, y = (np.angle(waves[(slice(None), *at)]) for at in ((0, 1), (1, 0)))
    turns = np.stack([np.diff(x), np.diff(y)], axis=1)
    return -np.angle(np.exp(1j * turns)) * size / (2 * np.pi)


@pytest.mark.parametrize("variant", tasks.VARIANTS)
def test_kinds_are_balanced_and_splits_differ(settings: Synthetic, variant: str) -> None:
    """Chance that is not 1 / n, clips that hidden state draws otherwise, or a test clip that is a
    train clip."""
    cells = tasks.VARIANTS[variant].cells
    found = [clip.labels["label"] for clip in clips(settings, variant, 2 * cells)]
    assert set(Counter(found).values()) == {2}
    seen = set()
    for split in SPLITS:
        clip = tasks.render(variant, settings, VIEW, split, 1)
        again = tasks.render(variant, settings, VIEW, split, 1)
        assert clip.frames.tobytes() == again.frames.tobytes()
        seen.add(clip.frames.tobytes())
    assert len(seen) == len(SPLITS)


def test_frames_are_those_of_the_recorded_version(settings: Synthetic) -> None:
    """A change of the frames without a new VERSION, which tells results of before and after apart.

    Recorded from this generator itself at VERSION 1; a tolerance of one level allows for another
    processor's rounding.
    """
    assert tasks.VERSION == 1
    for variant, values in RECORDED.items():
        shown = tasks.render(variant, settings, VIEW, "test", 3).frames[::4, 8::16, 8::16, 1]
        np.testing.assert_allclose(shown.ravel().astype(int), values, atol=1, err_msg=variant)


RECORDED = {
    "backgrounds": [175, 197, 200, 202, 168, 186, 191, 178, 197, 108, 191, 183],
    "objects": [67, 56, 59, 50, 66, 57, 59, 49, 66, 56, 58, 49],
    "speeds": [76, 65, 198, 62, 191, 65, 196, 62, 76, 183, 71, 200],
    "directions": [59, 59, 72, 64, 174, 58, 82, 64, 62, 57, 75, 181],
    "counts": [64, 61, 83, 68, 67, 62, 83, 65],
    "several": [70, 189, 75, 71, 70, 190, 191, 70, 69, 190, 77, 69],
}


def test_speeds_and_directions_are_those_of_the_label(settings: Synthetic) -> None:
    """Classes that do not differ, or by more than they say."""
    for clip in clips(settings, "speeds", 12):
        moved = np.linalg.norm(steps(clip.masks), axis=1).mean()
        assert moved == pytest.approx(float(clip.labels["label"].split()[0]), abs=0.1)
    for clip in clips(settings, "directions", 12):
        x, y = steps(clip.masks).sum(axis=0)
        assert np.degrees(np.arctan2(y, x)) == pytest.approx(
            float(clip.labels["label"][:-4]), abs=3
        )


@pytest.mark.parametrize("view", [tasks.View(8, 1), tasks.View(8, 3)], ids=str)
def test_counts_are_the_oscillations_that_the_model_sees(
    settings: Synthetic, view: tasks.View
) -> None:
    """A count that the view cuts short, or that the stride aliases to another one."""
    for index in range(12):
        clip = tasks.render("counts", settings, view, "train", index)
        assert len(clip.frames) == view.span
        seen = clip.masks[:: view.stride]
        assert len(seen) == view.frames
        place = np.concatenate([np.zeros((1, 2)), steps(seen).cumsum(axis=0)])
        along = place @ np.linalg.svd(place - place.mean(0))[2][0]
        power = np.abs(np.fft.rfft(along - along.mean()))
        assert power.argmax() == int(clip.labels["label"])


def test_several_objects_are_there_and_are_digits_of_the_split(settings: Synthetic) -> None:
    """Labels of objects that are not drawn, or one digit that is commoner than the others."""
    for clip in clips(settings, "several", 20):
        named = clip.labels["label"].split(tasks.SEPARATOR)
        assert len(set(named)) == len(named)
        most = max(len(np.setdiff1d(np.unique(mask), 0)) for mask in clip.masks)
        assert most == len(named)  # in some frame none hides another
    counts = Counter(digit for group in tasks.GROUPS for digit in group)
    assert len(set(counts.values())) == 1
    assert set(counts) == set(range(10))


def test_backgrounds_are_unseen(settings: Synthetic) -> None:
    """A domain that is the first one again: colours, grain and polarity all have to shift."""
    shifted = settings.model_copy(update=tasks.UNSEEN)

    def grounds(of: Synthetic) -> NDArray[np.float64]:
        found = []
        for key in range(30):
            surface = draw(of, 0, Uniform(key)).background
            high = np.abs(surface.spectrum)[of.size // 2 :].sum() / np.abs(surface.spectrum).sum()
            found.append([np.ptp(surface.colour), surface.colour.mean(), high])
        return np.array(found)

    first, other = grounds(settings), grounds(shifted)
    assert first[:, 0].max() < 1e-9 < other[:, 0].min()  # grey, coloured
    assert first[:, 1].max() < 0.5 < other[:, 1].max()  # dark alone, dark and light
    assert first[:, 2].max() < other[:, 2].min()  # coarse, fine


def test_shapes_are_no_digits_and_no_two_are_alike() -> None:
    """Objects that the encoder has seen, pieces instead of one object, or two names for one."""
    drawn = np.stack([shapes.glyph(name) for name in shapes.SHAPES])
    assert drawn.shape == (len(shapes.SHAPES), digits.GLYPH, digits.GLYPH)
    assert (drawn.min(), drawn.max()) == (0, 1)
    inked = drawn > 0.5
    for name, shape in zip(shapes.SHAPES, inked, strict=True):
        assert components(shape)[1] == (2 if name == "bars" else 1)
        assert not shape[[0, -1]].any()
        assert not shape[:, [0, -1]].any()  # not cut by the square
    everything = np.stack([digits.glyph(image) > 0.5 for image in range(0, 1797, 7)])
    for number, shape in enumerate(inked):
        others = np.concatenate([everything, np.delete(inked, number, axis=0)])
        iou = (shape & others).sum((1, 2)) / (shape | others).sum((1, 2))
        assert iou.max() < 0.8


def test_the_first_data_set_is_as_it_was(settings: Synthetic) -> None:
    """Random numbers that the new variants share with the first data set's clips."""
    first = render(settings, "train", 0).frames
    for variant in tasks.VARIANTS:
        for clip in clips(settings, variant, 3):
            assert clip.frames[: len(first)].tobytes() != first[: len(clip.frames)].tobytes()
