"""What AdaMAE's sampling network learns."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.data.load.order import sample_rng
from pipeline.method.losses import MseLoss
from pipeline.method.masked_video import masked_video_loss
from pipeline.method.masks import AdaptiveMask
from pipeline.method.sigma import SigmaModel
from pipeline.method.targets import PixelTarget
from pipeline.method.tubes import TubeGrid
from pipeline.method.vit import TransformerSize

GRID = TubeGrid(2, 4, 4, (2, 8, 8))
MASK = AdaptiveMask(0.75)


def videos() -> Tensor:
    """Clips whose right half is noise, and whose left half is grey."""
    made = torch.zeros(16, 3, *GRID.clip_shape)
    made[..., 16:] = torch.randn(16, 3, 4, 32, 16)
    return made


def test_what_is_hard_to_predict_is_seen_more_often() -> None:
    """Catches a network that learns nothing, or to show what needs no showing."""
    torch.manual_seed(0)
    target = PixelTarget(normalise="none")
    size = TransformerSize(64, 2, 4)
    model = SigmaModel(GRID, size, TransformerSize(32, 1, 2), target, mask=MASK)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(100):
        drawn = [MASK.draw(GRID.shape, sample_rng(0, step, clip)) for clip in range(16)]
        noise = torch.from_numpy(np.stack(drawn))
        loss, _ = masked_video_loss(model, videos(), noise, MseLoss())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert model.mask_network is not None
    with torch.no_grad():
        logits = model.mask_network(model.encoder.patch_embed(GRID.split(videos())))
    noisy = logits.softmax(1).view(16, 2, 4, 4)[..., 2:].sum((1, 2, 3))
    assert noisy.min() > 0.8
