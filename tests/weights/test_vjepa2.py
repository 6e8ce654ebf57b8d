"""V-JEPA 2 and 2.1 in their authors' files: features are those of the network that was saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from pipeline.configuration import build, composition, known_weights
from pipeline.configuration.schema import Clip
from pipeline.errors import UserError
from pipeline.method.pixels import normalise
from pipeline.weights import checkpoint_files, encoders, formats, hub

transformers = pytest.importorskip("transformers", reason="Transformers is missing")
State = dict[str, Tensor]
WIDTH, HEADS, PATCH = 384, 6, 16  # heads are told by the width
CLIP = Clip(frames=4, size=64, stride=1, scales=(1.0,), flip=False)
VIDEOS = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": 2}
VIDEOS |= {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
WRAPPED = "module.backbone."


def encoder_state(norms: Mapping[str, int]) -> State:
    """Weights of two blocks under the authors' names, none as they are initialised."""
    inner = 4 * WIDTH
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for block in range(2):
        shapes |= {
            f"blocks.{block}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"blocks.{block}.attn.qkv.bias": (3 * WIDTH,),
            f"blocks.{block}.attn.proj.weight": (WIDTH, WIDTH),
            f"blocks.{block}.attn.proj.bias": (WIDTH,),
            f"blocks.{block}.mlp.fc1.weight": (inner, WIDTH),
            f"blocks.{block}.mlp.fc1.bias": (inner,),
            f"blocks.{block}.mlp.fc2.weight": (WIDTH, inner),
            f"blocks.{block}.mlp.fc2.bias": (WIDTH,),
        }
        norms = {**norms, f"blocks.{block}.norm1": 1, f"blocks.{block}.norm2": 1}
    torch.manual_seed(0)
    state = {name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}
    for norm in norms:
        state[f"{norm}.weight"] = 1 + torch.randn(WIDTH) * 0.05
        state[f"{norm}.bias"] = torch.randn(WIDTH) * 0.05
    return state


def vjepa2() -> State:
    return encoder_state({"norm": 1})


def vjepa21() -> State:
    """Beside what videos need: norms of earlier blocks, and an embedding of single pictures."""
    state = encoder_state({f"norms_block.{number}": 1 for number in range(4)})
    return state | {
        "patch_embed_img.proj.weight": torch.randn(WIDTH, 3, 1, PATCH, PATCH),
        "patch_embed_img.proj.bias": torch.randn(WIDTH),
        "img_mod_embed": torch.randn(1, 1, WIDTH),
        "video_mod_embed": torch.randn(1, 1, WIDTH),
    }


def written(path: Path, state: State, average: str) -> Path:
    """Write a checkpoint as the authors' training does: the average under this key."""
    trained = {f"{WRAPPED}{name}": torch.zeros_like(t) for name, t in state.items()}
    content: dict[str, Any] = {"encoder": trained, "epoch": 3, "scaler": None}
    content["predictor"] = {f"{WRAPPED}predictor_norm.weight": torch.ones(3)}
    content[average] = {f"{WRAPPED}{name}": tensor for name, tensor in state.items()}
    if average == "ema_encoder":  # that of a distilled one: its teacher is another network
        content["target_encoder"] = {f"{WRAPPED}norm.weight": torch.ones(5)}
    torch.save(content, path)
    return path


@torch.no_grad()
def by_formulas(state: Mapping[str, Tensor], videos: Tensor) -> Tensor:
    """Features B,N,D of pixels B,3,T,H,W by V-JEPA 2.1's formulas, rotations as complex numbers.

    All in float64, so that the difference to a network's is that one's rounding alone.
    """
    state, videos = {name: value.double() for name, value in state.items()}, videos.double()
    embedding = (state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    grid = functional.conv3d(videos, *embedding, stride=(2, PATCH, PATCH))
    times, rows, columns = grid.shape[2:]
    x = grid.flatten(2).transpose(1, 2) + state["video_mod_embed"]
    places = torch.cartesian_prod(*(torch.arange(n) for n in (times, rows, columns))).double()
    places[:, 1:] *= torch.tensor((15 / (rows - 1), 15 / (columns - 1)))
    each = WIDTH // HEADS // 3 // 2  # pairs of channels that time, rows and columns turn
    speeds = 10000 ** (-torch.arange(each) / each).double()
    angles = (places[..., None] * speeds).flatten(1)
    still = torch.zeros(len(angles), WIDTH // HEADS // 2 - 3 * each)
    turns = torch.polar(torch.ones(1).double(), torch.cat([angles, still], 1))

    def turned(heads: Tensor) -> Tensor:
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns).flatten(-2)

    def norm(name: str, x: Tensor) -> Tensor:
        weights = (state[f"{name}.weight"], state[f"{name}.bias"])
        return functional.layer_norm(x, (WIDTH,), *weights, eps=1e-6)

    def linear(name: str, x: Tensor) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    for block in ("blocks.0", "blocks.1"):
        together = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        q, k, v = together.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        scores = turned(q) @ turned(k).transpose(-2, -1) / (WIDTH // HEADS) ** 0.5
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(f"{block}.attn.proj", mixed)
        inner = functional.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x)))
        x = x + linear(f"{block}.mlp.fc2", inner)
    return norm("norms_block.3", x).float()


