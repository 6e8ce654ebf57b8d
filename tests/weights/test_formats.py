"""Checkpoints of other methods: the features are those of the network that was saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pipeline.configuration import build, composition, known_weights
from pipeline.configuration.schema import Clip, Model, Run
from pipeline.errors import UserError
from pipeline.method.choices import Positions
from pipeline.method.pixels import MEAN, STD
from pipeline.method.vit import Encoder
from pipeline.weights import encoders, formats, hub

State = dict[str, Tensor]
RECORDED = Path(__file__).parents[3] / "shared" / "golden-methods"
CLIP = Clip(frames=8, size=32, stride=4, scales=(1.0,), flip=False)


def model(positions: Positions = "sinusoid", tube: int = 2, width: int = 48) -> Model:
    return Model(
        name="loaded",
        tube=(tube, 8, 8),
        width=width,
        depth=2,
        heads=width // 64 or 4,
        mlp_ratio=2.0,
        decoder_width=width,
        decoder_depth=1,
        decoder_heads=4,
        positions=positions,
    )


def encoder_of(settings: Model, clip: Clip = CLIP) -> Encoder:
    """An encoder none of whose parameters is as it was initialised."""
    torch.manual_seed(0)
    encoder = build.encoder(settings, clip)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder.eval()


def one_bias(state: Mapping[str, Tensor]) -> State:
    """One bias of queries, keys and values; that of keys changes nothing."""
    theirs: State = {}
    for name, tensor in state.items():
        block = name.removesuffix("q_bias")
        if name.endswith("q_bias"):
            keys = torch.randn_like(tensor)
            theirs[f"{block}qkv.bias"] = torch.cat([tensor, keys, state[f"{block}v_bias"]])
        elif not name.endswith("v_bias"):
            theirs[name] = tensor
    return theirs


def under(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def positions_of(encoder: Encoder) -> State:
    return {"pos_embed": encoder.positions[None]}


def with_decoder(encoder: Encoder) -> State:
    """The names of VideoMAE, VideoMAE v2, SMILE, MGMAE, EVEREST, MME and InternVideo."""
    other = {"decoder.norm.weight": torch.ones(3), "mask_token": torch.zeros(1, 1, 3)}
    return under("encoder.", encoder.state_dict()) | other


def as_umt(encoder: Encoder) -> State:
    return with_decoder(encoder) | {"clip_decoder.0.head.weight": torch.zeros(3, 48)}


def as_trackmae(encoder: Encoder) -> State:
    state = under("encoder.", one_bias(encoder.state_dict()))
    return state | {"tracker_decoder.head.weight": torch.zeros(8, 3)}


def as_mvd(encoder: Encoder) -> State:
    further = {"down_img.weight": torch.zeros(3, 48), "pos_embed_img": torch.zeros(1, 64, 3)}
    return encoder.state_dict() | positions_of(encoder) | further


def as_vjepa(encoder: Encoder) -> State:
    """All networks in one mapping; the encoder that is trained is another one."""
    average = one_bias(encoder.state_dict()) | positions_of(encoder)
    trained = {name: torch.zeros_like(tensor) for name, tensor in average.items()}
    return under("target_encoder.", average) | under("encoder.", trained)


def as_published_vjepa(encoder: Encoder) -> dict[str, State]:
    average = under("module.backbone.", one_bias(encoder.state_dict()) | positions_of(encoder))
    trained = {name: torch.zeros_like(tensor) for name, tensor in average.items()}
    predictor = {"module.backbone.predictor_norm.weight": torch.ones(3)}
    return {"encoder": trained, "predictor": predictor, "target_encoder": average}


def as_mae_st(encoder: Encoder) -> State:
    theirs: State = {}
    for name, tensor in encoder.state_dict().items():
        block = name.removesuffix("qkv.weight")
        if name.endswith("qkv.weight"):
            for part, weight in zip("qkv", tensor.chunk(3), strict=True):
                theirs[f"{block}{part}.weight"] = weight.clone()
            theirs[f"{block}k.bias"] = torch.randn(len(tensor) // 3)
        else:
            theirs[name.replace("q_bias", "q.bias").replace("v_bias", "v.bias")] = tensor
    names = {"space": "pos_embed_spatial", "time": "pos_embed_temporal", "class_token": "cls_token"}
    for ours, name in names.items():
        theirs[name] = theirs.pop(f"learned.{ours}")
    theirs["pos_embed_class"] = torch.randn_like(theirs["cls_token"])
    theirs["cls_token"] = theirs["cls_token"] - theirs["pos_embed_class"]
    return theirs | {"decoder_embed.bias": torch.zeros(3)}


@dataclass(frozen=True)
class Written:
    """How a method writes its checkpoints, and what is to be told of them."""

    write: Callable[[Encoder], Mapping[str, Any]]
    kind: str
    positions: Positions = "sinusoid"
    tube: int = 2


WRITTEN = (
    Written(with_decoder, "VideoMAE"),
    Written(as_umt, "UMT", tube=1),
    Written(as_trackmae, "TrackMAE"),
    Written(as_mvd, "MVD", "sincos_3d_quarter_time"),
    Written(as_vjepa, "V-JEPA", "sincos_3d"),
    Written(as_vjepa, "V-JEPA", "sincos_3d_half_time"),
    Written(as_published_vjepa, "V-JEPA", "sincos_3d"),
    Written(as_mae_st, "MAE-ST", "learned"),
)


def by_name(written: Written) -> str:
    return f"{written.write.__name__}-{written.positions}"


def as_trained(videos: Tensor, kind: str) -> Tensor:
    """Normalised pixels as the method's own network is given them."""
    if kind != "MAE-ST":
        return videos
    ours = torch.tensor((MEAN, STD))[..., None, None, None]
    return (videos * ours[1] + ours[0] - 0.45) / 0.225


