"""Exports say what the original says, to those who read them; others are not written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.configuration.build import sigma_model
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file
from pipeline.use.exporting import state_dicts
from pipeline.use.exporting.comparison import LIMIT, largest
from pipeline.use.exporting.export import KINDS, export
from pipeline.weights import hub
from pipeline.weights.video_model import VideoModel

HEADS = {"heads": 2}  # of the official file


def opened(checkpoints: Path, name: str) -> VideoModel:
    if name == "finetuned":
        return hub.load(checkpoints / "finetuned.pt", **HEADS)
    return hub.load(checkpoints / name / "model.safetensors")


def some_videos(model: VideoModel) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.randn(3, 3, *model.encoder.grid.clip_shape)


@pytest.mark.parametrize("kind", ["safetensors", "timm"])
@pytest.mark.parametrize("name", ["sigma_mlp", "finetuned"])
def test_what_is_written_is_complete(checkpoints: Path, kind: str, name: str) -> None:
    """Files, their digests, a card, the check's numbers; nothing else is left."""
    folder = Path("out") / name
    done = export(opened(checkpoints, name), kind, folder)
    assert {path.name for path in folder.iterdir()} == set(done.files)
    assert {path.name for path in folder.parent.iterdir()} == {name}
    manifest = json.loads((folder / "export.json").read_text())
    for file, digest in manifest["files"].items():
        assert sha256_file(folder / file) == digest
    assert manifest["differences"] == done.differences
    assert done.differences
    assert max(done.differences.values()) <= LIMIT
    assert ("logits" in " ".join(done.differences)) == (name == "finetuned")


@pytest.mark.system
@pytest.mark.parametrize("name", ["sigma_mlp", "pixel", "finetuned"])
def test_transformers_reads_it(checkpoints: Path, name: str) -> None:
    """By its own code alone: tokens, logits, and the pixels of pictures of another size. Catches
    biases, epsilons, norms and heads that are lost on the way."""
    transformers = pytest.importorskip("transformers", reason="Transformers is missing")
    model = opened(checkpoints, name)
    export(model, "huggingface", Path("out"))
    videos = some_videos(model)
    pixels = videos.transpose(1, 2)
    theirs = transformers.VideoMAEModel.from_pretrained("out").eval()
    with torch.inference_mode():
        tokens = theirs(pixel_values=pixels).last_hidden_state
        assert largest(model.tokens(videos), tokens) < 1e-5
        headed = transformers.VideoMAEForVideoClassification.from_pretrained("out").eval()
        if model.classifier is not None:
            assert largest(model.classifier(videos), headed(pixel_values=pixels).logits) < 1e-5
        if name == "pixel":
            whole = transformers.VideoMAEForPreTraining.from_pretrained("out").eval()
            mask = torch.zeros(1, model.encoder.grid.count, dtype=torch.bool)
            mask[:, :48] = True
            predicted = whole(pixel_values=pixels[:1], bool_masked_pos=mask).logits
            assert largest(model(videos[:1], mask).decoded, predicted) < 1e-5
    processor = transformers.VideoMAEImageProcessor.from_pretrained("out")
    frames = [np.full((40, 60, 3), 120, np.uint8)] * model.clip.frames
    shape = processor(frames, return_tensors="pt")["pixel_values"].shape
    assert tuple(shape) == (1, model.clip.frames, 3, model.clip.size, model.clip.size)
    again = hub.load("out")
    assert again.clip.stride == model.clip.stride
    assert largest(model.tokens(videos), again.tokens(videos)) < 1e-5
    # In front of a head their LayerNorm has another epsilon (1e-5), for which nothing can be done.
    assert largest(model.pooled(videos), again.pooled(videos)) < LIMIT


