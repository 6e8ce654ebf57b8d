"""Any checkpoint, opened without being told what it is: the same features come out."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import save_file

from pipeline.configuration import known_weights
from pipeline.configuration.build import sigma_model
from pipeline.configuration.known_weights import ENCODER_FORMAT, MODEL_FORMAT
from pipeline.configuration.schema import Clip, Model, Objective, Run
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.use.exporting import state_dicts, transformers_directory
from pipeline.weights import hub, hugging_face
from pipeline.weights.classifier import Classifier
from pipeline.weights.video_model import PretrainedModel, VideoModel

M = TypeVar("M", bound=torch.nn.Module)
SAID = {"heads": 3, "frames": 4, "size": 16, "stride": 1}


@pytest.fixture(scope="module")
def square(model: Model) -> Model:
    """Hugging Face's tubes are square."""
    return model.model_copy(update={"tube": (2, 8, 8)})


def shaken(made: M) -> M:
    """Give every parameter a value that is not its initial one."""
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


@pytest.fixture(scope="module")
def sigma(square: Model, sinkhorn: Objective, clip: Clip) -> SigmaModel:
    torch.manual_seed(0)
    return shaken(sigma_model(square, sinkhorn, clip))


@pytest.fixture(scope="module")
def classifier(square: Model, clip: Clip) -> Classifier:
    torch.manual_seed(1)
    return shaken(Classifier(square, clip, classes=3))


def state_of(module: SigmaModel | Classifier) -> dict[str, torch.Tensor]:
    return {hub.official_name(module, n): t for n, t in module.state_dict().items()}


def agrees(opened: VideoModel, original: SigmaModel | Classifier) -> None:
    """Tokens, and what a head says, are those of the original."""
    videos = torch.randn(2, 3, *original.encoder.grid.clip_shape)
    with torch.inference_mode():
        tokens = original.encoder(videos)
        torch.testing.assert_close(opened.tokens(videos), tokens, rtol=0, atol=1e-6)
        if isinstance(original, Classifier):
            assert opened.classifier is not None
            assert torch.equal(opened.classifier(videos), original(videos))
            assert torch.equal(opened.pooled(videos), original.features(videos))
        else:
            assert opened.classifier is None
            torch.testing.assert_close(opened.pooled(videos), tokens.mean(1), rtol=0, atol=1e-6)


def test_our_own(tmp_path: Path, sigma: SigmaModel, square: Model, run: Run, clip: Clip) -> None:
    """It is the pretraining's model as well, and can be asked for other clips."""
    path = tmp_path / "model.safetensors"
    hub.save(path, sigma, run.model_copy(update={"model": square}), clip)
    opened = hub.load(path)
    assert isinstance(opened, PretrainedModel)
    assert opened.clip == clip
    agrees(opened, sigma)
    longer = hub.load(path, frames=8, stride=3)
    assert (longer.clip.frames, longer.clip.stride) == (8, 3)
    assert longer.tokens(torch.randn(1, 3, 8, 16, 16)).shape == (1, 16, 24)
    with pytest.raises(UserError, match="3 heads, not 4"):
        hub.load(path, heads=4)


def test_official_pretraining(tmp_path: Path, sigma: SigmaModel) -> None:
    """What tensors and arguments say is found; heads of an unusual width have to be said."""
    arguments = argparse.Namespace(num_frames=4, input_size=16, sampling_rate=3, lr=0.1)
    torch.save({"model": state_of(sigma), "args": arguments}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="heads") as caught:
        hub.load(tmp_path / "a.pth")
    assert "--heads" in caught.value.remedy
    opened = hub.load(tmp_path / "a.pth", heads=3)
    agrees(opened, sigma)
    assert "pretraining" in opened.origin.kind
    assert opened.clip.stride == 3
    assert opened.settings.decoder_width == 16


