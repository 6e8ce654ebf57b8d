"""HTML pages from templates that stand by themselves: one environment, and pictures inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from PIL import Image

JPEG_QUALITY = 82
SHARED = Path(__file__).parent / "templates"  # of what all pages have


def environment(
    folder: Path, filters: Mapping[str, Callable[..., Any]] | None = None
) -> Environment:
    """Return the environment of the templates in `folder`, and of those that pages share.

    In `*.html` all values are escaped.
    """
    made = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        autoescape=select_autoescape(["html"], default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= filters or {}
    return made


def data_uri(picture: NDArray[np.uint8], kind: Literal["png", "jpeg"] = "png") -> str:
    """Return an image H,W,3 or, as PNG, also H,W,4 in a `data:` address."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=kind, optimize=True, quality=JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
