"""Space-time tubes: how a clip is cut into the tokens of the model.

Paper, section 3.1: a clip is split into non-overlapping tubes of 2 frames x 16 x 16 pixels.
Shapes: B clips, T frames, H and W pixels, N tubes of a clip, P values of a tube.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.method.choices import Background
from pipeline.method.masks.base import PREDICTED, VISIBLE, Mask, stacked
from pipeline.method.pixels import to_device

CHANNELS = 3


@dataclass(frozen=True)
class TubeGrid:
    """A clip counted in tubes, and the size of one tube (frames, height, width in pixels).

    Tubes are numbered frames first, then rows, then columns. With `background="subtract"` they
    have no more of a pixel than what it differs from its mean over the clip's frames.
    """

    frames: int
    height: int
    width: int
    tube: tuple[int, int, int]
    background: Background = None

    @classmethod
    def from_size(
        cls,
        frames: int,
        height: int,
        width: int,
        tube: tuple[int, int, int],
        background: Background = None,
    ) -> TubeGrid:
        """The grid of a clip of `frames` x `height` x `width` pixels.

        Raises `UserError` where the tube does not divide it.
        """
        t, h, w = tube
        if frames % t or height % h or width % w:
            raise UserError(
                f"a tube of {t}x{h}x{w} does not divide a clip of {frames}x{height}x{width}",
                place="model.tube and data.clip",
                remedy="choose frames and sizes that are multiples of the tube's",
            )
        return cls(frames // t, height // h, width // w, tube, background)

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many tubes a clip has in time, height and width."""
        return self.frames, self.height, self.width

    @property
    def count(self) -> int:
        """N, tubes of a clip."""
        return self.frames * self.height * self.width

    @property
    def pixels(self) -> int:
        """P, values of one tube: frames x height x width x channels."""
        frames, height, width = self.tube
        return frames * height * width * CHANNELS

    @property
    def clip_shape(self) -> tuple[int, int, int]:
        """T, H, W: the clip in frames and pixels."""
        t, h, w = self.tube
        return self.frames * t, self.height * h, self.width * w

    def split(self, videos: Tensor) -> Tensor:
        """Cut videos B,3,T,H,W into tubes B,N,P; within a tube: frame, row, column, channel.

        Four times as fast where a pixel's channels adjoin in memory, as `normalise` leaves them.
        """
        if tuple(videos.shape[1:]) != (CHANNELS, *self.clip_shape):
            raise ValueError(f"videos {tuple(videos.shape)} are not B,3,{self.clip_shape}")
        if self.background == "subtract":
            videos = videos - videos.mean(dim=2, keepdim=True)
        t, h, w = self.tube
        parts = videos.reshape(-1, CHANNELS, self.frames, t, self.height, h, self.width, w)
        return parts.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, self.count, self.pixels)

    def join(self, tubes: Tensor) -> Tensor:
        """Undo `split`: tubes B,N,P to videos B,3,T,H,W; in memory, a pixel's channels adjoin.

        A background that was subtracted does not come back.
        """
        t, h, w = self.tube
        parts = tubes.reshape(-1, self.frames, self.height, self.width, t, h, w, CHANNELS)
        pixels = parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *self.clip_shape, CHANNELS)
        return pixels.permute(0, 4, 1, 2, 3)

    def first_frames(self, tubes: Tensor) -> Tensor:
        """The first frame of every tube, of tubes B,N,P: B x frames,3,H,W."""
        _, h, w = self.tube
        flat = TubeGrid(self.frames, self.height, self.width, (1, h, w))
        videos = flat.join(tubes[..., : flat.pixels])
        return videos.transpose(1, 2).flatten(0, 1)


def gather(tokens: Tensor, indices: Tensor) -> Tensor:
    """Pick tokens B,N,D by indices B,M: B,M,D.

    Of indices K B,M, for K masks of each clip, row r is of clip r mod B.
    """
    batch, count, width = tokens.shape
    clip = torch.arange(len(indices), device=indices.device).unsqueeze(1) % batch
    chosen = (indices + count * clip).flatten()  # whole rows: faster than `torch.gather`
    return tokens.reshape(-1, width).index_select(0, chosen).view(len(indices), -1, width)


