"""Objects that are pasted into clips: where their boxes say, the same again, from any source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.configuration.schema import Objective, Paste
from pipeline.data.load import pasting
from pipeline.data.load.order import sample_rng
from pipeline.errors import UserError
from pipeline.method.losses import MseLoss
from pipeline.method.masks import TrajectoryMask
from pipeline.method.masks.base import ClipFacts
from pipeline.method.masks.trajectory import object_tubes
from pipeline.method.targets import PixelTarget

VIDEO = np.full((8, 64, 64, 3), 7, np.uint8)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A folder with a red disc, and a green square in a folder of it; both mostly transparent."""
    rows, columns = np.ogrid[-20:20, -20:20]
    disc = np.zeros((60, 80, 4), np.uint8)
    disc[10:50, 20:60][rows**2 + columns**2 < 300] = (255, 0, 0, 255)
    Image.fromarray(disc, "RGBA").save(tmp_path / "disc.png")
    square = np.zeros((30, 30, 4), np.uint8)
    square[5:25, 5:25] = (0, 255, 0, 255)
    (tmp_path / "deeper").mkdir()
    Image.fromarray(square, "RGBA").save(tmp_path / "deeper" / "square.png")
    (tmp_path / "readme.txt").write_text("no picture")
    return tmp_path


@pytest.mark.parametrize("seed", range(8))
def test_objects_are_where_their_boxes_say(seed: int, objects: Path) -> None:
    """Catches boxes of other frames or axes, and a clip that is changed in place."""
    settings = Paste(source=str(objects), count=2)
    pasted, boxes = pasting.paste(VIDEO, settings, sample_rng(seed, 0, 0))
    again, _ = pasting.paste(VIDEO, settings, sample_rng(seed, 0, 0))
    assert np.array_equal(pasted, again)
    assert (VIDEO == 7).all()
    assert boxes.shape == (2, 8, 4)
    changed = (pasted != 7).any(-1)
    assert changed.any(axis=(1, 2)).all()
    rows, columns = np.mgrid[:64, :64]
    for time in range(8):
        near = np.zeros((64, 64), np.bool_)
        for left, top, right, bottom in boxes[:, time]:
            # Turned, a cut-out reaches as far out of its box as the box's diagonal.
            reach = np.hypot(right - left, bottom - top) / 2 + 2
            near |= np.hypot(columns - (left + right) / 2, rows - (top + bottom) / 2) < reach
        assert not (changed[time] & ~near).any()


def test_masks_hide_objects(objects: Path) -> None:
    """Catches a mask that looks at other boxes than those of the clip."""
    settings = Paste(source=str(objects), count=1)
    rng = sample_rng(0, 0, 0)
    pasted, boxes = pasting.paste(VIDEO, settings, rng)
    mask = TrajectoryMask(0.75, shown=0.0).draw_knowing(
        (4, 8, 8), rng, pasted, ClipFacts(boxes=boxes)
    )
    touched = object_tubes(boxes, (4, 8, 8), (2, 8, 8))
    assert mask.sum() == 4 * 48
    assert mask[touched].all()


def test_digits_are_cut_out() -> None:
    """Catches digits in a square of colour."""
    alpha = np.asarray(pasting.cutout("digits", sample_rng(0, 0, 0)))[..., 3]
    assert (alpha == 0).mean() > 0.1
    assert (alpha == 255).mean() > 0.1


def test_sources_that_have_no_objects_are_named(tmp_path: Path) -> None:
    """Catches a training without objects, and a message that does not say what to do."""
    with pytest.raises(UserError, match="no PNG or WebP") as caught:
        pasting.cutout(str(tmp_path), sample_rng(0, 0, 0))
    assert "digits" in caught.value.remedy
    Image.new("RGBA", (4, 4)).save(tmp_path / "empty.png")
    pasting._pictures.cache_clear()
    with pytest.raises(UserError, match="transparent"):
        pasting.cutout(str(tmp_path), sample_rng(0, 0, 0))
    (tmp_path / "empty.png").write_text("no picture")
    with pytest.raises(UserError, match=r"empty\.png is no picture"):
        pasting.cutout(str(tmp_path), sample_rng(0, 0, 0))


def test_a_mask_of_objects_needs_objects() -> None:
    """A combination that makes no sense is refused with the reason."""
    settings = {"name": "x", "target": PixelTarget(), "loss": MseLoss()}
    with pytest.raises(ValueError, match=r"objective\.paste"):
        Objective(**settings, mask=TrajectoryMask(0.75))
    Objective(**settings, mask=TrajectoryMask(0.75), paste=Paste(source="digits"))
