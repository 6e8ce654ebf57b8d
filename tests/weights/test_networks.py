"""Networks of the Transformers library as encoders: features are those of the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.configuration import build, composition, known_weights
from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Objective, Run
from pipeline.errors import UserError
from pipeline.evaluation.encoder import for_frames
from pipeline.method.losses import MseLoss
from pipeline.method.masks import TubeMask
from pipeline.method.pixels import MEAN, STD, normalise
from pipeline.method.targets import PixelTarget
from pipeline.runtime.operations import forward_operations
from pipeline.runtime.optimisers import layer_of
from pipeline.use.exporting.export import export
from pipeline.weights import encoders, hub
from pipeline.weights.classifier import Classifier

transformers = pytest.importorskip("transformers", reason="Transformers is missing")
SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGES = SMALL | {"image_size": 32, "patch_size": 8, "intermediate_size": 48}
CLIP = Clip(frames=4, size=32, stride=1, scales=(1.0,), flip=False)
OTHER = ([0.3, 0.4, 0.5], [0.2, 0.3, 0.4])  # mean and deviation of pixels


@dataclass(frozen=True)
class Library:
    """A network of the library, small, and what its folder is to be read as."""

    config: Callable[[], Any]
    model: str
    vision: Callable[[Any], Any] = lambda model: model  # of the model, the part that sees
    extra: int = 1  # tokens before those of patches


def of(name: str, **values: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, name)(**values)


def with_texts(name: str, **vision: Any) -> Callable[[], Any]:
    text = SMALL | {"intermediate_size": 48, "vocab_size": 50, "max_position_embeddings": 8}
    return of(name, vision_config=IMAGES | vision, text_config=text)


VIDEOS = SMALL | {"crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "mlp_ratio": 2.0}
VIDEOS |= {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
DINOV2 = SMALL | {"image_size": 32, "patch_size": 8, "mlp_ratio": 2}
LIBRARY = {
    "V-JEPA 2": Library(
        of("VJEPA2Config", **VIDEOS), "VJEPA2Model", lambda model: model.encoder, extra=0
    ),
    "DINO": Library(of("ViTConfig", **IMAGES), "ViTModel"),
    "DINOv2": Library(of("Dinov2Config", **DINOV2), "Dinov2Model"),
    "DINOv2 with registers": Library(
        of("Dinov2WithRegistersConfig", **DINOV2, num_register_tokens=3),
        "Dinov2WithRegistersModel",
        extra=4,
    ),
    "DINOv3": Library(
        of("DINOv3ViTConfig", **IMAGES, num_register_tokens=2), "DINOv3ViTModel", extra=3
    ),
    "CLIP": Library(with_texts("CLIPConfig"), "CLIPModel", lambda model: model.vision_model),
    "CLIP's image encoder": Library(of("CLIPVisionConfig", **IMAGES), "CLIPVisionModel"),
    "SigLIP": Library(
        with_texts("SiglipConfig"), "SiglipModel", lambda model: model.vision_model, extra=0
    ),
}


def saved(library: Library, folder: Path) -> Any:
    """Write a network none of whose parameters is as it was initialised."""
    torch.manual_seed(0)
    model = getattr(transformers, library.model)(library.config()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    processor = {"image_mean": OTHER[0], "image_std": OTHER[1], "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model


@torch.no_grad()
def through_the_library(library: Library, model: Any, videos: Tensor) -> Tensor:
    """Features B,N,D of bytes B,T,H,W,3."""
    mean, std = (torch.tensor(values)[:, None, None] for values in OTHER)
    pixels = (videos.permute(0, 1, 4, 2, 3) / 255 - mean) / std
    vision = library.vision(model)
    if library.model == "VJEPA2Model":
        tokens: Tensor = vision(pixels).last_hidden_state
        return tokens
    tokens = vision(pixels.flatten(0, 1)).last_hidden_state[:, library.extra :]
    return tokens.reshape(len(videos), -1, tokens.shape[-1])


def untrained(run: Run, **values: Any) -> Run:
    objective = Objective(name="pixel", target=PixelTarget(), loss=MseLoss(), mask=TubeMask(0.5))
    trainer = run.trainer.model_copy(update={"epochs": 0, "warmup_epochs": 0})
    return run.model_copy(update={"objective": objective, "trainer": trainer, **values})


@pytest.mark.parametrize("library", LIBRARY.values(), ids=LIBRARY)
def test_features_are_those_of_the_library(tmp_path: Path, run: Run, library: Library) -> None:
    """Catches another normalisation, a class token or register among the patches, frames in
    another order, a tensor that is lost, and a model of this project that cannot be opened."""
    model = saved(library, tmp_path / "theirs")
    known = known_weights.known(tmp_path / "theirs")
    assert known is not None
    videos = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    expected = through_the_library(library, model, videos)

    own_run = untrained(run, model=known.model, weights=str(tmp_path / "theirs"))
    torch.manual_seed(1)
    sigma = sigma_model(known.model, own_run.objective, CLIP).eval()
    assert "Transformers" in encoders.fill(sigma.encoder, own_run, CLIP).kind
    assert tuple(expected.shape[1:]) == (sigma.encoder.grid.count, sigma.encoder.width)
    hub.save(tmp_path / "model.safetensors", sigma, own_run, CLIP)
    opened = hub.load(tmp_path / "theirs", frames=4, size=32)
    again = hub.load(tmp_path / "model.safetensors")
    with torch.no_grad():
        for encoder in (sigma.encoder, opened.encoder, again.encoder):
            tokens = encoder(normalise(videos))
            torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)
        shorter = for_frames(again.encoder, 2)(normalise(videos[:, :2]))
        expected = through_the_library(library, model, videos[:, :2])
        torch.testing.assert_close(shorter, expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="not exported"):
        export(again, "safetensors", tmp_path / "exported")


@pytest.mark.parametrize("library", LIBRARY.values(), ids=LIBRARY)
def test_what_does_not_fit_is_named(tmp_path: Path, run: Run, library: Library) -> None:
    """Catches a checkpoint of which a part is taken, the rest being as it was initialised."""
    saved(library, tmp_path)
    known = known_weights.known(tmp_path)
    assert known is not None
    encoder = build.encoder(known.model, CLIP)
    own_run = untrained(run, model=known.model, weights=str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    names = (name for name in weights if not name.startswith(("text", "predictor")))
    gone = next(name for name in names if ".1." in name and name.endswith(".bias"))
    kept = {name: tensor for name, tensor in weights.items() if name != gone}
    for changed, problem in (
        (kept, "missing: "),
        (kept | {gone: torch.zeros(3)}, "shape"),
        (weights | {"stray.weight": torch.zeros(1)}, r"not of this model: stray\.weight"),
    ):
        save_file(changed, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=problem):
            encoders.fill(encoder, own_run, CLIP)


def test_settings_follow_the_folder(tmp_path: Path) -> None:
    """Catches clips of another size or length than the network was trained on, and a network
    that `params.yaml` does not hold as it is."""
    saved(LIBRARY["V-JEPA 2"], tmp_path)
    text = composition.compose(["experiment=encoder", f"runs.encoder.weights={tmp_path}"])
    params = composition.validate(yaml.safe_load(text), place="")
    known = known_weights.known(tmp_path)
    assert known is not None
    assert params.data.clip.model_dump().items() >= {"frames": 4, "size": 32}.items()
    for each in params.runs.values():
        assert each.model.network == known.model.network
    with pytest.raises(UserError, match="other clips"):
        composition.compose(
            ["experiment=encoder", f"runs.encoder.weights={tmp_path}", "data.clip.size=64"]
        )


def test_it_is_evaluated_not_pretrained(tmp_path: Path, run: Run) -> None:
    """Catches a training of masked clips by a network that sees whole ones."""
    saved(LIBRARY["DINO"], tmp_path)
    known = known_weights.known(tmp_path)
    assert known is not None
    body = untrained(run, model=known.model).model_dump(mode="json")
    Run.model_validate(body)
    body["trainer"]["epochs"] = 1
    with pytest.raises(ValueError, match="not pretrained"):
        Run.model_validate(body)
    encoder = build.encoder(known.model, CLIP)
    with pytest.raises(UserError, match="whole clips"):
        encoder(torch.zeros(1, 3, 4, 32, 32), torch.zeros(1, 2, dtype=torch.int64))


def test_fine_tuning_knows_its_layers(tmp_path: Path) -> None:
    """Catches layer decay that takes all of a network for its last layer."""
    saved(LIBRARY["DINOv2"], tmp_path)
    known = known_weights.known(tmp_path)
    assert known is not None
    classifier = Classifier(known.model, CLIP, classes=3)
    layers = {layer_of(name, known.model.depth) for name, _ in classifier.named_parameters()}
    assert layers == {0, 1, 2, 3}
    assert classifier(torch.zeros(2, 3, 4, 32, 32)).shape == (2, 3)


def test_a_model_file_that_builds_another_network(tmp_path: Path, run: Run) -> None:
    """Catches a configuration within a file that would have anything built."""
    saved(LIBRARY["DINOv2"], tmp_path)
    known = known_weights.known(tmp_path)
    assert known is not None
    assert known.model.network is not None
    own_run = untrained(run, model=known.model)
    sigma = sigma_model(known.model, own_run.objective, CLIP)
    for change in ({"num_hidden_layers": 10**6}, {"hidden_size": 48}, {"model_type": "bert"}):
        config = known.model.network.config | change
        depth = config.get("num_hidden_layers", 12)
        network = known.model.network.model_copy(update={"config": config})
        model = known.model.model_copy(update={"network": network, "depth": depth})
        other = own_run.model_copy(update={"model": model})
        hub.save(tmp_path / "model.safetensors", sigma, other, CLIP)
        with pytest.raises(UserError):
            hub.load(tmp_path / "model.safetensors")


def test_the_normalisation_of_this_project_changes_nothing() -> None:
    """Catches constants of ImageNet that have come apart."""
    from pipeline.weights.networks import IMAGENET

    assert IMAGENET == (MEAN, STD)


@pytest.mark.parametrize("library", LIBRARY.values(), ids=LIBRARY)
def test_operations_are_counted(tmp_path: Path, library: Library) -> None:
    """Catches a network that cannot be counted, which would end its evaluation."""
    saved(library, tmp_path)
    known = known_weights.known(tmp_path)
    assert known is not None
    encoder = build.encoder(known.model, CLIP)
    matrices = sum(p.numel() for n, p in encoder.named_parameters() if n.endswith("weight"))
    counted = forward_operations(encoder, (1, 3, 4, 32, 32))
    assert 16 * matrices < counted < 500 * matrices


TIMM = {  # architecture and arguments: class token, registers, a norm behind the mean, rotations
    "DINO": ("vit_tiny_patch16_224", {}),
    "DINOv2 with registers": (
        "vit_small_patch14_reg4_dinov2",
        {"patch_size": 8, "init_values": 1e-5},
    ),
    "SigLIP": ("vit_base_patch16_siglip_224", {}),
    "mean and norm": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "DINOv3": ("vit_small_patch16_dinov3", {}),
}


@pytest.mark.parametrize(("name", "arguments"), TIMM.values(), ids=TIMM)
def test_folders_of_timm(tmp_path: Path, run: Run, name: str, arguments: dict[str, Any]) -> None:
    """Catches prefix tokens among the patches, a norm that is lost, another normalisation, and
    weights that are taken in part; against the network as timm itself reads the folder."""
    import timm
    from timm.models import save_for_hf

    small = {"depth": 2, "embed_dim": 48, "num_heads": 2, "img_size": 32}
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=5, **small | arguments).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = tmp_path / "theirs"
    data = {"mean": OTHER[0], "std": OTHER[1], "input_size": (3, 32, 32)}
    save_for_hf(
        theirs, folder, model_args=small | arguments, safe_serialization=True, data_config=data
    )
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    known = known_weights.known(folder)
    assert known is not None
    assert known.seen == {"size": 32}
    videos = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in OTHER)
    with torch.no_grad():
        tokens = again.forward_features(
            (videos.permute(0, 1, 4, 2, 3) / 255 - mean).div(std).flatten(0, 1)
        )
        if arguments.get("global_pool") == "avg":
            tokens = again.fc_norm(tokens)
        expected = tokens[:, again.num_prefix_tokens :].reshape(2, -1, tokens.shape[-1])
        opened = hub.load(folder, frames=4, size=32)
        torch.testing.assert_close(opened.tokens(normalise(videos)), expected, rtol=0, atol=1e-5)

    own_run = untrained(run, model=known.model, weights=str(folder))
    sigma = sigma_model(known.model, own_run.objective, CLIP).eval()
    assert "timm" in encoders.fill(sigma.encoder, own_run, CLIP).kind
    hub.save(tmp_path / "model.safetensors", sigma, own_run, CLIP)
    with torch.no_grad():
        tokens = hub.load(tmp_path / "model.safetensors").encoder(normalise(videos))
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)
    names = [n for n, _ in Classifier(known.model, CLIP, classes=3).named_parameters()]
    assert {layer_of(each, known.model.depth) for each in names} == {0, 1, 2, 3}

    state = load_file(folder / "model.safetensors")
    gone = "blocks.1.mlp.fc2.bias"
    for changed, problem in (
        ({n: t for n, t in state.items() if n != gone}, "missing: "),
        (state | {gone: torch.zeros(3)}, "shape"),
        (state | {"stray.weight": torch.zeros(1)}, r"not of this model: stray"),
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(UserError, match=problem):
            encoders.fill(sigma.encoder, own_run, CLIP)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "local-dir:elsewhere"},
        {"architecture": "resnet18"},
        {"model_args": {"checkpoint_path": "evil.pth"}},
    ],
)
def test_a_folder_of_timm_has_nothing_else_read(tmp_path: Path, change: dict[str, Any]) -> None:
    """Catches a configuration that has another file unpickled, or a network without patches."""
    trained = {"mean": OTHER[0], "std": OTHER[1], "input_size": [3, 32, 32]}
    content = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": trained}
    (tmp_path / "config.json").write_text(json.dumps(content | change))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"timm knows no|no vision transformer|not known here"):
        known_weights.known(tmp_path)