@torch.no_grad()
def test_features_of_vjepa2_are_those_of_the_same_weights_in_transformers(tmp_path: Path) -> None:
    """Catches queries, keys and values in each other's place, a bias that is lost, the trained
    encoder taken for its average, and other settings than those of the directory."""
    state = vjepa2()
    path = written(tmp_path / "vitl.pt", state, "target_encoder")
    library = transformers.VJEPA2Model(transformers.VJEPA2Config(**VIDEOS)).eval()
    theirs = dict(library.state_dict())
    for name, tensor in formats.VJEPA2.renamed(state).items():
        theirs[name.replace(formats.NETWORK, "encoder.")] = tensor
    library.load_state_dict(theirs)
    library.save_pretrained(tmp_path / "directory")
    from_file, from_directory = map(known_weights.known, (path, tmp_path / "directory"))
    assert from_file is not None
    assert from_directory is not None
    assert from_file.seen == from_directory.seen
    network = from_directory.model.network
    assert network is not None
    ours = {k: v for k, v in network.config.items() if not k.startswith("pred_")}
    same = network.model_copy(update={"config": ours})
    assert from_file.model == from_directory.model.model_copy(update={"network": same})

    videos = torch.randint(0, 256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    library.config.crop_size = 64
    for layer in library.encoder.layer:
        layer.attention.grid_size = 64 // PATCH
    expected = library.encoder(normalise(videos).transpose(1, 2)).last_hidden_state
    for place in (path, tmp_path / "directory"):
        opened = hub.load(place, frames=4, size=64)
        torch.testing.assert_close(opened.tokens(normalise(videos)), expected, rtol=0, atol=1e-5)
    queries = {  # the library's own names, independent of `renamed`
        "encoder.layer.1.attention.query.weight": state["blocks.1.attn.qkv.weight"][:WIDTH],
        "encoder.layer.1.attention.value.bias": state["blocks.1.attn.qkv.bias"][2 * WIDTH :],
        "encoder.layernorm.bias": state["norm.bias"],
    }
    for name, tensor in queries.items():
        assert torch.equal(library.state_dict()[name], tensor)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("average", ["target_encoder", "ema_encoder"])
def test_features_of_vjepa21_are_those_of_its_formulas(
    tmp_path: Path, size: int, average: str
) -> None:
    """Catches the rotation of V-JEPA 2 in place of 2.1's, rows and columns that are not brought to
    256 pixels, a lost embedding of videos, the norm of another block, and the teacher of
    a distilled encoder taken for it."""
    state = vjepa21()
    path = written(tmp_path / "a.pt", state, average)
    videos = torch.randn(2, 3, 4, size, size)
    opened = hub.load(path, frames=4, size=size)
    assert "V-JEPA 2.1" in opened.origin.kind
    with torch.no_grad():
        tokens = opened.tokens(videos)
    torch.testing.assert_close(tokens, by_formulas(state, videos), rtol=0, atol=1e-5)
    unturned = state | {"video_mod_embed": torch.zeros(1, 1, WIDTH)}
    assert not torch.allclose(tokens, by_formulas(unturned, videos), atol=1e-2)


@pytest.mark.parametrize("make", [vjepa2, vjepa21])
def test_what_does_not_fit_is_named(tmp_path: Path, make: Any) -> None:
    """Catches a checkpoint of which a part is taken."""
    state = make()
    path = written(tmp_path / "a.pt", state, "target_encoder")
    known = known_weights.known(path)
    assert known is not None
    encoder = build.encoder(known.model, CLIP)
    gone = "blocks.1.mlp.fc2.bias"
    for changed, problem in (
        ({n: t for n, t in state.items() if n != gone}, "missing: "),
        (state | {gone: torch.zeros(3)}, "shape"),
        (state | {"blocks.1.stray": torch.zeros(1)}, "not of this model: .*stray"),
    ):
        written(path, changed, "target_encoder")
        checkpoint = encoders.read(path)
        with pytest.raises(UserError, match=problem):
            encoders.fill_from(checkpoint, encoder, path)


def test_settings_follow_the_file(tmp_path: Path) -> None:
    """Catches an encoder that is given other clips than its own, or is built as one of tubes with
    sinusoids."""
    path = written(tmp_path / "vjepa2_1.pt", vjepa21(), "ema_encoder")
    text = composition.compose(["experiment=encoder", f"runs.encoder.weights={path}"])
    params = composition.validate(yaml.safe_load(text), place="")
    assert params.data.clip.model_dump().items() >= {"frames": 64, "size": 384}.items()
    network = params.runs["encoder"].model.network
    assert network is not None
    assert network.config["model_type"] == "vjepa2_1"


def test_a_file_of_another_width_is_refused(tmp_path: Path) -> None:
    """Catches heads that nothing tells: features would be plausible and wrong."""
    narrow = vjepa2()
    narrow["patch_embed.proj.weight"] = torch.zeros(96, 3, 2, PATCH, PATCH)
    torch.save(narrow, tmp_path / "a.pt")
    assert formats.recognised(checkpoint_files.read(tmp_path / "a.pt")[0]) is formats.VJEPA2
    with pytest.raises(UserError, match="heads are not known"):
        hub.load(tmp_path / "a.pt")
