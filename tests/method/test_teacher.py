"""A frozen timm network as target: loaded from a local file, kept apart from the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.errors import UserError
from pipeline.method.frozen_network import tensors_digest
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.feature_networks import PatchFeatures, PatchProjection
from pipeline.method.targets.frozen import FrozenFeatures, normalised_features
from pipeline.method.targets.image_teachers import frozen_features
from pipeline.method.tubes import TubeGrid
from pipeline.runtime.files import sha256_file

NAME = "test_vit.r160_in1k"  # timm's smallest vision transformer: 64 wide, patches of 16
GRID = TubeGrid(2, 2, 2, (2, 16, 16))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the teacher in a local file."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model(NAME, pretrained=False, num_classes=0, dynamic_img_size=True)
        save_file(network.state_dict(), path)
    return path


def settings(weights: Path, **changes: object) -> FrozenTarget:
    given = {"model": NAME, "weights": str(weights), **changes}
    return FrozenTarget(**given)


def dino(sinkhorn: Objective, target: FrozenTarget) -> Objective:
    return sinkhorn.model_copy(update={"target": target})


@pytest.fixture
def wide_clip(clip: Clip) -> Clip:
    return clip.model_copy(update={"size": 32})


@pytest.fixture
def wide_model(model: Model) -> Model:
    return model.model_copy(update={"tube": (2, 16, 16)})


def test_features_are_those_of_every_tubes_first_frame(weights: Path) -> None:
    """Against timm directly: frames, prefix tokens, order of tubes, normalisation per clip."""
    target = frozen_features(settings(weights), GRID)
    videos = torch.randn(2, 3, *GRID.clip_shape)
    everything = torch.arange(GRID.count).expand(2, -1)
    network = timm.create_model(NAME, pretrained=False, num_classes=0, dynamic_img_size=True)
    network.load_state_dict(timm.models.load_state_dict(str(weights)))
    network.eval()
    mean, std = (torch.tensor(network.pretrained_cfg[k])[:, None, None] for k in ("mean", "std"))
    pixels = videos.transpose(1, 2) * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    pixels = pixels + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    with torch.no_grad():
        expected = torch.stack(
            [
                network.forward_features((p[[0, 2]] - mean) / std)[:, 1:].flatten(0, 1)
                for p in pixels
            ]
        )
    expected = (expected - expected.mean(1, keepdim=True)) / (expected.std(1, keepdim=True) + 1e-6)
    torch.testing.assert_close(
        target(GRID.split(videos), everything), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("patch", [(4, 4), (2, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patches_are_embedded_as_by_a_convolution(
    patch: tuple[int, int], layout: torch.memory_format
) -> None:
    """Catches rows for columns, channels in another order, and weights under other names."""
    convolution = torch.nn.Conv2d(3, 5, patch, stride=patch)
    product = PatchProjection(convolution)
    frames = torch.randn(2, 3, 16, 24).to(memory_format=layout)
    torch.testing.assert_close(product(frames), convolution(frames))
    assert product.state_dict().keys() == convolution.state_dict().keys()


def test_patches_are_resampled_to_the_grid_of_tubes() -> None:
    """DINOv2's patches of 14 on tubes of 16: a 16x16 map of patches must become 14x14 tubes."""
    network = timm.create_model(
        "vit_small_patch14_dinov2.lvd142m",
        pretrained=False,
        num_classes=0,
        dynamic_img_size=True,
        depth=1,
        embed_dim=24,
        num_heads=2,
    ).eval()
    grid = TubeGrid(1, 14, 14, (2, 16, 16))
    frames = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        features = PatchFeatures(network, grid).eval()(frames)
        maps = network.forward_features(frames)[:, 1:].transpose(1, 2).reshape(1, 24, 16, 16)
    expected = functional.interpolate(maps, (14, 14), mode="bilinear").flatten(2).transpose(1, 2)
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("tube", [(2, 8, 8), (2, 12, 12)])
def test_any_tube_gets_a_feature(weights: Path, tube: tuple[int, int, int]) -> None:
    """Tubes smaller than patches, and clips that patches do not divide, still get targets."""
    grid = TubeGrid.from_size(4, 24, 24, tube)
    target = frozen_features(settings(weights), grid)
    everything = torch.arange(grid.count).expand(1, -1)
    features = target(grid.split(torch.randn(1, 3, 4, 24, 24)), everything)
    assert features.shape == (1, grid.count, 64)
    assert features.isfinite().all()


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("vit_small_patch16_224.dino", 384),
        ("vit_base_patch16_224.dino", 768),
        ("vit_base_patch14_dinov2.lvd142m", 768),
        ("vit_base_patch14_reg4_dinov2.lvd142m", 768),
    ],
)
def test_published_teachers_are_known(name: str, width: int) -> None:
    """The names of the recipes must exist in timm and give targets of their width."""
    target = FrozenTarget(model=name)
    assert frozen_features(target, GRID, load=False).width == width