class TubeSplit(NamedTuple):
    """Which tubes of each clip are seen and which are predicted, each in ascending order.

    A tube in neither is dropped. With K masks of each clip there are K B rows: those of all clips
    under the first mask, then under the second.
    """

    visible: Tensor  # B,V indices
    predicted: Tensor  # B,M indices
    # where some predicted tubes are visible, too: the others, which alone are in the loss, as
    # places among all B M predicted ones: B,C; (in all,) where clips have unequally many
    counted: Tensor | None = None
    # B,M: logarithms of how probable predicted tubes were, where the model has drawn (AdaMAE)
    log_probabilities: Tensor | None = None

    def to(self, device: torch.device) -> TubeSplit:
        """The same on another device, which is not waited for."""
        visible, predicted = (to_device(part, device) for part in self[:2])
        counted = None if self.counted is None else to_device(self.counted, device)
        return TubeSplit(visible, predicted, counted)

    def select(self, predicted: Tensor) -> Tensor:
        """Of values B,M,O of predicted tubes, those in the loss: B,C,O; 1,all,O if C varies."""
        if self.counted is None:
            return predicted
        chosen = predicted.flatten(0, 1).index_select(0, self.counted.flatten())
        rows = len(predicted) if self.counted.ndim == 2 else 1
        return chosen.view(rows, -1, *predicted.shape[2:])


def split_mask(mask: Tensor) -> TubeSplit:
    """Indices of the visible (B,V) and of the predicted tubes (B,M), each in ascending order.

    `mask` is B,N: bool, true where predicted and else visible, or uint8, sums of `VISIBLE` and
    `PREDICTED`; on the CPU best, as an accelerator has to be waited for to know the numbers. Raises
    `ValueError` unless every clip of the batch has the same number of either, and at least one.
    """
    if mask.dtype == torch.bool:
        return TubeSplit(_indices(~mask, "visible"), _indices(mask, "predicted"))
    visible, predicted = (mask & VISIBLE).bool(), (mask & PREDICTED).bool()
    split = TubeSplit(_indices(visible, "visible"), _indices(predicted, "predicted"))
    if not (visible & predicted).any():
        return split
    hidden = (~visible).gather(1, split.predicted)
    counted = hidden.flatten().nonzero().squeeze(1)
    each = hidden.sum(1)
    if bool((each == each[0]).all()):
        counted = counted.view(len(mask), -1)
    return split._replace(counted=counted)


def split_masks(masks: Tensor, kinds: int = 1) -> list[TubeSplit | Tensor]:
    """Splits of the masks of a batch, B,N or (several of each clip) B,R,N: one for each kind.

    Masks of a clip are of `kinds` kinds in turn: of the first, of the second, of the first again.
    Random numbers, by which the model decides (`Mask.select`), stay what they are.
    """
    each = [masks]
    if masks.ndim == 3:
        each = [masks[:, kind::kinds].transpose(0, 1).flatten(0, 1) for kind in range(kinds)]
    return [mask if mask.is_floating_point() else split_mask(mask) for mask in each]


def splits_of_still(
    mask: Mask, grid: TubeGrid, rng: np.random.Generator, count: int
) -> list[TubeSplit | Tensor]:
    """Splits (`split_masks`) of `count` masks of one clip in which nothing moves.

    As many tubes are visible and predicted as in any other clip, where a mask has equal counts.
    """
    still = np.zeros((*grid.clip_shape, CHANNELS), np.uint8)
    drawn = [mask.draw(grid.shape, rng, still) for _ in range(count)]
    return split_masks(torch.from_numpy(stacked(drawn))[None], mask.kinds)


def loss_weight(masks: Tensor) -> int:
    """How much the clips of these masks weigh in a batch's loss.

    As many as they are; or as their tubes in the loss, where clips may have unequally many.
    """
    if masks.dtype != torch.uint8:
        return len(masks)
    return int((masks == PREDICTED).sum())


def least_counts(masks: Tensor) -> Tensor:
    """The least visible and predicted tubes of any clip: (R,2), of masks B,N or B,R,N uint8."""
    roles = torch.stack([(masks & role).bool().sum(-1) for role in (VISIBLE, PREDICTED)], -1)
    return roles.amin(0)


def cut(masks: Tensor, counts: Tensor) -> Tensor:
    """Masks with so many visible and predicted tubes (`least_counts`): the last ones are dropped.

    So V-JEPA's authors make masks equal; as time is slowest, the latest times are lost first.
    """
    kept = torch.zeros_like(masks)
    for place, role in enumerate((VISIBLE, PREDICTED)):
        has = (masks & role).bool()
        first = has.cumsum(-1) <= counts[..., place, None]
        kept |= (has & first).to(masks.dtype) * role
    return kept


def _indices(chosen: Tensor, role: str) -> Tensor:
    counts = chosen.sum(1)
    count = int(counts[0])
    if bool((counts != count).any()):
        raise ValueError(
            f"every clip of a batch needs the same number of {role} tubes, got {counts.tolist()}"
        )
    if not count:
        raise ValueError(f"a mask of {chosen.shape[1]} tubes with none {role}: nothing to learn")
    return chosen.nonzero()[:, 1].view(-1, count)
