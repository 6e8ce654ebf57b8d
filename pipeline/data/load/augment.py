"""Changes of colour and shape that pretraining may see clips under: torchvision's, on bytes.

Every operation takes all frames of a clip at once, so that they are changed alike, on the device
that the clips are on. What is drawn is a pure function of the run's seed and the sample's epoch and
index: the same on any device, in any batch, on any rank.

Shapes: B clips, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from pipeline.configuration.schema import ClipAugmentation
from pipeline.data.load.order import augmentation_seed
from pipeline.method.pixels import MEAN

PAINT = tuple(round(255 * part) for part in MEAN)  # what is erased, or turned into view, is this


def augment(
    videos: Tensor,
    samples: Sequence[tuple[int, int]],
    settings: ClipAugmentation | None,
    *,
    seed: int,
) -> Tensor:
    """Return clips uint8 (B,T,H,W,3) with each clip changed as its sample says.

    `samples` are the epoch and index of each clip (`Batch.samples`). The order is RandAugment,
    colours, grey, erasing. Torch's generators are as before afterwards.
    """
    steps = _steps(settings) if settings else []
    if not steps:
        return videos
    transform = v2.Compose(steps)
    changed = []
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the CPU's generator alone
        for video, (epoch, index) in zip(videos.permute(0, 1, 4, 2, 3), samples, strict=True):
            torch.default_generator.manual_seed(augmentation_seed(seed, epoch, index))
            changed.append(transform(video))
    return torch.stack(changed).permute(0, 1, 3, 4, 2).contiguous()


def _steps(settings: ClipAugmentation) -> list[nn.Module]:
    """Return torchvision's transforms of uint8 (T,3,H,W), those that are switched on."""
    steps: list[nn.Module] = []
    rand, colour = settings.randaugment, settings.colour
    if rand:
        how = {"interpolation": InterpolationMode.BILINEAR, "fill": list(PAINT)}
        steps.append(v2.RandAugment(num_ops=rand.operations, magnitude=rand.magnitude, **how))
    if colour:
        jitter = v2.ColorJitter(colour.brightness, colour.contrast, colour.saturation, colour.hue)
        steps.append(v2.RandomApply([jitter], p=colour.probability))
    if settings.grey:
        steps.append(v2.RandomGrayscale(p=settings.grey))
    if settings.erasing:
        steps.append(v2.RandomErasing(p=settings.erasing, value=list(PAINT)))
    return steps