@pytest.mark.system
def test_a_transformers_that_loses_biases_is_named(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The installed one without its renaming of `q_bias` does what releases 5.6 to 5.8 do: it loads
    zeros. Then nothing is written, and a release that works is named."""
    pytest.importorskip("transformers", reason="Transformers is missing")
    from transformers import conversion_mapping

    mapping = conversion_mapping._build_checkpoint_conversion_mapping()
    mapping.pop("videomae")
    monkeypatch.setattr(
        conversion_mapping, "get_checkpoint_conversion_mapping", lambda kind: mapping.get(kind)
    )
    with pytest.raises(UserError, match="biases as zeros") as caught:
        export(opened(checkpoints, "sigma_mlp"), "huggingface", Path("out"))
    assert "pip install transformers==" in caught.value.remedy
    assert not Path("out").exists()


@pytest.mark.system
@pytest.mark.parametrize("name", ["sigma_mlp", "finetuned"])
def test_onnx_runs(checkpoints: Path, name: str) -> None:
    """In onnxruntime, for a number of clips that the exporter never saw."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing")
    model = opened(checkpoints, name)
    export(model, "onnx", Path("out"))
    videos = some_videos(model)
    session = onnxruntime.InferenceSession("out/model.onnx")
    tokens, pooled, *logits = session.run(None, {"pixel_values": videos.transpose(1, 2).numpy()})
    with torch.inference_mode():
        assert largest(model.tokens(videos), torch.from_numpy(tokens)) < 1e-5
        assert largest(model.pooled(videos), torch.from_numpy(pooled)) < 1e-5
        if model.classifier is not None:
            assert largest(model.classifier(videos), torch.from_numpy(logits[0])) < 1e-5


def test_safetensors_load_without_being_told_anything(checkpoints: Path) -> None:
    """A pretraining comes out byte for byte; of an official file heads and clip are kept."""
    model = opened(checkpoints, "sigma_mlp")
    export(model, "safetensors", Path("ours"))
    original = checkpoints / "sigma_mlp" / "model.safetensors"
    assert Path("ours/model.safetensors").read_bytes() == original.read_bytes()
    model = opened(checkpoints, "finetuned")
    assert model.classifier is not None
    model.classifier.fc_norm.eps = 1e-3  # as if it came from elsewhere
    export(model, "safetensors", Path("theirs"))
    export(model, "timm", Path("timm"))
    again = hub.load("theirs/model.safetensors")
    assert (again.settings, again.clip) == (model.settings, model.clip)
    assert "fine-tuned" in again.origin.kind


def test_a_model_that_differs_is_not_written(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number in one tensor, changed on the way: the export fails, and an earlier one stays."""
    model = opened(checkpoints, "finetuned")
    export(model, "timm", Path("out"))
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    really = state_dicts.save_file

    def damaged(tensors: dict[str, torch.Tensor], *rest: Any, **named: Any) -> None:
        tensors["blocks.0.mlp.fc2.bias"][0] += 0.01
        really(tensors, *rest, **named)

    monkeypatch.setattr(state_dicts, "save_file", damaged)
    with pytest.raises(UserError, match=r"largest difference of timm's"):
        export(model, "timm", Path("out"))
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert [path.name for path in Path().iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["huggingface", "timm"])
def test_a_format_that_keeps_the_background_is_refused(checkpoints: Path, kind: str) -> None:
    """Catches an export that other libraries give pixels whose background is still there."""
    path = checkpoints / "pixel" / "model.safetensors"
    run, clip = hub.read_config(path)
    model = run.model.model_copy(update={"background": "subtract"})
    weights, out = Path("subtracted.safetensors"), Path("out")
    changed = run.model_copy(update={"model": model})
    hub.save(weights, sigma_model(model, run.objective, clip), changed, clip)
    with pytest.raises(UserError, match="subtract the background"):
        export(hub.load(str(weights)), kind, out)
    assert not out.exists()
    assert export(hub.load(str(weights)), "safetensors", out).differences


def test_other_folders_are_left_alone(checkpoints: Path) -> None:
    """Catches an export that replaces somebody's files."""
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("all of it")
    for kind in KINDS:
        with pytest.raises(UserError, match="something else"):
            export(opened(checkpoints, "sigma_mlp"), kind, Path("out"))
    assert Path("out/thesis.tex").read_text() == "all of it"


def test_nan_and_other_shapes_are_far() -> None:
    """Catches a comparison that NaN passes: no NaN is above a limit."""
    nan = torch.tensor([1.0, float("nan")])
    assert largest(torch.ones(2), nan) == float("inf")
    assert largest(torch.ones(2), torch.ones(1, 2)) == float("inf")
    assert largest(torch.ones(2), torch.tensor([1.0, 0.75])) == 0.25
