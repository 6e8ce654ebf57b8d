"""Optical flow by RAFT, and the mask that the model makes of it (oracle: torchvision itself)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torchvision.transforms._presets import OpticalFlow as Preset

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Model, Objective
from pipeline.data.load import order
from pipeline.errors import UserError
from pipeline.method import motion, optical_flow
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import FlowMask
from pipeline.method.masks.base import hide_all_but, stacked
from pipeline.method.optical_flow import raft
from pipeline.method.pixels import normalise
from pipeline.method.tubes import split_masks
from tests import small_models
from tests.optical_flow import network, write

CLIP = small_models.clip(size=32)  # 4 frames


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("raft") / "raft.safetensors")


@pytest.fixture(scope="module")
def objective(weights: Path) -> Objective:
    mask = FlowMask(0.75, 8.0, weights=str(weights))
    return small_models.SINKHORN.model_copy(update={"mask": mask})


def frames(clips: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Random uint8 clips B,4,H,W,3."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (clips, 4, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("size", [(128, 136), (128, 60), (24, 132)])
def test_flow_is_torchvisions(
    weights: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the other direction, another normalisation or number of updates, frames of the next
    clip in a pair, and a flow that is not scaled back, or along the wrong axis."""
    monkeypatch.setattr(optical_flow, "PAIRS", 4)
    videos = frames(2, *size)
    ours = raft(str(weights))(normalise(videos))
    assert ours.shape == (2, 3, 2, *size)
    enlarged = tuple(max(128, side + -side % 8) for side in size)
    pictures = functional.interpolate(
        videos.flatten(0, 1).permute(0, 3, 1, 2).double() / 255, enlarged, mode="bilinear"
    )
    pictures = pictures.float().view(2, 4, 3, *enlarged)
    for clip in range(2):
        pair = Preset()(pictures[clip, 1:], pictures[clip, :-1])
        theirs = network()(*pair, num_flow_updates=6)[-1]
        theirs = functional.interpolate(theirs, size, mode="bilinear")
        theirs[:, 0] *= size[1] / enlarged[1]
        theirs[:, 1] *= size[0] / enlarged[0]
        torch.testing.assert_close(ours[clip], theirs, rtol=1e-3, atol=1e-3)


@given(st.integers(0, 1000), st.sampled_from(["middle", "first"]), st.sampled_from([0.5, 0.8]))
@settings(max_examples=20, deadline=None)
def test_the_model_decides_as_the_loader_does(seed: int, base: Any, ratio: float) -> None:
    """Catches other places for the same random numbers, and another mask of the same flow."""
    grid = (2, 4, 6)
    clip = frames(1, 32, 48, seed)[0].numpy()
    there, drawn = (
        FlowMask(ratio, 8.0, base, weights=file).draw(grid, order.sample_rng(seed, 0, 0), clip)
        for file in (None, "raft.pth")
    )
    flow = torch.from_numpy(motion.flow(clip, grid, 8.0).astype(np.float32))
    mask = FlowMask(ratio, 8.0, base, weights="raft.pth")
    split = mask.select(flow[None], torch.from_numpy(drawn)[None], grid)
    assert np.array_equal(hide_all_but(split.visible[0].numpy(), 48), there)
    assert torch.equal(split.predicted[0], torch.from_numpy(np.flatnonzero(there)))


