"""What every mask is: which tubes of a clip the encoder sees, and which are predicted.

A clip is a grid of t x h x w space-time tubes, numbered N = t h w in that order (time slowest). A
mask is bool (N,), true where a tube is hidden and predicted; or uint8 (N,), sums of
`VISIBLE` and `PREDICTED` (0: neither; both: it is decoded, but not in the loss); or several of them
(R,N), of `kinds` kinds in turn. Where the model decides, it is float32 (K,), the random numbers of
`select`. In every clip it has the same number of visible and of predicted tubes, so that batches
stack, but where `equal_counts` is false. It is a pure function of its arguments and the random
numbers of the sample and of the step.

A mask of a new kind is a frozen dataclass of its settings, a subclass of `Mask`, in `MASKS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from annotated_types import Gt, Lt

from pipeline.errors import UserError
from pipeline.method import motion

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.method.optical_flow import OpticalFlow
    from pipeline.method.sigma import Prediction
    from pipeline.method.tubes import TubeSplit

VISIBLE, PREDICTED = 1, 2  # of a tube in a mask; 0: dropped, 3: both, and then not in the loss
BoolArray = npt.NDArray[np.bool_]
RoleArray = npt.NDArray[np.uint8]  # sums of VISIBLE and PREDICTED
MaskArray = BoolArray | RoleArray | npt.NDArray[np.float32]
Boxes = npt.NDArray[np.int64]  # of objects, K,T,4: left, top, right, bottom, in pixels
Grid = tuple[int, int, int]  # tubes in time, height and width
Ratio = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class ClipFacts:
    """What the loader knows of a clip beside its frames."""

    boxes: Boxes | None = None  # of the objects that were pasted
    speeds: motion.FloatArray | None = None  # t,h,w: motion in each tube, by the codec's vectors


class Mask(Protocol):
    """Which tubes are seen, and which are predicted."""

    equal_counts: ClassVar[bool] = True  # in every clip; else the training loop makes them equal
    needs_objects: ClassVar[bool] = False  # whether it hides pasted objects, by `draw_knowing`
    learns: ClassVar[bool] = False  # whether it decides by a `network` of its own
    by_attention: ClassVar[bool] = False  # by that of its target's network, not by embeddings

    @property
    def kind(self) -> str:
        """Its name in the configuration."""
        raise NotImplementedError

    @property
    def kinds(self) -> int:
        """How many kinds of mask a clip has: each has a prediction and a mask token of its own."""
        return 1

    @property
    def in_model(self) -> bool:
        """Whether the model decides, by `select`."""
        return False

    @property
    def by_flow(self) -> bool:
        """Whether it decides by the optical flow of its `flow_network`, not by embeddings."""
        return False

    def at_step(self, rng: np.random.Generator) -> Mask:  # noqa: ARG002
        """Return the mask of one step: what all its clips share is drawn from the step's `rng`."""
        return self

    def draw(
        self, grid: Grid, rng: np.random.Generator, frames: motion.Frames | None = None
    ) -> MaskArray:
        """Return a mask, or several, over a `grid` of (t, h, w) tubes.

        `frames` uint8 (T,H,W,3) are what the model sees of the clip. Raises UserError where the
        mask would hide none or all.
        """
        raise NotImplementedError

    @property
    def needs_vectors(self) -> bool:
        """Whether it follows the codec's motion vectors, by `draw_knowing`."""
        return False

    def draw_knowing(
        self,
        grid: Grid,
        rng: np.random.Generator,
        frames: motion.Frames,
        facts: ClipFacts,  # noqa: ARG002
    ) -> MaskArray:
        """The same in training, with `facts` of the clip, which most masks do not look at."""
        return self.draw(grid, rng, frames)

    def select(self, embeddings: Tensor, noise: Tensor, grid: Grid) -> TubeSplit:  # noqa: ARG002
        """Split tubes by their embeddings B,N,D and what `draw` gave for each clip, B,K.

        Of masks `in_model` alone, whose `draw` gives random numbers. One that learns gets what its
        `network` makes of the embeddings in their place, one `by_attention` the attention B,N, one
        `by_flow` the flow B,T-1,2,H,W.
        """
        raise ValueError(f"the model does not decide masks of kind {self.kind!r}")

    def network(self, grid: Grid, width: int) -> nn.Module | None:  # noqa: ARG002
        """Build the network of a mask that learns, for embeddings of `width` = D."""
        return None

    def flow_network(self, *, load: bool) -> OpticalFlow | None:  # noqa: ARG002
        """Build the frozen network of a mask `by_flow`; `load=False` leaves out its weights."""
        return None

    def loss(self, prediction: Prediction) -> Tensor | None:  # noqa: ARG002
        """Return what the network minimises, a scalar that is added to the objective's loss."""
        return None


def stacked(masks: Sequence[MaskArray]) -> MaskArray:
    """Return several masks of one clip as one array (R,N), kinds in turn; a single one as it is."""
    return masks[0] if len(masks) == 1 else np.concatenate([np.atleast_2d(m) for m in masks])


def random_subset(n: int, ratio: float, grid: Grid, rng: np.random.Generator) -> BoolArray:
    """Return bool (n,) with the masked share true, every subset equally likely."""
    hidden = np.zeros(n, dtype=np.bool_)
    hidden[least(rng.random(n), hidden_count(n, ratio, grid))] = True
    return hidden


def least(values: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """Return where the `count` least of values (...,n) are, int64 (...,count), least first."""
    return np.argsort(values, axis=-1, kind="stable")[..., :count]


def hidden_count(n: int, ratio: float, grid: Grid) -> int:
    """Return int(ratio n). Raises UserError where that is none or all of the n tubes."""
    return _some(int(ratio * n), n, grid, f"mask ratio {ratio} hides")


def visible_count(n: int, ratio: float, grid: Grid) -> int:
    """Return int((1 - ratio) n), in floating point, for methods that count what they keep.

    With a ratio of 0.9, 19 of 196 tubes are visible, where `hidden_count` leaves 20. Raises
    UserError where that is none or all of the n tubes.
    """
    return _some(int(n * (1 - ratio)), n, grid, f"mask ratio {ratio} leaves")


def _some(count: int, n: int, grid: Grid, what: str) -> int:
    if not 0 < count < n:
        shape = "x".join(map(str, grid))
        raise UserError(
            f"{what} {count} of {n} tubes (the clip is {shape} tubes)",
            remedy="change objective.mask.ratio, or use smaller tubes (model.tube)",
        )
    return count


def hide_all_but(visible: npt.NDArray[np.int64], n: int) -> BoolArray:
    """Return bool (...,n), false at the numbers `visible` (...,v) alone."""
    hidden = np.ones((*visible.shape[:-1], n), dtype=np.bool_)
    np.put_along_axis(hidden, visible, False, axis=-1)
    return hidden
