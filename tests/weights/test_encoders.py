"""An encoder from any file: the same features come out, or an error that names what is wrong."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective, Run
from pipeline.errors import UserError
from pipeline.method.masks import AdaptiveMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.vit import Encoder
from pipeline.runtime.files import sha256_file
from pipeline.weights import encoders, formats, hub, hugging_face
from pipeline.weights.classifier import Classifier


@pytest.fixture(scope="module")
def square(model: Model) -> Model:
    """Hugging Face's tubes are square."""
    return model.model_copy(update={"tube": (2, 8, 8)})


@pytest.fixture(scope="module")
def sigma(square: Model, sinkhorn: Objective, clip: Clip) -> SigmaModel:
    """A model none of whose parameters is as it was initialised."""
    torch.manual_seed(0)
    made = sigma_model(square, sinkhorn, clip)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


@pytest.fixture
def own_run(run: Run, square: Model) -> Run:
    trainer = run.trainer.model_copy(update={"epochs": 0, "warmup_epochs": 0})
    return run.model_copy(update={"model": square, "trainer": trainer})


def official(sigma: SigmaModel) -> dict[str, torch.Tensor]:
    return {hub.official_name(sigma, n): t for n, t in sigma.state_dict().items()}


def as_ours(folder: Path, sigma: SigmaModel, run: Run, clip: Clip) -> Path:
    hub.save(folder / "model.safetensors", sigma, run, clip)
    return folder / "model.safetensors"


def as_official(folder: Path, sigma: SigmaModel, run: Run, clip: Clip) -> Path:
    torch.save({"model": official(sigma), "args": argparse.Namespace(lr=1)}, folder / "a.pth")
    return folder / "a.pth"


def as_adamae(folder: Path, sigma: SigmaModel, run: Run, clip: Clip) -> Path:
    """AdaMAE's: in the encoder, the network that draws tubes."""
    objective = run.objective.model_copy(update={"mask": AdaptiveMask(0.75, heads=3)})
    network = sigma_model(run.model, objective, clip).mask_network
    assert network is not None
    drawing = {f"mask_network.{name}": tensor for name, tensor in network.state_dict().items()}
    names = {ours: theirs for theirs, ours in formats.ADAMAE.names.items()}
    for name in list(drawing):
        ours = next(each for each in names if name.startswith(each))
        drawing[names[ours] + name.removeprefix(ours)] = drawing.pop(name)
    torch.save({"model": official(sigma) | drawing}, folder / "a.pth")
    return folder / "a.pth"


def as_hugging_face(folder: Path, sigma: SigmaModel, run: Run, clip: Clip) -> Path:
    (folder / "config.json").write_text(json.dumps(hugging_face.config(run.model, clip)))
    save_file(hugging_face.tensors(sigma), folder / "model.safetensors")
    return folder


def as_shards(folder: Path, sigma: SigmaModel, run: Run, clip: Clip) -> Path:
    """Their directory with the weights in two files, and biases under the names of version 5."""
    (folder / "config.json").write_text(json.dumps(hugging_face.config(run.model, clip)))
    renamed = {
        name.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): tensor
        for name, tensor in hugging_face.tensors(sigma).items()
    }
    names = sorted(renamed)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: renamed[name] for name in part}, folder / file)
    places = {name: file for file, part in parts.items() for name in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return folder


def filled(run: Run, clip: Clip, path: Path, sha256: str | None = None) -> tuple[Encoder, str]:
    """Return the encoder that was filled, and what its weights were taken for."""
    torch.manual_seed(1)
    encoder = sigma_model(run.model, run.objective, clip).encoder.eval()
    wanted = run.model_copy(update={"weights": str(path), "weights_sha256": sha256})
    return encoder, encoders.fill(encoder, wanted, clip).kind


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (as_ours, "of this project"),
        (as_official, "pretraining"),
        (as_adamae, "AdaMAE"),
        (as_hugging_face, "Hugging Face"),
        (as_shards, "Hugging Face"),
    ],
)
def test_features_come_back_whatever_the_file(
    tmp_path: Path,
    sigma: SigmaModel,
    own_run: Run,
    clip: Clip,
    write: Callable[..., Path],
    kind: str,
) -> None:
    """Catches a tensor that is left as it was initialised or put in another's place, biases that
    are lost, and a file that is taken for something else."""
    encoder, said = filled(own_run, clip, write(tmp_path, sigma, own_run, clip))
    assert kind in said
    videos = torch.randn(2, 3, *sigma.grid.clip_shape)
    torch.testing.assert_close(encoder(videos), sigma.encoder(videos), rtol=0, atol=1e-6)