def test_what_nobody_says_is_told(
    tmp_path: Path, sigma: SigmaModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a guess that nobody hears of."""
    save_file(state_of(sigma), tmp_path / "a.safetensors")
    opened = hub.load(tmp_path / "a.safetensors", heads=3, size=16)
    assert (opened.clip.frames, opened.clip.stride) == (16, 4)
    said = capsys.readouterr().err
    assert "frames 16, stride 4" in said
    assert "size" not in said.split(":")[-1].split("(")[0]


def test_official_fine_tuning(tmp_path: Path, classifier: Classifier) -> None:
    """The head is kept, and its norm; Something-Something is sampled by segments."""
    arguments = argparse.Namespace(num_frames=4, input_size=16, sampling_rate=2, data_set="SSV2")
    torch.save({"module": state_of(classifier), "args": arguments}, tmp_path / "a.pt")
    opened = hub.load(tmp_path / "a.pt", heads=3)
    agrees(opened, classifier)
    assert opened.clip.sampling == "per_segment"


@pytest.mark.system
@pytest.mark.parametrize("kind", ["VideoMAEModel", "VideoMAEForVideoClassification"])
@pytest.mark.parametrize("mean", [True, False])
def test_what_transformers_writes(
    tmp_path: Path, square: Model, clip: Clip, kind: str, mean: bool
) -> None:
    """Catches another epsilon, a head or a last norm that is lost, and names of classes: the
    outputs are those of Transformers' own model."""
    transformers = pytest.importorskip("transformers", reason="Transformers is missing")
    names = {0: "cut", 1: "mix", 2: "pour"}
    changes = {"layer_norm_eps": 1e-3, "use_mean_pooling": mean, "id2label": names}
    config = transformers.VideoMAEConfig(**{**hugging_face.config(square, clip), **changes})
    torch.manual_seed(2)
    theirs = shaken(getattr(transformers, kind)(config))
    theirs.save_pretrained(tmp_path)
    opened = hub.load(tmp_path, stride=1)
    videos = torch.randn(2, 3, *opened.encoder.grid.clip_shape)
    with torch.inference_mode():
        base = getattr(theirs, "videomae", theirs)
        expected = base(pixel_values=videos.transpose(1, 2)).last_hidden_state
        torch.testing.assert_close(opened.tokens(videos), expected, rtol=0, atol=1e-5)
        if "Classification" in kind and mean:
            logits = theirs(pixel_values=videos.transpose(1, 2)).logits
            assert opened.classifier is not None
            torch.testing.assert_close(opened.classifier(videos), logits, rtol=0, atol=1e-5)
            assert opened.labels == ("cut", "mix", "pour")


def test_what_cannot_be_used_is_refused(
    tmp_path: Path, sigma: SigmaModel, square: Model, clip: Clip
) -> None:
    """Catches features that are plausible and wrong: other pixels, another activation, a model of
    images, tensors that are missing."""
    folder = tmp_path / "hf"
    folder.mkdir()
    config = hugging_face.config(square, clip)
    save_file(hugging_face.tensors(sigma), folder / "model.safetensors")
    with pytest.raises(UserError, match=r"without their config\.json"):
        hub.load(folder / "model.safetensors")
    for change, message in (
        ({"model_type": "bert"}, "'bert', none of videomae, "),
        ({"hidden_act": "relu"}, "activation"),
        ({"image_size": [16, 24]}, "not square"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=message):
            hub.load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(UserError, match="normalised with image_mean"):
        hub.load(folder)
    state = state_of(sigma)
    flat = state["encoder.patch_embed.proj.weight"][:, :, 0].contiguous()
    save_file(state | {"encoder.patch_embed.proj.weight": flat}, tmp_path / "image.safetensors")
    with pytest.raises(UserError, match="model of images"):
        hub.load(tmp_path / "image.safetensors", **SAID)
    del state["encoder.blocks.1.norm2.bias"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"missing: encoder\.blocks\.1\.norm2\.bias"):
        hub.load(tmp_path / "part.safetensors", **SAID)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        hub.load(tmp_path / "list.pt")
    with pytest.raises(UserError, match="no weights"):
        hub.load(tmp_path / "absent.pth")


def test_several_files_have_one_digest(tmp_path: Path, sigma: SigmaModel) -> None:
    """Catches a digest that is of the first file alone."""
    from pipeline.weights.video_model import digest

    assert digest({"a": "1"}) == "1"
    assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"})
    assert digest({"a": "1", "b": "2"}) != digest({"a": "1", "b": "3"})


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1280, 16)])
def test_published_widths_have_their_heads(width: int, heads: int) -> None:
    """The recorded sizes of ViT-S to ViT-H, as `conf/model` has them."""
    from pipeline.weights.geometry import HEADS

    assert HEADS[width] == heads


def test_embedding_real_videos(
    clips_folder: Path, tmp_path: Path, sigma: SigmaModel, run: Run, square: Model, clip: Clip
) -> None:
    """Three lines from a file to features; a segment is what it is cut to, and a bad file is an
    error that says why."""
    path = tmp_path / "model.safetensors"
    hub.save(path, sigma, run.model_copy(update={"model": square}), clip)
    model = hub.load(path)
    video = clips_folder / "good" / "one_second.mp4"
    features = model.embed(video, clips=3)
    assert features.shape == (3, 24)
    assert torch.isfinite(features).all()
    assert not torch.equal(features[0], features[2])
    assert model.embed(video, per_tube=True).shape == (1, 8, 24)
    torch.testing.assert_close(model.embed(video, start=0.0), model.embed(video))
    with pytest.raises(UserError, match="not_a_video"):
        model.embed(clips_folder / "bad" / "zero_bytes.mp4")
    with pytest.raises(UserError, match="missing"):
        model.embed("absent.mp4")


