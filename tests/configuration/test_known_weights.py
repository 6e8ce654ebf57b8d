"""Weights that know their geometry: it is the default, and what contradicts it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from pipeline.cli import main as cli
from pipeline.cli.doctor import training
from pipeline.configuration import composition, fitting_weights, known_weights
from pipeline.configuration.known_weights import CLIP_KEY, ENCODER_FORMAT, MODEL_FORMAT
from pipeline.configuration.schema import Params
from pipeline.errors import UserError

CLIP = {"frames": 16, "size": 64, "stride": 3, "sampling": "dense", "scales": [1.0], "flip": False}
FOLDER = ("data=folder", "data.name=mine", "data.manifest=videos.csv")
CHANGES = {"tube": [2, 16, 16], "width": 48, "heads": 3, "depth": 2}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(composition.compose(["experiment=tiny"]))
    return values


def ours(folder: Path, tiny: dict[str, Any], **clip: Any) -> Path:
    run = json.loads(json.dumps(tiny["runs"]["sigma_mlp"]))
    run["model"] |= CHANGES
    config = {"format": MODEL_FORMAT, "run": run, "clip": CLIP | clip, "seen": {"fps": 12.0}}
    return written(folder / "model.safetensors", config)


def exported(folder: Path, tiny: dict[str, Any]) -> Path:
    model = tiny["runs"]["sigma_mlp"]["model"] | CHANGES
    config = {"format": ENCODER_FORMAT, "kind": "k", "model": model, "clip": CLIP}
    return written(folder / "model.safetensors", config | {"seen": {"fps": 12.0}})


def hugging_face(folder: Path, _: dict[str, Any]) -> Path:
    content = {
        "model_type": "videomae", "image_size": 64, "num_frames": 16, "tubelet_size": 2,
        "patch_size": 16, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 192, CLIP_KEY: {"stride": 3, "sampling": "dense", "fps": 12.0},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(content))
    written(folder / "model.safetensors", {})
    return folder


def written(path: Path, config: dict[str, Any]) -> Path:
    save_file({"x": np.zeros(1)}, path, {"config": json.dumps(config)})
    return path


def composed(path: Path, *overrides: str) -> Params:
    given = ["experiment=encoder", f"runs.encoder.weights={path}", *overrides]
    return composition.validate(yaml.safe_load(composition.compose(given)), place="")


@pytest.mark.parametrize("write", [ours, exported, hugging_face])
def test_the_weights_geometry_is_the_default(
    tmp_path: Path, tiny: dict[str, Any], write: Callable[..., Path]
) -> None:
    """Catches an encoder that is given other clips than its own without a word, and the untrained
    one beside it that is another network."""
    params = composed(write(tmp_path, tiny))
    clip = params.data.clip
    assert (clip.frames, clip.size, clip.stride, clip.sampling) == (16, 64, 3, "dense")
    assert params.data.decode.short_side == 64
    assert params.segmentation.frames == (16, 4)
    for run in params.runs.values():
        assert (run.model.tube, run.model.width, run.model.depth) == ((2, 16, 16), 48, 2)
    lists = composed(tmp_path, *FOLDER) if write is hugging_face else None
    if lists is not None:
        assert lists.data.decode.fps == 12
        assert lists.data.decode.short_side >= 64


def test_a_larger_encoder_says_what_it_would_redo(
    tmp_path: Path, tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a new row that has all data decoded and all rows scored anew without a word; a
    note of what does not happen; a way to keep what is there that does not keep it."""
    for name, size in (("small", 64), ("large", 96)):
        (tmp_path / name).mkdir()
        ours(tmp_path / name, tiny, size=size)
    output = str(tmp_path / "x.yaml")

    def said(names: str, *overrides: str) -> str:
        encoders = ",".join(f"{tmp_path}/{name}/model.safetensors" for name in names.split())
        lines = ["experiment=encoders", f"encoders=[{encoders}]", *overrides]
        assert cli.main(["compose", *lines, "-o", output]) == 0
        return capsys.readouterr().err

    assert "note:" not in said("small")
    assert "note:" not in said("small", "name=other")
    kept = "data.decode.short_side=64"
    assert "note:" not in said("small")
    assert "stored at 64 pixels and is to be at 96, as an encoder" in (note := said("small large"))
    assert kept in note
    assert "note:" not in said("small large")  # it is so already
    assert "note:" not in said("small")
    assert "note:" not in said("small large", kept)
    assert composition.load(Path(output)).data.decode.short_side == 64


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.clip.frames=8", "frames 16, here 8"),
        ("data.clip.size=32", "size 64, here 32"),
        ("data.clip.stride=1", "stride 3, here 1"),
        ("data.clip.sampling=per_segment", "sampling dense, here per_segment"),
    ],
)
def test_other_clips_are_refused_or_deliberate(
    tmp_path: Path, tiny: dict[str, Any], override: str, said: str
) -> None:
    """Catches a contradiction that only the scores would show; a deliberate one is let through."""
    path = ours(tmp_path, tiny)
    with pytest.raises(UserError, match=said) as caught:
        composed(path, override)
    assert "allow_other_clip=true" in caught.value.remedy
    params = composed(path, override, "runs.encoder.allow_other_clip=true")
    known = known_weights.known(path)
    assert known is not None
    assert said in fitting_weights.differences(known, params.data.clip, None)