def test_a_fine_tuned_checkpoint(
    tmp_path: Path, own_run: Run, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a classifier's norm and head taken for the encoder's."""
    torch.manual_seed(2)
    classifier = Classifier(own_run.model, clip, classes=3).eval()
    state = {hub.official_name(classifier, n): t for n, t in classifier.state_dict().items()}
    torch.save({"module": state}, tmp_path / "a.pt")
    encoder, kind = filled(own_run, clip, tmp_path / "a.pt")
    assert "fine-tuned" in kind
    assert "no last LayerNorm" in capsys.readouterr().err
    videos = torch.randn(2, 3, *encoder.grid.clip_shape)
    expected = torch.nn.functional.layer_norm(
        classifier.encoder(videos), (encoder.width,), eps=encoder.norm.eps
    )
    torch.testing.assert_close(encoder(videos), expected, rtol=0, atol=1e-6)


@pytest.mark.system
@pytest.mark.parametrize("name", ["VideoMAEModel", "VideoMAEForPreTraining"])
def test_directories_that_transformers_writes(
    tmp_path: Path, own_run: Run, clip: Clip, name: str
) -> None:
    """Catches names or biases that the installed Transformers saves otherwise than published files
    have them: the features are those of its own model."""
    transformers = pytest.importorskip("transformers", reason="Transformers is missing")
    config = transformers.VideoMAEConfig(**hugging_face.config(own_run.model, clip))
    torch.manual_seed(3)
    theirs = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    theirs.save_pretrained(tmp_path)
    encoder, _ = filled(own_run, clip, tmp_path)
    videos = torch.randn(2, 3, *encoder.grid.clip_shape)
    base = getattr(theirs, "videomae", theirs)
    with torch.no_grad():
        expected = base(pixel_values=videos.transpose(1, 2)).last_hidden_state
    torch.testing.assert_close(encoder(videos), expected, rtol=0, atol=1e-5)


def test_another_encoder_is_refused(
    tmp_path: Path, sigma: SigmaModel, own_run: Run, clip: Clip
) -> None:
    """Catches weights that load although heads, tubes or depth are others than the run's: features
    would be plausible and wrong."""
    for write in (as_ours, as_hugging_face):
        folder = tmp_path / write.__name__
        folder.mkdir()
        path = write(folder, sigma, own_run, clip)
        for change in ({"heads": 4}, {"depth": 1}, {"mlp_ratio": 4.0}):
            other = own_run.model_copy(update={"model": own_run.model.model_copy(update=change)})
            with pytest.raises(UserError, match="another one") as caught:
                filled(other, clip, path)
            assert "runs.NAME.model" in caught.value.remedy


def test_what_is_missing_is_named(
    tmp_path: Path, sigma: SigmaModel, own_run: Run, clip: Clip
) -> None:
    """Catches a checkpoint that is loaded in part, from a directory without biases too."""
    folder = as_hugging_face(tmp_path, sigma, own_run, clip)
    weights = load_file(folder / "model.safetensors")
    gone = "videomae.encoder.layer.1.attention.attention.q_bias"
    save_file({n: t for n, t in weights.items() if n != gone}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"missing: encoder\.blocks\.1\.attn\.q_bias"):
        filled(own_run, clip, folder)
    save_file(
        weights | {"videomae.encoder.layer.1.stray": torch.zeros(1)}, folder / "model.safetensors"
    )
    with pytest.raises(UserError, match="not of this model"):
        filled(own_run, clip, folder)


def test_zero_biases_are_said(
    tmp_path: Path, own_run: Run, sigma: SigmaModel, clip: Clip, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an export that has lost its biases and is scored without a word."""
    filled(own_run, clip, as_official(tmp_path, sigma, own_run, clip))
    assert "biases" not in capsys.readouterr().err
    state = official(sigma)
    for name in state:
        if name.endswith(("q_bias", "v_bias")):
            state[name] = torch.zeros_like(state[name])
    torch.save(state, tmp_path / "zero.pth")
    filled(own_run, clip, tmp_path / "zero.pth")
    assert "are zero" in capsys.readouterr().err


def test_files_that_are_not_what_was_named(
    tmp_path: Path, sigma: SigmaModel, own_run: Run, clip: Clip
) -> None:
    """Catches a truncated or exchanged download, a wrong path and a traceback for any of them."""
    path = as_official(tmp_path, sigma, own_run, clip)
    filled(own_run, clip, path, sha256_file(path))
    with pytest.raises(UserError, match="SHA-256"):
        filled(own_run, clip, path, "0" * 64)
    with pytest.raises(UserError, match="no weights"):
        filled(own_run, clip, tmp_path / "absent.pth")
    with pytest.raises(UserError, match="no weights"):
        filled(own_run, clip, tmp_path)
    save_file({"resnet.conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"resnet\.conv1\.weight"):
        filled(own_run, clip, tmp_path / "other.safetensors")


def test_weights_are_not_trained_on(own_run: Run) -> None:
    """Catches a run that names weights and then trains another model in their place."""
    body = own_run.model_dump(mode="json") | {"weights": "a.pth"}
    Run.model_validate(body)
    body["trainer"]["epochs"] = 1
    with pytest.raises(ValueError, match=r"trainer\.epochs"):
        Run.model_validate(body)
