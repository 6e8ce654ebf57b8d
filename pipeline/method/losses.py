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


@dataclass(frozen=True)
class MseLoss:
    """Mean squared error of predictions and targets: with target `pixel` this is VideoMAE."""

    kind: Literal["mse"] = "mse"
    prototypes = 0

    def check(self, target: Target) -> None:
        """Raise ValueError for a target that could follow the predictions to a constant."""
        if target.is_trained:
            raise ValueError(
                f"loss 'mse' with a jointly trained target {target.kind!r} collapses to a constant "
                "(paper, section 1); use loss 'sinkhorn', or target 'pixel' or 'frozen'"
            )

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,  # noqa: ARG002 - a mean needs no other process
        assignments: Assignments | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and no diagnostics."""
        from torch.nn.functional import mse_loss

        return mse_loss(prediction.decoded.float(), prediction.targets.float()), {}


@dataclass(frozen=True)
class SinkhornLoss:
    """SIGMA's cross-prediction of assignments (`pipeline.method.swapped_assignment`)."""

    prototypes: Annotated[int, Ge(2)]  # K
    epsilon: Annotated[float, Gt(0)]  # Sinkhorn's entropy weight; less is sharper
    iterations: Annotated[int, Gt(0)]  # of Sinkhorn-Knopp
    # of the softmax that is compared with the assignment
    temperature: Annotated[float, Gt(0)]
    kind: Literal["sinkhorn"] = "sinkhorn"

    def check(self, target: Target) -> None:
        """Raise ValueError for targets that are no features."""
        if target.kind == "pixel":
            raise ValueError(
                "loss 'sinkhorn' compares features with prototypes: target 'pixel' has none; "
                "use target 'mlp' or 'frozen', or loss 'mse'"
            )

    def __call__(
        self,
        prediction: Prediction,
        all_reduce: AllReduce,
        assignments: Assignments | None = None,
    ) -> tuple[Tensor, Diagnostics]:
        """The loss, and how evenly the tubes are spread over the prototypes."""
        from pipeline.method.swapped_assignment import swapped_loss

        return swapped_loss(prediction, self, all_reduce, assignments)


LOSSES: Registry = {"mse": MseLoss, "sinkhorn": SinkhornLoss}
