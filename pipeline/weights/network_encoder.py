"""A network of Transformers or timm in the encoder's place: it is evaluated, never pretrained.

One of images sees each frame by itself; its tokens are those of patches, all frames' in turn, so
what is pooled over tokens is pooled over time. Class tokens and registers are left out. Where its
own pooling is asked for, a clip's pooled features are the mean over frames of what the network
itself makes of each: SigLIP of an attention over patches (Zhai et al. 2023), CLIP of the projected
class token (Radford et al. 2021), others of the class token behind their last norm.

Shapes: B clips, T frames, H height, W width, N tubes of a clip, D width of the encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.method.choices import Pooling
from pipeline.method.pixels import MEAN, STD
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import Encoder
from pipeline.weights import formats, networks, timm_network
from pipeline.weights.networks import KINDS, TIMM, Channels

PREFIX = formats.NETWORK  # of its tensors in a model of this project
SHOWN = 5  # names in one message


class NetworkEncoder(Encoder):
    """Features B,N,D of videos B,3,T,H,W, normalised as everywhere here, by another's network.

    The last LayerNorm is the network's own, and stays.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        config: Mapping[str, Any],
        normalisation: tuple[Channels, Channels],
        grid: TubeGrid,
        pooling: Pooling = "mean",
    ) -> None:
        nn.Module.__init__(self)
        self.config, self.grid, self.pooling = dict(config), grid, pooling
        self.learned, self.position_kind, self.recompute = None, "sinusoid", False
        self.blocks = nn.ModuleList()  # none of this project's
        self.network, self.width, self.extra_tokens = _built(config, grid.clip_shape[1], pooling)
        ours, theirs = torch.tensor((MEAN, STD)), torch.tensor(normalisation)
        for name, values in (
            ("scale", ours[1] / theirs[1]),
            ("shift", (ours[0] - theirs[0]) / theirs[1]),
        ):
            self.register_buffer(name, values.view(3, 1, 1, 1), persistent=False)

    def use_grid(self, grid: TubeGrid) -> None:
        """Take clips of another length. `UserError` for pictures of another size."""
        if grid.clip_shape[1:] != self.grid.clip_shape[1:]:
            raise UserError(
                f"this network was built for pictures of {self.grid.clip_shape[1:]}, not "
                f"{grid.clip_shape[1:]} pixels"
            )
        self.grid = grid

    def forward(self, videos: Tensor, visible: Tensor | None = None) -> Tensor:
        """Features B,N,D of all tubes; hiding some is not possible."""
        if visible is not None:
            raise UserError("a network of the Transformers library sees whole clips only")
        tokens = self._run(videos)[0]
        return tokens[:, self.extra_tokens :].reshape(len(videos), -1, self.width)

    @property
    def pooled_width(self) -> int:
        """How many numbers `pooled` has: of CLIP's own pooling those that it is projected to."""
        if self.pooling == "own" and self.config["model_type"] == "clip_projected":
            return len(self.network.get_parameter("visual_projection.weight"))
        return self.width

    def pooled(self, videos: Tensor) -> Tensor:
        """Features B,D of whole clips: the mean over patches, or over its own of each frame."""
        own = self._run(videos)[1] if self.pooling == "own" else None
        if own is None:
            return super().pooled(videos)
        return own.float().reshape(len(videos), -1, own.shape[-1]).mean(dim=1)

    def _run(self, videos: Tensor) -> tuple[Tensor, Tensor | None]:
        """All tokens of clips, or of each frame of them; and its own pooling, where it has one."""
        pixels = (videos * self.scale + self.shift).transpose(1, 2)  # B,T,3,H,W
        tokens: Tensor
        if (kind := KINDS.get(self.config["model_type"])) is None:
            network: Any = self.network  # of timm
            tokens = network.forward_features(pixels.flatten(0, 1))
            is_own = self.pooling == "own"
            return tokens, network.forward_head(tokens, pre_logits=True) if is_own else None
        if kind.of_videos:
            tokens = self.network(pixels).last_hidden_state
            return tokens, None
        options = {"interpolate_pos_encoding": True} if kind.interpolates else {}
        output = self.network(pixels.flatten(0, 1), **options)
        tokens = output.last_hidden_state
        return tokens, getattr(output, kind.pooled) if kind.pooled else tokens[:, 0]

    def outputs(
        self,
        tubes: Tensor,
        visible: Tensor | None = None,
        layers: Sequence[int] = (-1,),
        *,
        final_norm: bool = True,
    ) -> list[Tensor]:
        """Features of all tubes of clips that are split, of the last layer alone."""
        if tuple(layers) != (-1,) or not final_norm:
            raise UserError("of a network of the Transformers library the last layer is known only")
        return [self.forward(self.grid.join(tubes), visible)]


