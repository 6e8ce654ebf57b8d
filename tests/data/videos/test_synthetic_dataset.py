"""Which clips there are, and that each is a pure function of its settings, split and number."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from pipeline.configuration.composition import CONF
from pipeline.configuration.schema import Synthetic
from pipeline.data.synthetic import SPLITS, VERSION, digits, parse, render, rows, textures
from pipeline.data.synthetic.randomness import Uniform
from pipeline.data.synthetic.scene import draw, picture
from pipeline.errors import UserError


@pytest.fixture(scope="module")
def settings() -> Synthetic:
    text = (CONF / "data" / "synthetic.yaml").read_text(encoding="utf-8")
    return Synthetic(**yaml.safe_load(text)["synthetic"])


def _digest(settings: Synthetic, split: str, index: int) -> str:
    clip = render(settings, split, index)
    return hashlib.sha256(clip.frames.tobytes() + clip.masks.tobytes()).hexdigest()


def test_splits_share_no_digit_image():
    """A test digit that was seen in training, as the same row or as an identical picture."""
    pictures, classes = load_digits().images, load_digits().target
    seen: dict[bytes, str] = {}
    for split in SPLITS:
        for digit, images in enumerate(digits.images_of(split)):
            assert len(images) >= 15, (split, digit)
            for image in images:
                assert classes[image] == digit
                assert seen.setdefault(pictures[image].tobytes(), split) == split
    chosen = [image for split in SPLITS for images in digits.images_of(split) for image in images]
    assert sorted(chosen) == list(range(len(pictures)))


def test_splits_share_no_background(settings):
    """Splits that draw from the same seed would show the same backgrounds."""
    seen = set()
    for split in SPLITS:
        for index in range(50):
            uniform = Uniform(settings.seed, SPLITS.index(split), index, 1)
            drawn = draw(settings, 0, uniform)
            seen |= {drawn.background.spectrum.tobytes(), drawn.digit.spectrum.tobytes()}
    assert len(seen) == 2 * 3 * 50


def test_rows_list_every_clip_once_with_balanced_labels(settings):
    """Missing clips, ids that collide, or labels whose counts make chance differ from 1 / n."""
    listed = rows(settings)
    assert Counter(row["split"] for row in listed) == {
        split: getattr(settings, split) for split in SPLITS
    }
    assert len({row["id"] for row in listed}) == len(listed)
    for split in SPLITS:
        cells = Counter((row["motion"], row["digit"]) for row in listed if row["split"] == split)
        assert len(cells) == len(settings.motions) * 10
        assert max(cells.values()) - min(cells.values()) <= 1
    assert all(row["label"] == row["motion"] for row in listed)
    assert listed[0] | {"id": "train-00000", "synthetic": "train:0"} == listed[0]


def test_labels_in_the_list_are_those_of_the_frames(settings):
    """A manifest that promises other labels than the clip shows."""
    for row in rows(settings)[:: len(rows(settings)) // 20]:
        shown = render(settings, *parse(row["synthetic"])).labels
        assert shown == {"motion": row["motion"], "digit": row["digit"]}


def test_more_clips_leave_the_earlier_ones_as_they_were(settings):
    """A data set that is made anew from the first clip when it grows."""
    more = settings.model_copy(update={"train": settings.train + 7})
    assert rows(more)[: settings.train] == rows(settings)[: settings.train]
    assert _digest(more, "train", 3) == _digest(settings, "train", 3)


def test_another_process_draws_the_same_bytes(settings):
    """Hidden state: a global generator, a hash seed, or the order in which clips are drawn."""
    clips = [("train", 5), ("val", 0), ("test", 11)]
    script = (
        "import hashlib, sys\n"
        "from pipeline.configuration.schema import Synthetic\n"
        "from pipeline.data.synthetic import render\n"
        "settings = Synthetic.model_validate_json(sys.argv[1])\n"
        f"for split, index in {clips[::-1]}:\n"
        "    clip = render(settings, split, index)\n"
        "    data = clip.frames.tobytes() + clip.masks.tobytes()\n"
        "    print(hashlib.sha256(data).hexdigest())\n"
    )
    command = [sys.executable, "-c", script, settings.model_dump_json()]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=CONF.parent.parent
    )
    assert done.stdout.split()[::-1] == [_digest(settings, *clip) for clip in clips]


def test_every_clip_and_every_seed_is_different(settings):
    """A key that ignores the number, the split or the seed."""
    other = settings.model_copy(update={"seed": settings.seed + 1})
    digests = {_digest(s, split, i) for s in (settings, other) for split in SPLITS for i in (0, 1)}
    assert len(digests) == 12


def test_frames_are_those_of_the_recorded_version():
    """A change of the frames without a new VERSION, which would leave old videos in place.

    Recorded from this generator itself at VERSION 1; a tolerance of one level allows for another
    processor's rounding. Draw other frames on purpose: raise VERSION and record anew.
    """
    fixed = Synthetic(
        seed=3, train=1, val=0, test=0, size=16, frames=3, fps=8,
        motions=("left", "right"), digit_size=(8, 12), contrast=0.9, texture=0.2, fall=(0.8, 1.4),
        tint=0.2, both_polarities=True, speed=(1, 2), period=(8, 14), acceleration=0.3, pan=(0, 1),
        tilt=15,
    )  # fmt: skip
    recorded = {
        1: [43, 65, 98, 98, 3, 75, 106, 83, 72, 107, 132, 140, 82, 108, 64, 91, 35, 54, 192, 107,
            11, 79, 103, 105, 87, 110, 135, 130, 65, 107, 189, 104, 40, 80, 118, 101, 29, 97, 102,
            120, 90, 118, 119, 122, 58, 106, 110, 106],
    }  # fmt: skip
    shown = render(fixed, "train", 0).frames[:, ::5, ::5, 1]
    np.testing.assert_allclose(shown.ravel().astype(int), recorded[VERSION], atol=1)


def test_frames_and_masks_have_the_promised_form(settings):
    """Axes in another order, or masks with other values than background and digit."""
    clip = render(settings, "train", 1)
    shape = (settings.frames, settings.size, settings.size)
    assert clip.frames.shape == (*shape, 3)
    assert clip.frames.dtype == clip.masks.dtype == np.uint8
    assert clip.masks.shape == shape
    assert set(np.unique(clip.masks)) == {0, 1}


@pytest.mark.parametrize("motion", ["right", "up", "clockwise", "shrinking"])
def test_masks_are_exactly_where_the_digit_changes_the_picture(settings, motion):
    """Masks one pixel off, or drawn for another moment than the frames."""
    plain = settings.model_copy(update={"texture": 0.0, "contrast": 1.0})
    for key in range(5):
        drawn = draw(plain, 100 * key, Uniform(key))
        frames, masks = picture(drawn, motion)
        empty, _ = picture(dataclasses.replace(drawn, opacity=0 * drawn.opacity), motion)
        change = np.abs(frames.astype(int) - empty).max(axis=3)
        assert change[masks == 1].min() >= 63  # half of the full contrast of 127.5, but rounding
        assert change[masks == 0].max() <= 65


@given(n=st.integers(2, 16).map(lambda half: 2 * half), key=st.integers(0, 999))
def test_textures_have_unit_variance_and_roll_when_panned(n, key):
    """Textures whose strength differs from clip to clip, or that change while they pan."""
    uniform = Uniform(key)
    half = textures.spectrum(uniform.array(n, n // 2 + 1), uniform.between(0, 2))
    still, moved, there = textures.panned(half, np.array([0, 3, 0.25]), np.array([0, -1, 0.5]))
    assert still.mean() == pytest.approx(0, abs=1e-9)
    assert still.std() == pytest.approx(1)
    assert there.std() == pytest.approx(1)
    np.testing.assert_allclose(moved, np.roll(still, (-1, 3), axis=(0, 1)), atol=1e-9)


def test_unknown_motions_and_specs_are_named(settings):
    """A spelling mistake that ends in a traceback instead of the list of what there is."""
    for motions in [("left", "sideways"), ("left", "left")]:
        with pytest.raises(UserError, match="motions") as raised:
            rows(settings.model_copy(update={"motions": motions}))
        assert "anticlockwise" in str(raised.value)
    for spec in ["train", "train:", "train:-1", "dev:1", "train:1.5", ""]:
        with pytest.raises(UserError, match="not a synthetic clip"):
            parse(spec)
