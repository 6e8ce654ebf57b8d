"""A frozen transformer as the target network (paper, section 3.2, "DINO").

One of images sees the first frame of every tube (every second frame for tubes of two), and its
patch features are the targets. Where patches and tubes do not lie on the same grid (DINOv2 has
patches of 14 pixels), features are resampled bilinearly to the grid of tubes. One of videos sees
the whole clip, cut into the same tubes.

Shapes: B clips, F frames, N tubes of a clip, n of a frame, M predicted ones, P pixel values of a
tube, L layers, O values of a target: L times the width of a feature.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.errors import UserError
from pipeline.method.pixels import MEAN, STD
from pipeline.method.targets import EncoderTarget, FrozenTarget, Normalisation
from pipeline.method.targets.network import HoldingTarget
from pipeline.method.targets.projection import STABILISER
from pipeline.method.tubes import TubeGrid, gather
from pipeline.method.vit import Encoder


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


class Attended(NamedTuple):
    """What a network says of all tubes, and which of them its last block attends to."""

    features: Tensor  # B,N,O; of frames F,n,O
    attention: Tensor  # B,N or F,n: shares, of the class token where there is one, else the mean


class PatchFeatures(nn.Module):
    """A timm vision transformer as a map from frames to features on a grid of tubes."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Any, grid: TubeGrid, settings: FrozenTarget | None = None) -> None:
        super().__init__()
        self.network = network
        self.settings = settings or FrozenTarget(model="")
        self.rows, self.columns = grid.height, grid.width
        patch = self.network.patch_embed.patch_size
        _, height, width = grid.clip_shape
        self.input_size = tuple(
            -(-side // p) * p for side, p in zip((height, width), patch, strict=True)
        )
        self.patches = tuple(side // p for side, p in zip(self.input_size, patch, strict=True))
        # Videos come with ImageNet's normalisation; a network may have been trained with another.
        ours = torch.tensor((MEAN, STD))
        theirs = torch.tensor(_normalisation(network, self.settings))
        self.register_buffer("scale", (ours[1] / theirs[1])[:, None, None])
        self.register_buffer("shift", ((ours[0] - theirs[0]) / theirs[1])[:, None, None])

    def forward(self, frames: Tensor) -> Tensor:
        """Features F,n,O of frames F,3,H,W; n counts the tubes of one frame."""
        layers, final_norm = list(self.settings.layers), self.settings.final_norm
        frames = frames * self.scale + self.shift
        if frames.shape[-2:] != self.input_size:
            frames = functional.interpolate(frames, self.input_size, mode="bilinear")
        frames = frames.to(next(self.network.parameters()).dtype)
        with _quick_attention(frames.device):
            features: list[Tensor] = self.network.forward_intermediates(
                frames, layers, norm=final_norm, output_fmt="NLC", intermediates_only=True
            )
        if self.settings.projection:
            features = [self.network.head(each) for each in features]
        return self._on_tubes(torch.cat(features, dim=-1))

    def attended(self, frames: Tensor) -> Attended:
        """Features of frames F,3,H,W, and how much of the last block's attention each gets."""
        attention = self.network.blocks[-1].attn
        with _inputs(attention) as seen:
            features = self.forward(frames)  # not compiled: that would not see who looks on
        qkv = attention.qkv(seen[0])
        split = qkv.reshape(*qkv.shape[:2], 3, attention.num_heads, -1)
        queries, keys, _ = split.permute(2, 0, 3, 1, 4)
        prefix = self.network.num_prefix_tokens
        queries = attention.q_norm(queries[:, :, :1] if prefix else queries)
        shares = mean_attention(queries, attention.k_norm(keys))[:, prefix:]
        return Attended(features, self._on_tubes(shares.unsqueeze(-1)).squeeze(-1))

    def _on_tubes(self, features: Tensor) -> Tensor:
        """Values of patches F,patches,O as those of tubes F,n,O."""
        if self.patches == (self.rows, self.columns):
            return features
        maps = features.transpose(1, 2).reshape(len(features), -1, *self.patches)
        maps = functional.interpolate(maps.float(), (self.rows, self.columns), mode="bilinear")
        return maps.flatten(2).transpose(1, 2)


def _normalisation(network: Any, settings: FrozenTarget) -> tuple[Sequence[float], Sequence[float]]:
    """The mean and the deviation of pixels from 0 to 1 that a network is given."""
    if settings.input_normalisation == "network":
        return network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    if settings.input_normalisation == "imagenet":
        return MEAN, STD
    return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


class ClipFeatures(nn.Module):
    """A video encoder as a map from tubes B,N,P to features B,N,O."""

    def __init__(self, encoder: Encoder, settings: EncoderTarget) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings

    def forward(self, tubes: Tensor) -> Tensor:
        """Features of all tubes of B clips."""
        layers, final_norm = self.settings.layers, self.settings.final_norm
        return torch.cat(self.encoder.outputs(tubes, None, layers, final_norm=final_norm), dim=-1)

    def attended(self, tubes: Tensor) -> Attended:
        """Features of all tubes, and how much of the last chosen block's attention each gets."""
        stack = list(self.encoder.blocks)
        attention: Any = stack[max(range(len(stack))[n] for n in self.settings.layers)].attn
        with _inputs(attention) as seen:
            features = self(tubes)
        queries, keys, _ = attention.split(seen[0])
        classes = queries.shape[2] - tubes.shape[1]
        shares = mean_attention(queries[:, :, :1] if classes else queries, keys)
        return Attended(features, shares[:, classes:])


def mean_attention(queries: Tensor, keys: Tensor) -> Tensor:
    """Shares B,K of keys B,heads,K,width in the attention of queries B,heads,Q,width: the mean."""
    scale: float = queries.shape[-1] ** -0.5
    return ((queries * scale) @ keys.transpose(-1, -2)).softmax(-1).mean(dim=(1, 2))


@contextlib.contextmanager
def _inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module is given."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _quick_attention(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Attention in three steps on a CPU, as `vit.attend` has it for sequences this short."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()


class FrozenFeatures(HoldingTarget):
    """Features of a frozen network as targets.

    `digest` is the `tensors_digest` of its weights. Without a network (`use` not called) the model
    has its shape and can be used but not trained.
    """

    frozen = True

    def __init__(
        self, width: int, grid: TubeGrid, *, layers: int = 1, normalise: Normalisation = "clip"
    ) -> None:
        super().__init__()
        self.width, self.layers = width, layers
        self.normalise: Normalisation = normalise
        self.grid = grid
        self.own_stream = False  # on an accelerator, see `begin`
        self._stream: torch.cuda.Stream | None = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy has: all but the stream, which cannot be copied."""
        return {**self.__dict__, "_stream": None}

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
        """Targets B,M,O: features of all tubes, normalised, then the masked ones."""
        if not self._held and tubes.is_meta:
            return tubes.new_empty(*masked.shape, self.width)
        return gather(self._normalised(self._network(self._seen(tubes)), tubes), masked)

    @torch.no_grad()
    def attended(self, tubes: Tensor) -> Attended:
        """Normalised features of all tubes, and which of them the network attends to, float32."""
        if not self._held and tubes.is_meta:
            shape = tubes.shape[:2]
            return Attended(tubes.new_empty(*shape, self.width), tubes.new_empty(shape))
        features, attention = self._network.attended(self._seen(tubes))
        shares = attention.float().reshape(tubes.shape[:2])
        return Attended(self._normalised(features, tubes), shares)

    @property
    def _network(self) -> Any:
        if not self._held:
            raise RuntimeError("this model was built without the frozen network of its targets")
        return self._held[0]

    def _seen(self, tubes: Tensor) -> Tensor:
        """What the network is given."""
        return self.grid.first_frames(tubes)

    def _normalised(self, features: Tensor, tubes: Tensor) -> Tensor:
        features = features.reshape(*tubes.shape[:2], self.width)
        if self.normalise == "clip":
            return normalised_features(features)
        features = features.float()
        if self.normalise == "none":
            return features
        each = features.reshape(*tubes.shape[:2], self.layers, -1)
        return functional.normalize(each, dim=-1).flatten(-2)


class VideoFeatures(FrozenFeatures):
    """Features of a frozen video encoder as targets: it is given whole clips.

    `use` takes `ClipFeatures`, or any map from tubes B,N,P to features B,N,O.
    """

    def __init__(self, settings: EncoderTarget, grid: TubeGrid) -> None:
        layers = len(settings.layers)
        super().__init__(layers * settings.width, grid, layers=layers, normalise=settings.normalise)

    def _seen(self, tubes: Tensor) -> Tensor:
        return tubes


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
            shape = _create(settings, pretrained=False)
    except TypeError as error:  # other families of models have no `dynamic_img_size`
        raise UserError(
            f"{settings.model} is not a vision transformer, so it has no features of patches",
            place="objective.target.model",
            remedy="list the fitting ones with timm.list_models('vit_*dino*')",
        ) from error
    width, layers = shape.num_features, len(settings.layers)
    if settings.projection:
        width = _head_width(shape, settings)
    target = FrozenFeatures(layers * width, grid, layers=layers, normalise=settings.normalise)
    if load:
        with torch.random.fork_rng(devices=[]):  # the model's own weights do not depend on this
            network = _pretrained(settings)
        target.digest = tensors_digest(network.state_dict())
        target.use(prepared(network, settings, grid))
    target.own_stream = settings.own_stream
    return target


def prepared(network: nn.Module, settings: FrozenTarget, grid: TubeGrid) -> PatchFeatures:
    """A timm network as a map to features, in the precision and the form that `settings` ask."""
    if settings.precision == "bf16":
        network = network.to(torch.bfloat16)
    features = PatchFeatures(network, grid, settings)
    if settings.compile:
        features.compile()
    return features


def _create(settings: FrozenTarget, *, pretrained: bool) -> Any:
    import timm

    head: dict[str, Any] = {} if settings.projection else {"num_classes": 0}
    return timm.create_model(settings.model, pretrained=pretrained, dynamic_img_size=True, **head)


def _head_width(network: Any, settings: FrozenTarget) -> int:
    if not isinstance(network.head, nn.Linear):
        raise UserError(
            f"{settings.model} has no head that its features could be projected by",
            place="objective.target.projection",
            remedy="choose a model of images and texts: timm.list_models('vit_*clip*')",
        )
    return network.head.out_features


def _pretrained(settings: FrozenTarget) -> nn.Module:
    if settings.weights is None:
        try:
            hub: nn.Module = _create(settings, pretrained=True)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the weights of {settings.model} could not be fetched: {error}",
                place="objective.target.model",
                remedy="give a local safetensors file as objective.target.weights",
            ) from error
        return hub
    path = Path(settings.weights)
    if not path.is_file():
        raise UserError(f"no such file: {path}", place="objective.target.weights")
    check_digest(path, settings.sha256)
    network: nn.Module = _create(settings, pretrained=False)
    try:
        network.load_state_dict(under_timms_names(load_file(path), network))
    except (SafetensorError, RuntimeError) as error:
        problem = f"{path} does not fit {settings.model}: {error}"
        raise UserError(problem, place="objective.target.weights") from error
    return network


def under_timms_names(state: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """Return weights of an image network under timm's names: CLIP's image encoder has others.

    UMT keeps that with a convolution over tubes of one frame.
    """
    if "class_embedding" not in state:
        return state
    from timm.models.vision_transformer import checkpoint_filter_fn

    state = {name: t.squeeze(2) if t.ndim == 5 else t for name, t in state.items()}
    named = {f"visual.{name}": tensor for name, tensor in state.items()}
    renamed: dict[str, Tensor] = checkpoint_filter_fn(named, network)
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def check_digest(path: Path, sha256: str | None) -> None:
    """Raise UserError where a file of a target's weights has not the SHA-256 that it is to have."""
    if sha256 is None:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256.lower():
        raise UserError(
            f"{path} is not the expected file: its SHA-256 is {digest}",
            place="objective.target.sha256",
            remedy="fetch the file again, or correct the digest",
        )