def _built(config: Mapping[str, Any], size: int, pooling: Pooling) -> tuple[nn.Module, int, int]:
    """Return a network with fresh weights, its width, and how many tokens stand before patches'."""
    if config["model_type"] == TIMM:
        built = timm_network.built(config, pooling)
        return built, built.num_features, built.num_prefix_tokens
    import transformers

    kind = KINDS[config["model_type"]]
    if kind.of_videos:
        config = {**config, "crop_size": size}  # of its rotary positions, which are computed
    full = networks.configuration(config)
    network: nn.Module = getattr(transformers, kind.model)(full, **kind.options)
    if config["model_type"] == "vjepa2_1":
        from pipeline.weights import vjepa2_attention

        vjepa2_attention.use_in(_encoder(network))
    registers = getattr(full, "num_register_tokens", 0) or 0
    return _encoder(network), full.hidden_size, kind.extra_tokens + registers


def _encoder(network: nn.Module) -> nn.Module:
    """V-JEPA 2's has a predictor beside its encoder."""
    return network.get_submodule("encoder") if hasattr(network, "predictor") else network


def shapes(config: Mapping[str, Any], size: int, pooling: Pooling) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a `NetworkEncoder`, of which none is allocated.

    Raises UserError for a configuration that cannot be built. `size`: of pictures, in pixels.
    """
    try:
        with torch.device("meta"):
            network, _, _ = _built(config, size, pooling)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"this network cannot be built: {error}") from None
    return {PREFIX + name: tuple(each.shape) for name, each in network.state_dict().items()}


def tensors(
    folder: Path, file: Path, config: Mapping[str, Any], pooling: Pooling = "mean"
) -> dict[str, Tensor]:
    """Read the weights in a folder, under the names that a `NetworkEncoder` has for them.

    `file` is the first of its files of weights. Raises UserError naming what is missing, left
    over, or of another shape.
    """
    if config["model_type"] == TIMM:
        theirs = timm_network.tensors(folder, file, config, pooling)
        return {PREFIX + name: tensor for name, tensor in theirs.items()}
    import transformers

    kind = KINDS[config["model_type"]]
    full = networks.configuration(config, place=str(folder))
    try:
        with _silent():  # what does not fit is said below
            network, loading = getattr(transformers, kind.model).from_pretrained(
                folder,
                config=full,
                output_loading_info=True,
                local_files_only=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                **kind.options,
            )
    except (OSError, RuntimeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [repr(error)]
        raise UserError(f"its weights cannot be read: {lines[0]}", place=str(folder)) from None
    passed_over = (*kind.passed_over, *(kind.pooling_parts if pooling == "mean" else ()))
    missing = [name for name in loading["missing_keys"] if not name.startswith(passed_over)]
    left_over = [name for name in loading["unexpected_keys"] if not name.startswith(passed_over)]
    shapes = [f"{name}: shape" for name, *_ in loading["mismatched_keys"]]
    faults = [f"missing: {name}" for name in sorted(missing)]
    faults += [f"not of this model: {name}" for name in sorted(left_over)]
    if faults := faults + sorted(shapes):
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UserError(
            f"the weights do not fit the network: {'; '.join(faults[:SHOWN])}{more}",
            place=str(folder),
        )
    return {PREFIX + name: tensor for name, tensor in _encoder(network).state_dict().items()}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's own reports and progress bars back."""
    from transformers.utils import logging

    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
