"""UMT's (Li et al. 2023) names of tensors: its encoder has ours, its heads have others."""

from __future__ import annotations

import re

HEAD = re.compile(r"decoder\.(head|norm)s\.(\d+)\.")


def their_name(name: str) -> str:
    """Return the name that UMT's pretraining has for a tensor of an aligned model."""
    return HEAD.sub(r"clip_decoder.\2.\1.", name)