@pytest.fixture
def own_run(run: Run) -> Run:
    trainer = run.trainer.model_copy(update={"epochs": 0, "warmup_epochs": 0})
    return run.model_copy(update={"trainer": trainer})


@pytest.mark.parametrize("written", WRITTEN, ids=by_name)
def test_features_are_those_of_the_saved_network(
    tmp_path: Path, own_run: Run, written: Written
) -> None:
    """Catches a tensor in another's place, a bias that is lost, positions or pixels of another
    kind, and the trained encoder taken for its average."""
    settings = model(written.positions, written.tube)
    saved = encoder_of(settings)
    path = tmp_path / "a.pth"
    torch.save(written.write(saved), path)
    videos = torch.randn(2, 3, *saved.grid.clip_shape)
    expected = saved(as_trained(videos, written.kind))

    torch.manual_seed(1)
    encoder = build.encoder(settings, CLIP).eval()
    filled = own_run.model_copy(update={"model": settings, "weights": str(path)})
    assert written.kind in encoders.fill(encoder, filled, CLIP).kind
    torch.testing.assert_close(encoder(videos), expected, rtol=0, atol=1e-5)

    opened = hub.load(path, heads=4, frames=8, size=32)
    torch.testing.assert_close(opened.tokens(videos), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("written", WRITTEN, ids=by_name)
def test_what_does_not_fit_is_named(tmp_path: Path, own_run: Run, written: Written) -> None:
    """Catches a checkpoint of which a part is taken, and other positions than it was trained
    with: features would be plausible and wrong."""
    settings = model(written.positions, written.tube)
    content = written.write(encoder_of(settings))
    state = content.get("target_encoder", content)
    path = tmp_path / "a.pth"

    def fill(settings: Model) -> None:
        run = own_run.model_copy(update={"model": settings, "weights": str(path)})
        encoders.fill(build.encoder(settings, CLIP), run, CLIP)

    torch.save(content, path)
    other: Positions = "sincos_3d" if written.positions == "sinusoid" else "sinusoid"
    with pytest.raises(UserError, match=r"has positions|missing") as caught:
        fill(settings.model_copy(update={"positions": other}))
    assert written.positions in caught.value.remedy
    gone = next(name for name in state if name.endswith("blocks.1.mlp.fc1.weight"))
    kept = {name: tensor for name, tensor in state.items() if name != gone}
    for changed, problem in (
        (kept, r"missing: encoder\.blocks\.1\.mlp\.fc1\.weight"),
        (kept | {gone: torch.zeros(1)}, "shape"),
        ({**state, f"{gone}.stray": torch.zeros(1)}, r"not of this model: .*stray"),
    ):
        torch.save(changed if state is content else {**content, "target_encoder": changed}, path)
        with pytest.raises(UserError, match=problem):
            fill(settings)


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (Written(as_vjepa, "V-JEPA", "sincos_3d"), {"frames": 16, "size": 32, "stride": 4}),
        (Written(as_mvd, "MVD", "sincos_3d_quarter_time"), {"frames": 16, "size": 32, "stride": 4}),
        (Written(as_mae_st, "MAE-ST", "learned"), {"frames": 16, "size": 32}),
        (Written(as_umt, "UMT", tube=1), {"frames": 8, "size": 224, "sampling": "per_segment"}),
    ],
    ids=lambda value: by_name(value) if isinstance(value, Written) else "",
)
def test_settings_follow_what_it_was_trained_on(
    tmp_path: Path, written: Written, seen: dict[str, Any]
) -> None:
    """Catches an encoder that is given other clips than its own without a word."""
    clip = CLIP.model_copy(update={"frames": 16})
    settings = model(written.positions, written.tube, width=384)
    for path, save in ((tmp_path / "a.pth", torch.save), (tmp_path / "a.safetensors", save_file)):
        save(dict(written.write(encoder_of(settings, clip))), path)
        known = known_weights.known(path)
        assert known is not None
        assert (known.model.positions, known.model.heads) == (written.positions, 6)
        composed = composition.compose(["experiment=encoder", f"runs.encoder.weights={path}"])
        params = composition.validate(yaml.safe_load(composed), place="")
        assert params.runs["encoder"].model.positions == written.positions
        assert params.data.clip.model_dump().items() >= seen.items()


