"""Frozen features: the mean over all tubes, or over those that change most."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.configuration import build
from pipeline.method.pooling import Pooled, Tokens, changing_tubes
from pipeline.method.vit import Encoder
from tests import small_models

CLIP = small_models.clip(frames=8)
MODEL = small_models.model(tube=(2, 4, 4), width=16, background="subtract")


def encoder_of(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return build.encoder(MODEL, CLIP).eval()


def videos_of(seed: int, clips: int = 3) -> Tensor:
    return torch.randn(clips, 3, 8, 16, 16, generator=torch.manual_seed(seed))


@torch.no_grad()
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), drop=st.floats(0.05, 0.95))
def test_the_encoder_sees_all_and_the_mean_is_of_what_changes(seed: int, drop: float) -> None:
    """Catches dropped tubes that the encoder does not see, tokens of other tubes or clips than the
    chosen ones, and a count that is off."""
    encoder, videos = encoder_of(seed), videos_of(seed)
    network = Tokens(encoder, drop)
    assert network.count == int(encoder.grid.count * (1 - drop))
    whole, chosen = encoder(videos), changing_tubes(encoder, encoder.grid.split(videos), drop)
    expected = torch.stack([clip[places] for clip, places in zip(whole, chosen, strict=True)])
    assert expected.shape[1] == network.count
    assert torch.equal(network(videos), expected)
    assert torch.equal(Pooled(encoder, drop)(videos), expected.mean(1))


@torch.no_grad()
def test_a_clip_alone_has_the_same_tubes() -> None:
    """Catches a choice that depends on the other clips of a batch, for still ones too."""
    encoder, videos = encoder_of(0), videos_of(0)
    videos[1] = videos[1, :, :1]  # nothing changes: all tubes are equally important
    together = changing_tubes(encoder, encoder.grid.split(videos), 0.7)
    alone = [changing_tubes(encoder, encoder.grid.split(video[None]), 0.7)[0] for video in videos]
    assert torch.equal(together, torch.stack(alone))


@torch.no_grad()
def test_without_a_share_it_is_the_plain_mean() -> None:
    """Catches a feature that is not, bit for bit, what it was before there was a choice."""
    encoder, videos = encoder_of(1), videos_of(1)
    assert torch.equal(Pooled(encoder)(videos), encoder(videos).float().mean(dim=1))
    assert torch.equal(Tokens(encoder)(videos), encoder(videos))


@torch.no_grad()
def test_where_a_small_part_moves_the_feature_is_of_it() -> None:
    """Catches a mean of the tubes that change least: a still ground that is another one moves the
    mean of all tubes further than that of the tubes that change."""
    encoder, ground = encoder_of(2), torch.randn(2, 3, 1, 16, 16).expand(-1, -1, 8, -1, -1)
    figure = torch.randn(1, 3, 8, 4, 4)
    videos = ground.clone()
    videos[..., 4:8, 8:12] = figure
    plain, moving = (Pooled(encoder, drop)(videos) for drop in (None, 0.9))
    kept = changing_tubes(encoder, encoder.grid.split(videos), 0.9)
    assert {place % 16 for place in kept.flatten().tolist()} >= {1 * 4 + 2}
    assert (plain[0] - moving[0]).norm() > 0
