"""A network of Transformers or timm in the encoder's place: it is evaluated, never pretrained.

One of images sees each frame by itself; its tokens are those of patches, all frames' in turn, so
what is pooled over tokens is pooled over time. Class tokens and registers are left out.

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
    ) -> None:
        nn.Module.__init__(self)
        self.config, self.grid = dict(config), grid
        self.learned, self.position_kind, self.recompute = None, "sinusoid", False
        self.blocks = nn.ModuleList()  # none of this project's
        self.network, self.width, self.extra_tokens = _built(config, grid.clip_shape[1])
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
        pixels = (videos * self.scale + self.shift).transpose(1, 2)  # B,T,3,H,W
        tokens: Tensor
        if self.config["model_type"] == TIMM:
            tokens = self.network.forward_features(pixels.flatten(0, 1))  # type: ignore[operator]
        elif (kind := KINDS[self.config["model_type"]]).of_videos:
            tokens = self.network(pixels).last_hidden_state
        else:
            options = {"interpolate_pos_encoding": True} if kind.interpolates else {}
            tokens = self.network(pixels.flatten(0, 1), **options).last_hidden_state
        return tokens[:, self.extra_tokens :].reshape(len(videos), -1, self.width)

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


def _built(config: Mapping[str, Any], size: int) -> tuple[nn.Module, int, int]:
    """Return a network with fresh weights, its width, and how many tokens stand before patches'."""
    if config["model_type"] == TIMM:
        built = timm_network.built(config)
        return built, built.num_features, built.num_prefix_tokens
    import transformers

    kind = KINDS[config["model_type"]]
    if kind.of_videos:
        config = {**config, "crop_size": size}  # of its rotary positions, which are computed
    full = networks.configuration(config)
    network: nn.Module = getattr(transformers, kind.model)(full, **kind.options)
    if kind.library_type:
        from pipeline.weights import vjepa2_attention

        vjepa2_attention.use_in(_encoder(network))
    registers = getattr(full, "num_register_tokens", 0) or 0
    return _encoder(network), full.hidden_size, kind.extra_tokens + registers


def _encoder(network: nn.Module) -> nn.Module:
    """V-JEPA 2's has a predictor beside its encoder."""
    return network.get_submodule("encoder") if hasattr(network, "predictor") else network


def shapes(config: Mapping[str, Any], size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a `NetworkEncoder`, of which none is allocated.

    Raises UserError for a configuration that cannot be built. `size`: of pictures, in pixels.
    """
    try:
        with torch.device("meta"):
            network, _, _ = _built(config, size)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"this network cannot be built: {error}") from None
    return {PREFIX + name: tuple(each.shape) for name, each in network.state_dict().items()}


def tensors(folder: Path, file: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the weights in a folder, under the names that a `NetworkEncoder` has for them.

    `file` is the first of its files of weights. Raises UserError naming what is missing, left
    over, or of another shape.
    """
    if config["model_type"] == TIMM:
        theirs = timm_network.tensors(folder, file, config)
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
    missing = [name for name in loading["missing_keys"] if not _is_passed_over(name, kind)]
    left_over = [name for name in loading["unexpected_keys"] if not _is_passed_over(name, kind)]
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


def _is_passed_over(name: str, kind: networks.NetworkKind) -> bool:
    return name.startswith(kind.passed_over)