def test_arguments_of_the_training_count(tmp_path: Path) -> None:
    """Catches a checkpoint of VideoMAE whose arguments are passed over."""
    import argparse

    arguments = argparse.Namespace(num_frames=8, input_size=32, sampling_rate=2)
    state = with_decoder(encoder_of(model(width=384)))
    torch.save({"model": state, "args": arguments}, tmp_path / "a.pth")
    known = known_weights.known(tmp_path / "a.pth")
    assert known is not None
    assert known.seen == {"frames": 8, "size": 32, "stride": 2}


@pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded numbers beside the repository")
@pytest.mark.parametrize(
    ("case", "kind", "positions"),
    [
        ("adamae_step", "AdaMAE", "sinusoid"),
        ("everest_step", "VideoMAE", "sinusoid"),
        ("mae_st_step", "MAE-ST", "learned"),
        ("mvd_step", "MVD", "sincos_3d_quarter_time"),
        ("smile_step", "VideoMAE", "sinusoid"),
        ("umt_step", "UMT", "sinusoid"),
        ("videomae_v2_step", "VideoMAE", "sinusoid"),
        ("vjepa_step", "V-JEPA", "sincos_3d"),
    ],
)
def test_weights_that_the_authors_code_wrote(
    own_run: Run, case: str, kind: str, positions: Positions
) -> None:
    """Catches names that are not those of the authors' code; `tests/parity` holds what such a
    network computes to what theirs did."""
    config = json.loads((RECORDED / case / "config.json").read_text())
    path, patch = RECORDED / case / "weights.safetensors", config["patch_size"]
    change = {
        "tube": (config["tubelet_size"], patch, patch),
        "width": config["embed_dim"],
        "depth": config["depth"],
        "heads": config["num_heads"],
        "mlp_ratio": float(config["mlp_ratio"]),
    }
    settings = model(positions).model_copy(update=change)
    clip = CLIP.model_copy(update={"frames": config["frames"], "size": config["img_size"]})
    encoder = build.encoder(settings, clip).eval()
    run = own_run.model_copy(update={"model": settings, "weights": str(path)})
    assert kind in encoders.fill(encoder, run, clip).kind

    state = load_file(path)
    told = formats.recognised(state)
    assert told is not None
    same = build.encoder(settings, clip).eval()
    hub.load_pretrained_encoder(same, told.renamed(state))
    videos = load_file(RECORDED / case / "inputs.safetensors")["videos"]
    features = encoder(videos)
    if kind == "MAE-ST":
        ours = torch.tensor((MEAN, STD))[..., None, None, None]
        features = encoder((videos * 0.225 + 0.45 - ours[0]) / ours[1])
    torch.testing.assert_close(features, same(videos), rtol=0, atol=1e-5)
    if kind == "V-JEPA":
        inputs = load_file(RECORDED / case / "inputs.safetensors")
        outputs = load_file(RECORDED / case / "outputs.safetensors")
        targets = functional.layer_norm(features, features.shape[-1:], eps=1e-5)
        places = inputs["predicted_0"][..., None].expand(-1, -1, features.shape[-1])
        torch.testing.assert_close(
            targets.gather(1, places), outputs["target_0"], rtol=0, atol=1e-5
        )
