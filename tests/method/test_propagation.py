"""Labels that are carried along similar features."""

from __future__ import annotations

import torch

from pipeline.method.propagation import Propagation, neighbours_within, propagate


def test_labels_follow_what_moves() -> None:
    """Catches a similarity taken of the wrong frame, and rows and columns exchanged."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(3, 4, 16, generator=generator)
    frames = torch.stack([first.roll(t, dims=1) for t in range(3)]).flatten(1, 2)
    labels = torch.eye(12)
    carried = propagate(frames, labels, (3, 4), Propagation(4, memory=1, neighbours=1))
    for time, each in enumerate(carried, start=1):
        assert torch.equal(each, labels.view(3, 4, 12).roll(time, dims=1).flatten(0, 1))


def test_nothing_comes_from_beyond_the_neighbourhood() -> None:
    """Catches a neighbourhood that goes round the edge, or is of token numbers."""
    near = neighbours_within((3, 4), 1).view(3, 4, 3, 4)
    assert near[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    frames = torch.zeros(2, 12, 2)
    frames[..., 0] = 1  # all alike
    carried = propagate(frames, torch.eye(12), (3, 4), Propagation(1, memory=1, neighbours=99))
    assert torch.equal(carried[0] > 0, near.view(12, 12))
