"""Image processors beside a Hugging Face model: the pixels are those of here, or it is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.method.pixels import MEAN, STD
from pipeline.weights import processor

OURS: dict[str, Any] = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 2,
}


def checked(folder: Path, content: object, name: str = "preprocessor_config.json") -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    processor.check(folder, 224)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"do_resize": False, "do_center_crop": False, "resample": 3, "crop_size": None},
        {"size": 224, "crop_size": 224},
        {
            "do_rescale": False,
            "image_mean": [255 * v for v in MEAN],
            "image_std": [255 * v for v in STD],
        },
        {
            "rescale_factor": 1 / 127.5,
            "offset": True,
            "image_mean": [2 * v - 1 for v in MEAN],
            "image_std": [2 * v for v in STD],
        },
    ],
)
def test_equal_pixels_are_taken_however_they_are_said(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """Catches a model that is refused for the words of its file."""
    checked(tmp_path, OURS | change)
    checked(tmp_path, {"image_processor": OURS | change}, "processor_config.json")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"do_normalize": False}, "do_normalize False"),
        ({"do_rescale": False}, "do_rescale False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor 0.0078"),
        ({"offset": True}, "offset True"),
        ({"rescale_offset": True, "rescale_factor": 1 / 127.5}, "rescale_offset True"),
        ({"image_mean": 0.5}, "image_mean 0.5"),
        ({"image_mean": None}, "no image_mean"),
        ({"image_mean": [0.5, 0.5, 0.5]}, "image_mean [0.5, 0.5, 0.5]"),
        ({"image_mean": [0.485, 0.456]}, "not three numbers"),
        ({"image_mean": [0.485, 0.456, float("nan")]}, "not three numbers"),
        ({"image_mean": "imagenet"}, "not three numbers"),
        ({"image_std": [0, 0, 0]}, "not above 0"),
        ({"image_std": None}, "no image_std"),
        ({"do_normalize": None}, "neither true nor false"),
        ({"do_rescale": "false"}, "neither true nor false"),
        ({"rescale_factor": None}, "no number above 0"),
        ({"rescale_factor": 0}, "no number above 0"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"do_pad": True}, "do_pad"),
        ({"crop_size": {"height": 256, "width": 256}}, "cut to"),
        ({"crop_size": "large"}, "cut to"),
    ],
)
def test_other_pixels_are_refused_in_one_message(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    """Catches features that are plausible and wrong, without a word, and tracebacks."""
    with pytest.raises(UserError) as caught:
        checked(tmp_path, OURS | change)
    assert named in caught.value.problem
    assert "Transformers" in caught.value.remedy
    with pytest.raises(UserError):
        checked(tmp_path, OURS | change, "video_preprocessor_config.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', "[" * 100_000])
def test_files_that_cannot_be_read_are_said(tmp_path: Path, text: str) -> None:
    """Catches a traceback."""
    with pytest.raises(UserError):
        checked(tmp_path, text)
    (tmp_path / "preprocessor_config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UserError, match="not valid JSON"):
        processor.check(tmp_path, 224)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(key=st.sampled_from([*OURS, "offset", "do_resize", "do_center_crop"]), value=VALUES)
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_is_taken_or_refused(tmp_path: Path, key: str, value: object) -> None:
    """Catches a traceback for whatever stands there."""
    with contextlib.suppress(UserError):
        checked(tmp_path, OURS | {key: value})
