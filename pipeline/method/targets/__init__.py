"""What the predicted tubes are compared with (paper, section 3.2).

A target is a frozen dataclass of its settings; `build(grid)` makes its network, a
`network.TargetNetwork`. Each is registered under the name that `objective.target.kind` gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from annotated_types import Ge, Gt, Le, Len

from pipeline.method.registry import Registry

if TYPE_CHECKING:
    from pipeline.method.targets.network import TargetNetwork
    from pipeline.method.tubes import TubeGrid


Momentum = Annotated[float, Ge(0), Le(1)]
# Of a network's blocks, numbered from 0, or back from -1, the last.
Layers = Annotated[tuple[int, ...], Len(1)]
# Of features: mean 0 and deviation 1 of each channel over a clip's tubes (SMILE, SIGMA), length
# one (UMT), or as they are (MVD).
Normalisation = Literal["clip", "l2", "none"]
# Added to a tube's deviation before its pixels, from 0 to 1, are divided by it. The authors' only
# keeps zero out of it: then the noise of a bland tube counts as much as an edge.
Stabiliser = Annotated[float, Gt(0)]
AUTHORS_STABILISER = 1e-6


class Target(Protocol):
    """What the masked tubes are compared with."""

    @property
    def kind(self) -> str:
        """Its name in the configuration."""

    @property
    def is_trained(self) -> bool:
        """Whether its network learns together with the model."""

    @property
    def description(self) -> str:
        """What the targets are, as a noun, for the report."""

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:
        """Make the network; `load=False` leaves out weights that only training needs."""

    # One that is made of other runs names them in `needs: tuple[str, ...]`: they are trained first.


@dataclass(frozen=True)
class PixelTarget:
    """The normalised pixels of the tubes: with loss `mse` this is VideoMAE."""

    # mean 0 and deviation 1 in each tube, channel by channel (VideoMAE) or over all of its values
    # (MAE-ST); or none: values from 0 to 1
    normalise: Literal["channel", "tube", "none"] = "channel"
    # all of a tube, or one: evenly spaced from the clip's first to its last (MAE-ST)
    frames: Literal["all", "one"] = "all"
    stabiliser: Stabiliser = AUTHORS_STABILISER  # with `channel`
    kind: Literal["pixel"] = "pixel"
    is_trained = False
    description = "normalised pixels"

    def __post_init__(self) -> None:
        """Raise ValueError where the stabiliser would have no effect."""
        if self.normalise != "channel" and self.stabiliser != AUTHORS_STABILISER:
            raise ValueError(
                f"target 'pixel' has a stabiliser with normalise 'channel', not {self.normalise!r}"
            )

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:  # noqa: ARG002
        from pipeline.method.targets.projection import Pixels

        return Pixels(grid, self)


@dataclass(frozen=True)
class MlpTarget:
    """A projection of the tubes' pixels, trained jointly with the model."""

    hidden: tuple[int, ...]  # hidden widths
    width: Annotated[int, Gt(0)]  # of the output
    # added to the deviation that pixels are divided by, as of target `pixel`
    stabiliser: Stabiliser = AUTHORS_STABILISER
    kind: Literal["mlp"] = "mlp"
    is_trained = True
    description = "a projection network trained with it"

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:  # noqa: ARG002
        from pipeline.method.targets.projection import MlpProjection

        return MlpProjection(grid.pixels, self.hidden, self.width, self.stabiliser)


@dataclass(frozen=True)
class FrozenTarget:
    """Features of a frozen image transformer of timm."""

    model: str  # a timm name
    weights: str | None = None  # a local safetensors file; null: timm's hub
    sha256: str | None = None  # of that file; checked where given
    precision: Literal["trainer", "bf16"] = "trainer"  # as trainer.precision; bf16: weights, too
    compile: bool = False  # by torch.compile
    own_stream: bool = False  # on an accelerator: beside the encoder, not after it
    layers: Layers = (-1,)  # the blocks whose outputs are features; of several: side by side
    final_norm: bool = True  # whether these go through the network's last norm
    projection: bool = False  # and then through its head: of CLIP's, into the space of texts
    # pixels as the network was trained with, or as ImageNet's are (SMILE and UMT give CLIP these),
    # or from 0 to 1
    input_normalisation: Literal["network", "imagenet", "none"] = "network"
    normalise: Normalisation = "clip"  # of the features
    kind: Literal["frozen"] = "frozen"
    is_trained = False

    @property
    def description(self) -> str:
        """What the targets are, as a noun, for the report."""
        return "a frozen DINO" if "dino" in self.model else f"a frozen {self.model}"

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:
        from pipeline.method.targets.image_teachers import frozen_features

        return frozen_features(self, grid, load=load)


