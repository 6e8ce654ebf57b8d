"""What makes the motion label hard: nothing but the order of the frames gives it away."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.configuration.composition import CONF
from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import MOTIONS, render
from pipeline.data.synthetic.motions import progress
from pipeline.data.synthetic.randomness import Uniform
from pipeline.data.synthetic.scene import draw, picture

PAIRS = [("right", "left"), ("down", "up"), ("clockwise", "anticlockwise")]
PAIRS += [("growing", "shrinking")]


@pytest.fixture(scope="module")
def settings() -> Synthetic:
    import yaml

    text = (CONF / "data" / "synthetic.yaml").read_text(encoding="utf-8")
    return Synthetic(**yaml.safe_load(text)["synthetic"])


@pytest.fixture(scope="module")
def clips(settings):
    """1,200 clips as mean grey frames (n, T, 16, 16), masks and motions."""
    drawn = [render(settings, "train", index) for index in range(1200)]
    grey = np.stack([clip.frames.mean(axis=3) for clip in drawn])
    coarse = grey.reshape(len(drawn), settings.frames, 16, 2, 16, 2).mean(axis=(3, 5))
    motions = np.array([clip.labels["motion"] for clip in drawn])
    return coarse, np.stack([clip.masks for clip in drawn]), motions


def test_every_motion_has_its_reversal():
    """A motion added without its counterpart would be told by a bag of frames."""
    by_path = sorted(MOTIONS.items(), key=lambda item: item[1].path.__name__)
    for _, members in groupby(by_path, key=lambda item: item[1].path):
        assert sorted(motion.backwards for _, motion in members) == [False, True]
    assert sorted(name for pair in PAIRS for name in pair) == sorted(MOTIONS)


@pytest.mark.parametrize("pair", PAIRS)
@given(key=st.integers(0, 2**32), image=st.integers(0, 1796))
@hypothesis_settings(max_examples=10)
def test_a_pair_shows_the_same_frames_in_opposite_order(settings, pair, key, image):
    """A sign forgotten in one member: its frames would no longer be the other's, reversed."""
    forwards, backwards = (picture(draw(settings, image, Uniform(key)), name) for name in pair)
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, other[::-1])


@pytest.mark.parametrize("pair", PAIRS)
def test_nothing_else_in_a_clip_depends_on_its_motion(settings, pair):
    """A background, colour or start that is drawn differently under another motion."""
    one = settings.model_copy(update={"motions": pair})
    other = settings.model_copy(update={"motions": pair[::-1]})
    for index in range(20):
        clip, reversed_clip = render(one, "train", index), render(other, "train", index)
        assert {clip.labels["motion"], reversed_clip.labels["motion"]} == set(pair)
        assert clip.labels["digit"] == reversed_clip.labels["digit"]
        np.testing.assert_array_equal(clip.frames, reversed_clip.frames[::-1])


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_frame_by_itself_is_uniform_under_every_motion(settings, motion):
    """Start points or sizes from which the motion could be guessed by one frame and its number."""
    starts = [draw(settings, 0, Uniform(7, index)).start for index in range(600)]
    paths = [MOTIONS[motion].path(start) for start in starts]
    for quantity, circle in (("x", settings.size), ("y", settings.size), ("scale", 1)):
        values = np.stack([getattr(path, quantity) for path in paths]) % circle / circle
        for frame in (0, settings.frames // 2, settings.frames - 1):
            assert kstest(values[:, frame], "uniform").pvalue > 1e-3, (quantity, frame)


def _accuracy(features, labels) -> float:
    """Held-out accuracy of a logistic regression, trained on the first two thirds."""
    features = StandardScaler().fit_transform(features.reshape(len(features), -1))
    cut = len(labels) * 2 // 3
    model = LogisticRegression(C=1e-3, max_iter=200).fit(features[:cut], labels[:cut])
    return float(model.score(features[cut:], labels[cut:]))


def test_bags_of_frames_do_not_tell_a_pair_apart(clips):
    """Any leak into the unordered frames: their mean and their spread over time, per pixel."""
    frames, _, motions = clips
    bag = np.concatenate([frames.mean(axis=1), frames.std(axis=1)], axis=1)
    for pair in PAIRS:
        chosen = np.isin(motions, pair)  # 300 clips, 100 held out: deviation 5 %
        assert 0.35 < _accuracy(bag[chosen], motions[chosen]) < 0.65


@pytest.mark.parametrize("frame", [0, -1])
def test_a_single_frame_does_not_tell_motions_apart(clips, frame):
    """Start points or sizes that give the motion away in the first or the last frame."""
    frames, _, motions = clips
    assert _accuracy(frames[:, frame], motions) < 0.125 + 3 * 0.0165  # chance, 3 deviations of 400


def test_a_linear_readout_of_all_pixels_is_far_from_solving_it(clips):
    """The fault of the first trial: positions that a linear map of the pixels reads off.

    Not at chance: every motion has the same mean picture, but a linear score's spread differs.
    """
    frames, _, motions = clips
    coarser = frames.reshape(*frames.shape[:2], 8, 2, 8, 2).mean(axis=(3, 5))
    assert _accuracy(coarser, motions) < 0.25


def test_masks_show_the_motion_that_the_label_names(settings, clips):
    """Swapped labels, or masks that do not follow the digit: an oracle that sees masks alone."""
    _, masks, motions = clips
    pixel = np.exp(2j * np.pi * np.arange(settings.size) / settings.size)
    across = np.angle((masks.sum(axis=2) * pixel).sum(axis=2))  # n, T: circular centres
    along = np.angle((masks.sum(axis=3) * pixel).sum(axis=2))

    def steps(angle):
        return (np.diff(angle, axis=1) + np.pi) % (2 * np.pi) - np.pi

    dx, dy = steps(across), steps(along)
    turn = (dx[:, :-1] * dy[:, 1:] - dy[:, :-1] * dx[:, 1:]).mean(axis=1)
    growth = np.median(np.diff(masks.sum(axis=(2, 3)).astype(int), axis=1), axis=1)
    signs = {"right": dx.mean(1), "down": dy.mean(1), "clockwise": turn, "growing": growth}
    for forwards, backwards in PAIRS:
        assert np.mean(signs[forwards][motions == forwards] > 0) > 0.97, forwards
        assert np.mean(signs[forwards][motions == backwards] < 0) > 0.97, backwards


@given(frames=st.integers(2, 30), acceleration=st.floats(-1, 1))
def test_progress_never_goes_back_and_has_unit_mean_speed(frames, acceleration):
    """An acceleration that changes the mean speed, or turns the motion round within a clip."""
    steps = np.diff(progress(frames, acceleration))
    assert np.all(steps >= -1e-9)
    if frames > 2:
        assert steps.mean() == pytest.approx(1)