@pytest.mark.parametrize("background", [None, "subtract"])
def test_a_model_follows_the_flow_of_its_clips(objective: Objective, background: Any) -> None:
    """Catches masks of another clip or of another of its masks, random numbers beside the
    sample's, and a flow of what a model without background is given."""
    model = small_models.model(background=background)
    built, clip = sigma_model(model, objective, CLIP).eval(), frames(2, 32, 32)
    mask = objective.mask
    rngs = [order.sample_rng(0, 0, each) for each in range(2)]
    drawn = [stacked([mask.draw(built.grid.shape, rng) for _ in range(2)]) for rng in rngs]
    places = torch.from_numpy(np.stack(drawn))  # 2 clips, 2 masks of each
    (noise,) = split_masks(places)
    videos = normalise(clip)
    tubes = built.grid.split(videos)
    split = built.split(noise, tubes, built.evidence(videos, tubes))
    flows = raft(str(mask.weights))(videos)
    for row, (number, each) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        alone = mask.select(flows[number, None], places[number, None, each], built.grid.shape)
        assert torch.equal(split.visible[row], alone.visible[0])
        assert torch.equal(split.predicted[row], alone.predicted[0])
    loss, again = (
        masked_video_loss(built, videos, places, objective.loss, normalise=False)[0]
        for _ in range(2)
    )
    assert torch.isfinite(loss)
    assert torch.equal(loss, again)


def test_the_network_is_no_part_of_the_model(objective: Objective, model: Model) -> None:
    """Catches RAFT's weights among those that learn or are saved, weights that the model draws
    otherwise because of them, and a network that nobody can tell afterwards."""
    torch.manual_seed(0)
    ours = sigma_model(model, objective, CLIP)
    torch.manual_seed(0)
    mask = FlowMask(0.75, 8.0)
    other = sigma_model(model, objective.model_copy(update={"mask": mask}), CLIP)
    assert ours.state_dict().keys() == other.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True)
    )
    assert len(ours.teacher_digest or "") == 64
    assert other.teacher_digest is None
    assert ours.train().flow_network is not None
    assert not ours.flow_network._network.training
    without = sigma_model(model, objective, CLIP, load_target=False)
    without.teacher_digest = ours.teacher_digest
    assert without.teacher_digest == ours.teacher_digest
    videos = normalise(frames(1, 32, 32))
    places = torch.from_numpy(objective.mask.draw(ours.grid.shape, order.sample_rng(0, 0, 0)))
    with pytest.raises(RuntimeError, match="without the network of its optical flow"):
        without(videos, split_masks(places[None]))
    shapes = [part.shape for part in ours(videos, split_masks(places[None]))[0][:2]]
    meta = without.to("meta")(videos.to("meta"), split_masks(places[None]))[0]
    assert [part.shape for part in meta[:2]] == shapes


def test_a_single_frame_has_no_flow(weights: Path) -> None:
    """Catches an error where there is no pair of frames."""
    videos = normalise(frames(2, 32, 32)[:, :1])
    assert raft(str(weights))(videos).shape == (2, 0, 2, 32, 32)


def test_weights_are_read_strictly(weights: Path, tmp_path: Path) -> None:
    """Catches weights that do not fit and pass, and two kinds of file that are read differently."""
    same = raft(str(write(tmp_path / "raft.pth")))
    assert same.digest == raft(str(weights)).digest
    assert same.digest != raft(str(write(tmp_path / "other.pth", seed=1))).digest
    state = network().state_dict()
    bias = state.pop("update_block.flow_head.conv2.bias")
    save_file(state, tmp_path / "missing.safetensors")
    save_file({**state, "update_block.flow_head.conv2.bias": bias, "more": bias.clone()},
              tmp_path / "more.safetensors")  # fmt: skip
    torch.save(["no", "tensors"], tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("not a file of PyTorch")
    for name, reason in (
        ("absent.pth", "no such file"),
        ("missing.safetensors", r'Missing key.*"update_block.flow_head.conv2.bias"'),
        ("more.safetensors", r'Unexpected key.*"more"'),
        ("list.pth", "does not fit"),
        ("text.pth", "does not fit"),
    ):
        with pytest.raises(UserError, match=rf"(?s){reason}") as caught:
            raft(str(tmp_path / name))
        assert caught.value.place == "objective.mask.weights"
    with pytest.raises(UserError, match="not the expected file") as caught:
        raft(str(weights), "0" * 64)
    assert caught.value.place == "objective.mask.sha256"
    with pytest.raises(ValueError, match="no weights"):
        FlowMask(0.5, 8.0, sha256="0" * 64)