@dataclass(frozen=True)
class EncoderTarget:
    """Features of a frozen video encoder, which sees the whole clip (MVD, Wang et al. 2023).

    It is that of a run of this experiment or of a file; its tubes are as large as the model's.
    """

    width: Annotated[int, Gt(0)]  # of the encoder
    run: str | None = None  # a run of this experiment
    weights: str | None = None  # or a file, as `runs.NAME.weights`
    sha256: str | None = None  # of that file; checked where given
    layers: Layers = (-1,)  # the blocks whose outputs are features; of several: side by side
    final_norm: bool = True  # whether these go through the encoder's last norm
    normalise: Normalisation = "clip"  # of the features
    kind: Literal["encoder"] = "encoder"
    is_trained = False

    def __post_init__(self) -> None:
        """Raise ValueError where it is not said whose features these are."""
        if (self.run is None) == (self.weights is None):
            raise ValueError("target 'encoder' needs one of run and weights")

    @property
    def description(self) -> str:
        """What the targets are, as a noun, for the report."""
        return f"the encoder of {self.run or self.weights}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs of the experiment that are trained before one with this target."""
        return () if self.run is None else (self.run,)

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:  # noqa: ARG002
        """Make the network without its encoder, which is handed to it (`use`)."""
        from pipeline.method.targets.frozen import VideoFeatures

        return VideoFeatures(self, grid)


@dataclass(frozen=True)
class AveragedTarget:
    """Features of a moving average of the encoder (V-JEPA, Bardes et al. 2024)."""

    # of the average: after a step it is momentum x average + (1 - momentum) x encoder
    momentum: Momentum = 0.998
    final_momentum: Momentum = 1.0  # which the momentum goes to, in equal steps
    kind: Literal["averaged"] = "averaged"
    is_trained = False
    description = "a moving average of the encoder"

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:  # noqa: ARG002
        from pipeline.method.targets.averaged import AveragedEncoder

        return AveragedEncoder(load=load)


@dataclass(frozen=True)
class ClustersTarget:
    """Clusters of a frozen network's features, made once before training (ClusterFit)."""

    features: FrozenTarget | EncoderTarget  # whose features are clustered: a target of their kind
    clusters: Annotated[int, Ge(2)]  # K
    tubes_per_cluster: Annotated[int, Gt(0)] = 256  # of training clips, which k-means sees
    passes: Annotated[int, Gt(0)] = 10  # of k-means over these tubes
    kind: Literal["clusters"] = "clusters"
    is_trained = False

    @property
    def description(self) -> str:
        """What the targets are, as a noun, for the report."""
        return f"{self.clusters:,} clusters of the features of {self.features.description}"

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs of the experiment that are trained before one with this target."""
        return self.features.needs if isinstance(self.features, EncoderTarget) else ()

    @property
    def weights(self) -> str | None:
        """The file of the frozen network's weights."""
        return self.features.weights

    def build(self, grid: TubeGrid, *, load: bool = True) -> TargetNetwork:
        """Make the network without its centroids, which are handed to it (`use`)."""
        from pipeline.method.targets.clusters import ClusterTargets

        return ClusterTargets(self, grid, load=load)


TARGETS: Registry = {
    "pixel": PixelTarget,
    "mlp": MlpTarget,
    "frozen": FrozenTarget,
    "encoder": EncoderTarget,
    "averaged": AveragedTarget,
    "clusters": ClustersTarget,
}