LIES: list[tuple[str, Any]] = [
    ("run.model.depth", 10**9),
    ("run.model.width", 10**12),
    ("run.model.decoder_depth", 10**9),
    ("run.model.decoder_width", 10**9),
    ("run.model.mlp_ratio", float("inf")),
    ("run.model.mlp_ratio", 1e12),
    ("run.model.tube", [2, 8, 10**9]),
    ("run.objective.prototypes", 10**12),
    ("run.objective.target.hidden", [20] * 10**5),
    ("run.objective.target.width", 10**9),
    ("clip.frames", 10**12),
    ("clip.size", 8 * 10**9),
]


@pytest.mark.parametrize(("key", "value"), LIES)
def test_a_file_builds_nothing_that_its_tensors_do_not_bear_out(
    tmp_path: Path, sigma: SigmaModel, square: Model, run: Run, clip: Clip, key: str, value: object
) -> None:
    """Catches terabytes, or an hour, for what the metadata of a small file claim."""
    path = tmp_path / "model.safetensors"
    hub.save(path, sigma, run.model_copy(update={"model": square}), clip)
    config = hub.read_saved(path).model_dump(mode="json") | {"format": MODEL_FORMAT}
    *way, last = key.split(".")
    section = config
    for part in way:
        section = section[part]
    section[last] = value
    state = state_of(sigma)
    save_file(state, path, {"config": json.dumps(config)})
    began = time.monotonic()
    for read in (hub.load, hub.load_pretraining, hub.read_config):
        with pytest.raises(UserError):
            read(path)
    if not key.startswith(("run.objective", "run.model.decoder")):
        model, said = config["run"]["model"], config["clip"]
        encoder = {"format": ENCODER_FORMAT, "kind": "k", "model": model, "clip": said}
        own = {name: each for name, each in state.items() if name.startswith("encoder.")}
        save_file(own, path, {"config": json.dumps(encoder)})
        with pytest.raises(UserError):
            hub.load(path)
    assert time.monotonic() - began < 5


def test_names_and_wishes_build_nothing_either(tmp_path: Path, sigma: SigmaModel) -> None:
    """Catches a block of number 10^9 in a name, and clips without bounds that a user asks for."""
    state = state_of(sigma)
    state[f"encoder.blocks.{10**9}.norm1.weight"] = torch.ones(24)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError):
        hub.load(tmp_path / "a.safetensors", **SAID)
    save_file(state_of(sigma), tmp_path / "b.safetensors")
    for hints in ({"frames": 10**12}, {"size": 8 * 10**9}, {"heads": 10**9}):
        with pytest.raises(UserError):
            hub.load(tmp_path / "b.safetensors", **{**SAID, **hints})


def test_what_a_model_saw_travels_with_it(
    tmp_path: Path, sigma: SigmaModel, square: Model, run: Run, clip: Clip
) -> None:
    """Catches an export that forgets the rate, the stride or the sampling; files that do not say a
    rate are still read, and other pixels are refused."""
    first, second = tmp_path / "model.safetensors", tmp_path / "hf"
    strided = clip.model_copy(update={"stride": 3, "sampling": "per_segment"})
    hub.save(first, sigma, run.model_copy(update={"model": square}), strided, fps=12.5)
    model = hub.load(first)
    second.mkdir()
    state_dicts.write_safetensors(model, tmp_path)
    assert hub.load(first).fps == 12.5
    (second / "config.json").write_text(json.dumps(transformers_directory._config(model)))
    save_file(hugging_face.renamed(sigma.state_dict()), second / "model.safetensors")
    opened = hub.load(second)
    assert (opened.fps, opened.clip.stride, opened.clip.sampling) == (12.5, 3, "per_segment")
    state_dicts.write_safetensors(opened, second)
    again = hub.load(second / "model.safetensors")
    assert (again.fps, again.clip.stride, again.clip.sampling) == (12.5, 3, "per_segment")
    config, _ = known_weights.header(first)
    del config["seen"]
    save_file(state_of(sigma), first, {"config": json.dumps(config)})
    assert hub.load(first).fps is None
    config["seen"] = {"mean": [0.5, 0.5, 0.5]}
    save_file(state_of(sigma), first, {"config": json.dumps(config)})
    with pytest.raises(UserError, match="normalised with mean"):
        hub.load(first)