def test_the_teacher_is_no_part_of_the_model(
    weights: Path, wide_model: Model, sinkhorn: Objective, wide_clip: Clip
) -> None:
    """It must not be trained, saved, counted, or put into training mode; but it must move."""
    objective = dino(sinkhorn, settings(weights))
    sigma = sigma_model(wide_model, objective, wide_clip)
    bare = sigma_model(wide_model, objective, wide_clip, load_target=False)
    assert sigma.state_dict().keys() == bare.state_dict().keys()
    assert sum(1 for _ in sigma.parameters()) == sum(1 for _ in bare.parameters())
    teacher = sigma.target._held[0]
    sigma.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(p.device.type == "meta" for p in sigma.to("meta").target._held[0].parameters())
    with pytest.raises(RuntimeError, match="without the frozen network"):
        bare(torch.randn(1, 3, 4, 32, 32), torch.arange(8)[None] < 4)


def test_the_model_starts_the_same_with_and_without_teacher(
    weights: Path, wide_model: Model, sinkhorn: Objective, wide_clip: Clip
) -> None:
    """Building a teacher draws random numbers: they must not be the model's."""
    states = []
    for load in (True, False):
        torch.manual_seed(5)
        objective = dino(sinkhorn, settings(weights))
        states.append(sigma_model(wide_model, objective, wide_clip, load_target=load).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_file_is_checked_before_it_is_used(weights: Path, tmp_path: Path) -> None:
    """A wrong, absent or misfitting teacher would change every target without a word."""
    digest = sha256_file(weights)
    target = frozen_features(settings(weights, sha256=digest.upper()), GRID)
    assert len(target.digest) == 64
    with pytest.raises(UserError, match="not the expected file"):
        frozen_features(settings(weights, sha256="0" * 64), GRID)
    with pytest.raises(UserError, match="no such file"):
        frozen_features(settings(tmp_path / "absent.safetensors"), GRID)
    with pytest.raises(UserError, match="knows no model"):
        frozen_features(settings(weights, model="vit_of_nobody"), GRID)
    with pytest.raises(UserError, match="not a vision transformer"):
        frozen_features(settings(weights, model="resnet18"), GRID)
    other = tmp_path / "other.safetensors"
    save_file({"stray": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="stray"):
        frozen_features(settings(other), GRID)
    other.write_text("not safetensors")
    with pytest.raises(UserError, match="does not fit"):
        frozen_features(settings(other), GRID)


def test_a_teacher_in_bfloat16_says_nearly_the_same(weights: Path) -> None:
    """Half of the memory and of the work; its digest must still be that of the weights as given."""
    tubes = GRID.split(torch.randn(2, 3, *GRID.clip_shape))
    everything = torch.arange(GRID.count).expand(2, -1)
    whole = frozen_features(settings(weights), GRID)
    half = frozen_features(settings(weights, precision="bf16", own_stream=True), GRID)
    assert {p.dtype for p in half._held[0].parameters()} == {torch.bfloat16}
    assert half.digest == whole.digest
    expected, found = whole(tubes, everything), half.begin(tubes, everything)()
    assert found.dtype == torch.float32
    assert functional.cosine_similarity(found, expected, dim=-1).min() > 0.99


def test_digest_depends_on_every_value_and_name() -> None:
    """The recorded digest must tell teachers apart."""
    state = {"a": torch.zeros(2), "b": torch.ones(2, dtype=torch.bfloat16)}
    same = {"b": state["b"].clone(), "a": state["a"].clone()}
    assert tensors_digest(state) == tensors_digest(same)
    assert tensors_digest(state) != tensors_digest({**state, "a": torch.tensor([0.0, 1e-30])})
    assert tensors_digest(state) != tensors_digest({"c": state["a"], "b": state["b"]})


def test_features_are_normalised_over_the_tubes_of_a_clip() -> None:
    """Zero mean and unit variance per feature over a clip's own tubes, not over the batch's."""
    features = torch.randn(3, 10, 4) * 5 + torch.arange(3.0)[:, None, None]
    normalised = normalised_features(features)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(3, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.std(1), torch.ones(3, 4), rtol=1e-4, atol=0)


def test_any_function_can_be_the_network() -> None:
    """Recorded features take the place of a network in the parity tests."""
    target = FrozenFeatures(3, GRID).use(
        lambda frames: frames.mean((2, 3))[:, None].expand(-1, 4, 3)
    )
    features = target(GRID.split(torch.randn(2, 3, *GRID.clip_shape)), torch.tensor([[0], [1]]))
    assert features.shape == (2, 1, 3)
