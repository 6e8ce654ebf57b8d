"""A frozen image transformer as the target network (paper, section 3.2, "DINO").

The network sees the first frame of every tube (every second frame for tubes of two), and its
patch features are the targets. Where patches and tubes do not lie on the same grid (DINOv2 has
patches of 14 pixels), features are resampled bilinearly to the grid of tubes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.errors import UserError
from pipeline.method.pixels import MEAN, STD
from pipeline.method.targets import FrozenTarget
from pipeline.method.targets.network import HoldingTarget
from pipeline.method.targets.projection import STABILISER
from pipeline.method.tubes import TubeGrid, gather


def normalised_features(features: Tensor) -> Tensor:
    """Normalise features B,N,O per clip over its N tubes: zero mean, unit (unbiased) variance."""
    features = features.float()
    variance, mean = torch.var_mean(features, dim=1, keepdim=True)
    return (features - mean) / (variance.sqrt() + STABILISER)


def tensors_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and bytes of tensors, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class PatchFeatures(nn.Module):
    """A timm vision transformer as a map from frames to features on a grid of tubes."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Any, grid: TubeGrid) -> None:
        super().__init__()
        self.network = network
        self.rows, self.columns = grid.height, grid.width
        patch = self.network.patch_embed.patch_size
        _, height, width = grid.clip_shape
        self.input_size = tuple(
            -(-side // p) * p for side, p in zip((height, width), patch, strict=True)
        )
        self.patches = tuple(side // p for side, p in zip(self.input_size, patch, strict=True))
        # Videos come with ImageNet's normalisation; a network may have been trained with another.
        ours = torch.tensor((MEAN, STD))
        theirs = torch.tensor((network.pretrained_cfg["mean"], network.pretrained_cfg["std"]))
        self.register_buffer("scale", (ours[1] / theirs[1])[:, None, None])
        self.register_buffer("shift", ((ours[0] - theirs[0]) / theirs[1])[:, None, None])

    def forward(self, frames: Tensor) -> Tensor:
        """Features F,n,O of frames F,3,H,W; n counts the tubes of one frame."""
        frames = frames * self.scale + self.shift
        if frames.shape[-2:] != self.input_size:
            frames = functional.interpolate(frames, self.input_size, mode="bilinear")
        frames = frames.to(next(self.network.parameters()).dtype)
        with _quick_attention(frames.device):
            features: Tensor = self.network.forward_features(frames)
        features = features[:, self.network.num_prefix_tokens :]
        if self.patches == (self.rows, self.columns):
            return features
        maps = features.transpose(1, 2).reshape(len(frames), -1, *self.patches)
        maps = functional.interpolate(maps.float(), (self.rows, self.columns), mode="bilinear")
        return maps.flatten(2).transpose(1, 2)


def _quick_attention(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Attention in three steps on a CPU, as `vit.attend` has it for sequences this short."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


class FrozenFeatures(HoldingTarget):
    """Features of a frozen network as targets.

    `digest` is the `tensors_digest` of its weights. Without a network (`use` not called) the model
    has its shape and can be used but not trained.
    """

    frozen = True

    def __init__(self, width: int, grid: TubeGrid) -> None:
        super().__init__()
        self.width = width
        self.grid = grid
        self.own_stream = False  # on an accelerator, see `begin`
        self._stream: torch.cuda.Stream | None = None

    def use(self, network: Callable[[Tensor], Tensor]) -> Self:
        """Take `network`: frames F,3,H,W to features F,n,O, with n tubes in a frame."""
        if isinstance(network, nn.Module):
            network.eval().requires_grad_(False)
        self._held = [network]
        return self

    def begin(self, tubes: Tensor, masked: Tensor) -> Callable[[], Tensor]:
        """Begin with the targets of `forward`; what is returned waits for them and gives them.

        With `own_stream` an accelerator works on them beside what is asked of it meanwhile. Else
        they are worked out when they are waited for.
        """
        if not self.own_stream or not tubes.is_cuda:
            return super().begin(tubes, masked)
        main = torch.cuda.current_stream(tubes.device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(tubes.device)  # type: ignore[no-untyped-call]
        beside = self._stream
        # Each waits for the other in turn, so memory that one frees is not used too early.
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            targets = cast(Tensor, self(tubes, masked))

        def wait() -> Tensor:
            main.wait_stream(beside)
            return targets

        return wait

    @torch.no_grad()
    def forward(self, tubes: Tensor, masked: Tensor) -> Tensor:
        """Targets B,M,O: features of all tubes, normalised per clip, then the masked ones."""
        if not self._held and tubes.is_meta:
            return tubes.new_empty(*masked.shape, self.width)
        if not self._held:
            raise RuntimeError("this model was built without the frozen network of its targets")
        features = self._held[0](self.grid.first_frames(tubes))
        features = features.reshape(*tubes.shape[:2], self.width)
        return gather(normalised_features(features), masked)


def frozen_features(settings: FrozenTarget, grid: TubeGrid, *, load: bool = True) -> FrozenFeatures:
    """Build the target of `settings`; `load=False` leaves out the network, its weights and files.

    Raises `UserError` for an unknown name, a wrong digest, or weights that do not fit.
    """
    import timm  # takes seconds, which other targets need not spend

    known: bool = timm.is_model(settings.model)
    if not known:
        raise UserError(
            f"timm knows no model {settings.model!r}",
            place="objective.target.model",
            remedy="list them with timm.list_models('*dino*')",
        )
    try:
        with torch.device("meta"):
            shape = _create(settings.model, pretrained=False)
    except TypeError as error:  # other families of models have no `dynamic_img_size`
        raise UserError(
            f"{settings.model} is not a vision transformer, so it has no features of patches",
            place="objective.target.model",
            remedy="list the fitting ones with timm.list_models('vit_*dino*')",
        ) from error
    target = FrozenFeatures(shape.num_features, grid)
    if load:
        with torch.random.fork_rng():  # so that the model's own weights do not depend on this
            network = _pretrained(settings)
        target.digest = tensors_digest(network.state_dict())
        target.use(prepared(network, settings, grid))
    target.own_stream = settings.own_stream
    return target


def prepared(network: nn.Module, settings: FrozenTarget, grid: TubeGrid) -> PatchFeatures:
    """A timm network as a map to features, in the precision and the form that `settings` ask."""
    if settings.precision == "bf16":
        network = network.to(torch.bfloat16)
    features = PatchFeatures(network, grid)
    if settings.compile:
        features.compile()
    return features


def _create(name: str, *, pretrained: bool) -> Any:
    import timm

    return timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)


def _pretrained(settings: FrozenTarget) -> nn.Module:
    if settings.weights is None:
        try:
            hub: nn.Module = _create(settings.model, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the weights of {settings.model} could not be fetched: {error}",
                place="objective.target.model",
                remedy="give a local safetensors file as objective.target.weights",
            ) from error
        return hub
    path = Path(settings.weights)
    place = "objective.target.weights"
    if not path.is_file():
        raise UserError(f"no such file: {path}", place=place)
    if settings.sha256 is not None and (digest := _sha256(path)) != settings.sha256.lower():
        raise UserError(
            f"{path} is not the expected file: its SHA-256 is {digest}",
            place="objective.target.sha256",
            remedy="fetch the file again, or correct the digest",
        )
    network: nn.Module = _create(settings.model, pretrained=False)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{path} does not fit {settings.model}: {error}", place=place) from error
    return network


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
