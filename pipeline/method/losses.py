"""What is minimised: a function of the model's predictions for the masked tubes and their targets.

A loss is a frozen dataclass of its settings that is called as a function. Every loss is the mean
over this process's tubes. As processes hold equally many, the mean of their gradients (as DDP takes
it) is the gradient of the global mean: one process with 2B clips and two with B take the same step.
Each is registered under the name that `objective.loss.kind` gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from annotated_types import Ge, Gt

from pipeline.method.registry import Registry
from pipeline.method.targets import Target

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.method.collectives import AllReduce
    from pipeline.method.diagnostics import Diagnostics
    from pipeline.method.sigma import Prediction
    from pipeline.method.swapped_assignment import Assignments


class Loss(Protocol):
    """What is minimised."""

    @property
    def kind(self) -> str:
        """Its name in the configuration."""

    @property
    def description(self) -> str:
        """What it is, as a noun, for the report."""

    @property
    def prototypes(self) -> int:
        """K, the prototypes that the model has for it; 0: none."""

    def check(self, target: Target) -> None:
        """Raise ValueError where it makes no sense with such targets."""

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,
        assignments: Assignments | None = None,
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, a scalar, and diagnostics, scalars that are equal on all processes.

        `assignments` are given to losses with prototypes alone: those of a batch that is computed
        in parts (`masked_video.assign_parts`).
        """


class Regression(Loss, Protocol):
    """The mean over all values of how far predictions are from their targets."""

    prototypes: int = 0

    def check(self, target: Target) -> None:
        """Raise ValueError for a target that could follow the predictions to a constant."""
        if target.is_trained:
            raise ValueError(
                f"loss {self.kind!r} with a jointly trained target {target.kind!r} collapses to a "
                "constant (paper, section 1); use loss 'sinkhorn', or target 'pixel' or 'frozen'"
            )
        _refuse_clusters(self.kind, target)

    def distance(self, decoded: Tensor, targets: Tensor) -> Tensor:
        """The mean distance, a scalar, of float32 tensors of equal shape ...,O."""
        raise NotImplementedError

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,  # noqa: ARG002 - a mean needs no other process
        assignments: Assignments | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and no diagnostics."""
        return self.distance(prediction.decoded.float(), prediction.targets.float()), {}


@dataclass(frozen=True)
class MseLoss(Regression):
    """Mean squared error of predictions and targets: with target `pixel` this is VideoMAE."""

    kind: Literal["mse"] = "mse"
    description = "mean squared error"

    def distance(self, decoded: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(decoded, targets)


@dataclass(frozen=True)
class L1Loss(Regression):
    """Mean of |prediction - target|^p / p (V-JEPA, Bardes et al. 2024: p = 1)."""

    exponent: Annotated[float, Ge(1)] = 1.0  # p
    kind: Literal["l1"] = "l1"
    description = "mean absolute error"

    def distance(self, decoded: Tensor, targets: Tensor) -> Tensor:
        return (decoded - targets).abs().pow(self.exponent).mean() / self.exponent


@dataclass(frozen=True)
class SmoothL1Loss(Regression):
    """Smooth L1 (Girshick 2015): squared below `beta`, absolute above; MVD, Wang et al. 2023."""

    beta: Annotated[float, Gt(0)] = 1.0  # the distance at which one passes into the other
    kind: Literal["smooth_l1"] = "smooth_l1"
    description = "smooth L1 error"

    def distance(self, decoded: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import smooth_l1_loss

        return smooth_l1_loss(decoded, targets, beta=self.beta)


@dataclass(frozen=True)
class CosineLoss(Regression):
    """2 - 2 cosine, the squared distance of the directions (UMT, Li et al. 2023)."""

    kind: Literal["cosine"] = "cosine"
    description = "squared distance of directions"

    def distance(self, decoded: Tensor, targets: Tensor) -> Tensor:
        from torch.nn.functional import cosine_similarity

        return 2 - 2 * cosine_similarity(decoded, targets, dim=-1).mean()


@dataclass(frozen=True)
class SinkhornLoss:
    """SIGMA's cross-prediction of assignments (`pipeline.method.swapped_assignment`)."""

    prototypes: Annotated[int, Ge(2)]  # K
    epsilon: Annotated[float, Gt(0)]  # Sinkhorn's entropy weight; less is sharper
    iterations: Annotated[int, Ge(0)]  # of Sinkhorn-Knopp; 0: each tube to its nearest prototype
    # of the softmax that is compared with the assignment
    temperature: Annotated[float, Gt(0)]
    # of the target branch's cross-entropy beside the decoder's; 0: target network and prototypes
    # get no gradient
    target_weight: Annotated[float, Ge(0)] = 1.0
    kind: Literal["sinkhorn"] = "sinkhorn"
    description = "sum of two cross-entropies"

    def check(self, target: Target) -> None:
        """Raise ValueError for targets that are no features."""
        if target.kind == "pixel":
            raise ValueError(
                "loss 'sinkhorn' compares features with prototypes: target 'pixel' has none; "
                "use target 'mlp' or 'frozen', or loss 'mse'"
            )
        _refuse_clusters(self.kind, target)

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,
        assignments: Assignments | None = None,
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and how evenly the tubes are spread over the prototypes."""
        from pipeline.method.swapped_assignment import swapped_loss

        return swapped_loss(prediction, self, all_reduce, assignments)


@dataclass(frozen=True)
class CrossEntropyLoss:
    """Cross-entropy of the decoder's K values against a tube's cluster (ClusterFit)."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    description = "cross-entropy"
    prototypes = 0

    def check(self, target: Target) -> None:
        """Raise ValueError for targets that are no clusters."""
        if target.kind != "clusters":
            raise ValueError(
                f"loss 'cross_entropy' says which cluster a tube is of: target {target.kind!r} "
                "has none; use target 'clusters', or a regression"
            )

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,
        assignments: Assignments | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and how evenly the tubes are spread over the clusters."""
        from torch.nn.functional import cross_entropy

        from pipeline.method.swapped_assignment import Assignments, diagnostics_of

        decoded, targets = (part.flatten(0, -2) for part in prediction[:2])
        said = Assignments(decoded.detach().argmax(-1), targets.argmax(-1))
        loss = cross_entropy(decoded.float(), said.target)
        return loss, diagnostics_of(said, decoded.shape[-1], all_reduce)


def _refuse_clusters(kind: str, target: Target) -> None:
    if target.kind == "clusters":
        raise ValueError(
            f"loss {kind!r} compares features: target 'clusters' has none, but numbers of "
            "clusters; use loss 'cross_entropy'"
        )


LOSSES: Registry = {
    "mse": MseLoss,
    "l1": L1Loss,
    "smooth_l1": SmoothL1Loss,
    "cosine": CosineLoss,
    "sinkhorn": SinkhornLoss,
    "cross_entropy": CrossEntropyLoss,
}
