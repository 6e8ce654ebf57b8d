"""What fine-tuning minimises: what clips stand for, clips mixed with each other, and the loss.

Shapes: n clips, b of a part of a batch, C outputs, T frames, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.configuration.schema import Finetune

Kind = Literal["single", "multi", "regression"]


@dataclass(frozen=True)
class Targets:
    """What the clips stand for: `values`, one row per clip.

    `single`: the number of the class, int (n,). `multi`: 1 where a class applies, (n, C).
    `regression`: C numbers, (n, C). `outputs` is C.
    """

    kind: Kind
    values: NDArray[Any]
    outputs: int


def mixed(
    pixels: Tensor, target: Tensor, targets: Targets, settings: Finetune
) -> tuple[Tensor, Tensor]:
    """Erase rectangles of clips (b, 3, T, H, W), and mix each clip and target with another one.

    Frames and colours become one axis, so that all frames of a clip are treated alike.
    """
    augmentation, shape = settings.augmentation, pixels.shape
    flat = pixels.flatten(1, 2)  # b, 3 T, H, W
    if augmentation.erasing:
        from timm.data.random_erasing import RandomErasing

        erase = RandomErasing(augmentation.erasing, mode="pixel", device=pixels.device)  # type: ignore[no-untyped-call]
        flat = erase(flat)
    if (augmentation.mixup or augmentation.cutmix) and targets.kind != "regression":
        from timm.data.mixup import Mixup

        mixup = Mixup(  # type: ignore[no-untyped-call]
            mixup_alpha=augmentation.mixup,
            cutmix_alpha=augmentation.cutmix,
            prob=augmentation.mix_probability,
            switch_prob=augmentation.switch_probability,
            label_smoothing=augmentation.label_smoothing,
            num_classes=targets.outputs,
            multi_label=targets.kind == "multi",
        )
        flat, target = mixup(flat, target)
    return flat.reshape(shape), target


def loss_of(logits: Tensor, target: Tensor, kind: Kind, settings: Finetune) -> Tensor:
    """The loss of a part of a batch: logits (b, C), targets as `mixed` leaves them."""
    if kind == "regression":
        return functional.smooth_l1_loss(logits.float(), target.float().view_as(logits))
    if kind == "multi":
        return functional.binary_cross_entropy_with_logits(logits.float(), target.float())
    mixed_already = target.ndim == 2  # then it is smoothed, too
    smoothing = 0.0 if mixed_already else settings.augmentation.label_smoothing
    return functional.cross_entropy(logits.float(), target, label_smoothing=smoothing)