def test_another_rate_is_refused(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Catches videos of another rate than the model's, where the list's are brought to one."""
    path = ours(tmp_path, tiny)
    with pytest.raises(UserError, match="frames a second 12, here 25"):
        composed(path, *FOLDER, "data.decode.fps=25")


def test_another_encoder_is_refused_before_anything_is_fetched(
    tmp_path: Path, tiny: dict[str, Any]
) -> None:
    """Catches a tube that does not fit, found only after download, decode and shards; nor does the
    consent to other clips help."""
    path = ours(tmp_path, tiny)
    for consent in ([], ["runs.encoder.allow_other_clip=true"]):
        with pytest.raises(UserError, match="tube 2x16x16, here 4x8x8"):
            composed(path, "model=demo", *consent)


def test_doctor_tells_what_contradicts(tmp_path: Path, tiny: dict[str, Any]) -> None:
    """Catches settings that were right when they were composed, and weights that were replaced."""
    path = ours(tmp_path, tiny)
    params = composed(path)
    assert not [each for each in training.inputs(params) if each.is_failure]
    other = composed(path, "data.clip.frames=8", "runs.encoder.allow_other_clip=true")
    meant = {each.subject: each for each in training.inputs(other)}["geometry of encoder"]
    assert (meant.status, meant.is_failure) == ("warning", False)
    assert "frames 16, here 8" in meant.found
    ours(tmp_path, tiny, frames=8)
    failures = [each for each in training.inputs(params) if each.is_failure]
    assert [each.subject for each in failures] == ["geometry of encoder"]
    assert "frames 8, here 16" in failures[0].found


@pytest.mark.parametrize(
    "config",
    [
        {"format": MODEL_FORMAT},
        {"format": MODEL_FORMAT, "run": 3, "clip": None},
        {"format": ENCODER_FORMAT, "kind": "k", "model": {"width": -1}, "clip": CLIP},
    ],
)
def test_what_cannot_be_understood_is_said(tmp_path: Path, config: dict[str, Any]) -> None:
    """Catches a traceback for metadata that somebody has edited."""
    path = written(tmp_path / "model.safetensors", config)
    with pytest.raises(UserError, match="cannot be used"):
        known_weights.known(path)


@pytest.mark.parametrize(
    "change",
    [
        {CLIP_KEY: 3}, {CLIP_KEY: {"stride": 0}}, {CLIP_KEY: {"fps": -1}}, {"num_frames": None},
        {"image_size": "big"}, {"layer_norm_eps": "x"}, {"id2label": []}, {"hidden_size": True},
        {"qkv_bias": False}, {"num_attention_heads": 0}, {"image_size": [64, 32]},
    ],
)  # fmt: skip
def test_a_broken_config_json_is_one_message(tmp_path: Path, change: dict[str, Any]) -> None:
    """Catches a traceback, and a value that is taken for another."""
    folder = hugging_face(tmp_path, {})
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {CLIP_KEY: None}))
    known = known_weights.known(folder)
    assert known is not None
    assert "stride" not in known.seen
    (folder / "config.json").write_text(json.dumps(content | change))
    with pytest.raises(UserError, match="cannot be used"):
        known_weights.known(folder)


def test_weights_that_say_nothing_or_are_not_there(tmp_path: Path) -> None:
    """Catches a composition that needs weights which a later download brings."""
    assert known_weights.known(tmp_path / "none.safetensors") is None
    assert known_weights.known(written(tmp_path / "a.safetensors", {})) is None
    (tmp_path / "a.pth").write_bytes(b"")
    assert known_weights.known(tmp_path / "a.pth") is None


def test_reading_a_header_needs_no_torch() -> None:
    """Catches a composition that costs seconds."""
    code = "import sys, pipeline.configuration.follow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
