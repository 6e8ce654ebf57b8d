"""The embedded data set: handwritten digits that move over textured, panning backgrounds.

docs/synthetic.md says what is drawn, why it is hard, and what each setting does.
"""

from pipeline.data.synthetic.dataset import (
    SPLITS,
    Rendered,
    labels_of,
    parse,
    parse_id,
    render,
    rows,
)
from pipeline.data.synthetic.motions import MOTIONS
from pipeline.data.synthetic.video import masks_path, write_videos

# Raised whenever the frames of the same settings change, so that old videos are made again.
VERSION = 1

__all__ = [
    "MOTIONS",
    "SPLITS",
    "VERSION",
    "Rendered",
    "labels_of",
    "masks_path",
    "parse",
    "parse_id",
    "render",
    "rows",
    "write_videos",
]
