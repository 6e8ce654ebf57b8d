"""Image transformers of timm, from a folder as timm writes it: `config.json` beside the weights.

What a file says decides what is built, so it may name registered architectures and arguments of
their shape alone: nothing that would fetch or unpickle something.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.method.choices import Pooling
from pipeline.weights import checkpoint_files
from pipeline.weights.networks import TIMM, Channels, Described

# Arguments of a transformer that a file may give: those that change its shape or what it computes.
SHAPING = {
    *("img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio"),
    *("qkv_bias", "qk_norm", "proj_bias", "init_values", "class_token", "no_embed_class"),
    *("reg_tokens", "num_reg_tokens", "pre_norm", "final_norm", "scale_attn_norm"),
    *("scale_mlp_norm", "swiglu_mlp", "scale_mlp", "use_abs_pos_emb", "use_rot_pos_emb"),
    *("ref_feat_shape", "use_post_norm", "dynamic_img_size", "dynamic_img_pad"),
}
# What stands behind patches' features, which is asked for where its own pooling is.
POOLING = {"global_pool", "fc_norm", "use_fc_norm", "pool_include_prefix"}
WITHOUT_EFFECT = {"num_classes", "drop_rate", "drop_path_rate"}
HEAD = ("head.", "head_drop.")
ATTENTION = "attn_pool."


def described(folder: Path, content: Mapping[str, Any], pooling: Pooling = "mean") -> Described:
    """Return what a folder with this `config.json` says. Raises UserError where it cannot."""
    given, trained = content.get("model_args") or {}, content.get("pretrained_cfg") or content
    if unknown := sorted(set(given) - SHAPING - POOLING - WITHOUT_EFFECT):
        raise UserError(f"arguments that are not known here: {unknown}", place=str(folder))
    kept = SHAPING | (POOLING if pooling == "own" else set())
    shaping = {name: value for name, value in sorted(given.items()) if name in kept}
    config = {"model_type": TIMM, "architecture": content["architecture"], **shaping}
    with torch.device("meta"):
        network = built(config, pooling, place=str(folder))
    patch, size = network.patch_embed.patch_size, trained.get("input_size", (3, 224, 224))
    if patch[0] != patch[1] or size[1] != size[2]:
        problem = f"its patches are {patch}, its pictures {tuple(size[1:])}, not square"
        raise UserError(problem, place=str(folder))
    block, width = network.blocks[0], network.num_features
    inner = getattr(getattr(block.mlp, "fc1", None), "out_features", 4 * width)
    return Described(
        config=config,
        tube=(1, patch[0], patch[1]),
        width=width,
        depth=len(network.blocks),
        heads=block.attn.num_heads,
        mlp_ratio=inner / width,
        seen={"size": size[1]},
        mean=_channels(trained, "mean", folder),
        std=_channels(trained, "std", folder),
    )


def _channels(trained: Mapping[str, Any], key: str, folder: Path) -> Channels:
    values = trained.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise UserError(f"{key} is {values}, not three numbers", place=str(folder / "config.json"))
    return float(values[0]), float(values[1]), float(values[2])


def built(config: Mapping[str, Any], pooling: Pooling = "mean", *, place: str = "") -> Any:
    """Return a network with fresh weights, without a head. Raises UserError where none is.

    What pools its patches is there where its own pooling is asked for.
    """
    import timm  # takes seconds

    arguments = {k: v for k, v in config.items() if k not in ("model_type", "architecture")}
    name = config["architecture"]
    known: bool = timm.is_model(name)
    if not known or set(arguments) - SHAPING - (POOLING if pooling == "own" else set()):
        raise UserError(f"timm knows no model {name!r} of these arguments", place=place)
    arguments |= {"num_classes": 0, "dynamic_img_size": True}
    if pooling == "mean":
        arguments["global_pool"] = ""
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"{name} is no vision transformer that can be built here: {error}",
            place=place,
            remedy="list the fitting ones with timm.list_models('vit_*')",
        ) from None
    if not hasattr(network, "blocks") or not hasattr(network, "num_prefix_tokens"):
        raise UserError(f"{name} has no features of patches", place=place)
    return network


def tensors(
    folder: Path, file: Path, config: Mapping[str, Any], pooling: Pooling = "mean"
) -> dict[str, Tensor]:
    """Read the weights under the names of `built`'s network, all of them and no others.

    Where its own pooling is not asked for, a norm behind the mean of all patches (`fc_norm`) is
    applied to each of them. Raises UserError naming what is missing, left over, or of another
    shape.
    """
    passed_over = HEAD if pooling == "own" else (*HEAD, ATTENTION)
    read = checkpoint_files.read(file)[0]
    state = {name: tensor for name, tensor in read.items() if not name.startswith(passed_over)}
    with torch.device("meta"):
        network = built(config, pooling, place=str(folder))
    expected = network.state_dict()
    if "norm.weight" in expected and "norm.weight" not in state:
        state = {n.replace("fc_norm.", "norm.", 1): tensor for n, tensor in state.items()}
    faults = [f"missing: {name}" for name in expected if name not in state]
    faults += [f"not of this model: {name}" for name in state if name not in expected]
    faults += [
        f"{name}: shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if faults:
        problem = f"the weights do not fit the network: {checkpoint_files.some(faults)}"
        raise UserError(problem, place=str(folder))
    return {name: tensor.float() for name, tensor in state.items()}
