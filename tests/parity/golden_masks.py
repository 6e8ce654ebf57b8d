"""Masks of several methods: they take recorded draws, and hide exactly what was recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.data.load import trajectories
from pipeline.method.masks import flow_warped
from pipeline.method.masks.base import hide_all_but, least
from pipeline.method.masks.running_cell import running_cell
from pipeline.method.masks.trajectory import hide_objects, object_tubes

from .golden import FEATURES, Case, checks


@checks("running_cell_mask")
def running_cell_mask(case: Case) -> None:
    """The cell's turns, from each of its starts."""
    grid, ratio = tuple(case.config["grid"]), case.config["mask_ratio"]
    starts = case.tensors("inputs")["start"].tolist()
    ours = np.stack([running_cell(grid, ratio, start) for start in starts])
    assert np.array_equal(ours, case.tensors("outputs")["masks"].numpy())


@checks("smile_masks")
def smile_masks(case: Case) -> None:
    """The tubes of objects, and which are hidden of them and beside them."""
    config = case.config
    inputs, outputs = ({k: v.numpy() for k, v in case.tensors(n).items()} for n in _PARTS)
    patch = config["patch_size"]
    grid, tube = tuple(config["grid"]), (config["tubelet_size"], patch, patch)
    objects = object_tubes(inputs["boxes"], grid, tube)
    assert np.array_equal(objects, outputs["object_patches"])
    drawn = [np.ones(objects.size) for _ in range(2)]  # the recorded choice comes first
    drawn[0][inputs["unmasked_object"]] = 0
    drawn[1][inputs["balance"]] = 0
    hidden = hide_objects(
        inputs["tube_mask"], objects, config["unmask_ratio"], (drawn[0], drawn[1])
    )
    assert hidden.sum() == config["masked_total"]
    assert np.array_equal(hidden, outputs["mask"])


@checks("smile_trajectories")
def smile_trajectories(case: Case) -> None:
    """Sizes, places and angles of the pasted objects, from the draws."""
    config = case.config
    inputs, outputs = ({k: v.numpy() for k, v in case.tensors(n).items()} for n in _PARTS)
    size, frames = config["img_size"], config["frames"]
    settings = trajectories.TrajectorySettings(
        scales=tuple(config["scales"]), ratios=tuple(config["ratios"])
    )
    shapes = trajectories.box_shapes(settings, inputs["anchor_index"], inputs["shape_jitter"], size)
    np.testing.assert_allclose(shapes, outputs["box_shapes"], rtol=1e-12)
    places = trajectories.centres(
        inputs["points"], inputs["scaling"], inputs["translation"], frames, size, config["sigma"]
    )
    assert np.array_equal(places, outputs["centres"])
    sizes = trajectories.sizes_of(
        shapes,
        inputs["size_key_frames"],
        inputs["size_log_scales"],
        inputs["size_interpolation"],
    )
    boxes = trajectories.boxes_of(places, sizes)
    np.testing.assert_allclose(boxes, outputs["boxes"], rtol=1e-12, atol=1e-9)
    assert np.array_equal(np.round(boxes).astype(np.int64), outputs["boxes_rounded"])
    angles = trajectories.angles_of(
        inputs["rotation_key_frames"],
        inputs["rotation_shifts"],
        inputs["rotation_interpolation"],
    )
    np.testing.assert_allclose(angles, outputs["rotation_angles"], rtol=1e-12, atol=1e-9)


@checks("mgmae_mask")
def mgmae_mask(case: Case) -> None:
    """The map of the drawn places, carried along the flow, and the tubes where most arrives."""
    config, inputs, outputs = case.config, case.tensors("inputs"), case.tensors("outputs")
    size, patch = config["img_size"], config["patch_size"]
    side = size // patch
    grid = (config["frames"] // config["tubelet_size"], side, side)
    kept = config["visible"]
    initial = inputs["initial_map"]
    ours = flow_warped.gaussian_map(inputs["centres"], (size, size), patch)
    torch.testing.assert_close(ours, initial, rtol=0, atol=FEATURES)
    fill = config["hole_filling"] == "consist"
    warped = flow_warped.warp(initial, inputs["flows"], config["base_index"], fill=fill)
    torch.testing.assert_close(warped, outputs["warped_maps"], rtol=0, atol=FEATURES)
    sums = flow_warped.tube_sums(warped, grid)
    torch.testing.assert_close(sums, outputs["token_sums"], rtol=1e-5, atol=1e-4)
    for clip, each in enumerate(sums.numpy()):
        values = each.reshape(1 if config["topk_on_all"] else grid[0], -1)
        hidden = hide_all_but(least(-values, kept), values.shape[1])
        assert np.array_equal(hidden.ravel(), outputs["mask"][clip].numpy())
    if not config["topk_on_all"]:
        _selected_by_the_mask(case, grid)


def _selected_by_the_mask(case: Case, grid: tuple[int, int, int]) -> None:
    """The mask that decides in the model takes the drawn places and the flow as they are given."""
    config, inputs = case.config, case.tensors("inputs")
    base: Any = "middle" if config["base_index"] else "first"
    holes: Any = "base" if config["hole_filling"] == "consist" else "empty"
    mask = flow_warped.FlowMask(config["mask_ratio"], 8.0, base, holes, weights="raft.pth")
    rows, columns = inputs["centres"].unbind(-1)
    split = mask.select(inputs["flows"], (rows * grid[2] + columns).float(), grid)
    hidden = hide_all_but(split.visible.numpy(), grid[0] * grid[1] * grid[2])
    assert np.array_equal(hidden, case.tensors("outputs")["mask"].numpy())
    shown = torch.from_numpy(hidden).nonzero()[:, 1].view_as(split.predicted)
    assert torch.equal(split.predicted, shown)


_PARTS = ("inputs", "outputs")
