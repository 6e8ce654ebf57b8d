"""The network that is fine-tuned: which tubes it sees."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.configuration import composition
from pipeline.errors import UserError
from pipeline.weights.classifier import Classifier
from tests import small_models

CLIP = small_models.clip(frames=8)
MODEL = small_models.model(tube=(2, 4, 4), width=16, decoder_width=8, decoder_heads=1)


def classifier_of(drop_tubes: float) -> Classifier:
    torch.manual_seed(0)
    return Classifier(MODEL, CLIP, 3, head_scale=40.0, drop_tubes=drop_tubes).eval()


def videos_of(seed: int) -> Tensor:
    return torch.randn(2, 3, 8, 16, 16, generator=torch.manual_seed(seed))


@settings(max_examples=20)
@given(seed=st.integers(0, 999), drop=st.floats(0.05, 0.95))
def test_what_changes_most_is_seen_and_nothing_else(seed: int, drop: float) -> None:
    """The selection of EVEREST, worked out tube by tube; catches one that is of another time or
    place, and one that is not of the present embedding."""
    classifier, videos = classifier_of(drop), videos_of(seed)
    encoder, grid = classifier.encoder, classifier.encoder.grid
    with torch.no_grad():
        embedded = encoder.patch_embed(grid.split(videos))
        places = grid.height * grid.width
        count = int(grid.count * (1 - drop))

        def at_the_second(tubes: list[int]) -> list[int]:
            """The first time is as important as the second: either of two equal ones is right."""
            return sorted(tube + places if tube < places else tube for tube in tubes)

        chosen = classifier._kept(videos)
        for clip, kept in zip(embedded, chosen.tolist(), strict=True):
            changes = []
            for tube in range(grid.count):
                later = max(tube, tube % places + places)
                changes.append((float((clip[later] - clip[later - places]).norm()), tube))
            most = [tube for _, tube in sorted(changes, reverse=True)[:count]]
            assert at_the_second(kept) == at_the_second(most)
        tokens = encoder(videos, chosen)
        logits = classifier.head(classifier.fc_norm(tokens.mean(1)))
        torch.testing.assert_close(classifier(videos), logits)


@pytest.mark.parametrize(("drop", "counts"), [(0.0, True), (0.5, False)])
def test_what_stands_still_counts_only_where_it_is_not_dropped(drop: float, counts: bool) -> None:
    """A still half of the picture may hold anything: the answer is the same without it."""
    classifier, videos = classifier_of(drop), videos_of(0)
    videos[..., :8] = videos[:, :, :1, :, :8]  # the left half stands still
    other = videos.clone()
    other[..., :8] += 1.0
    with torch.no_grad():
        same = torch.equal(classifier(videos), classifier(other))
    assert same is not counts


@pytest.mark.parametrize("override", ["data.clip.frames=2", "evaluation.finetune.drop_tubes=1.0"])
def test_a_selection_that_cannot_be_made_is_refused_when_it_is_composed(override: str) -> None:
    """Not after hours of pretraining."""
    overrides = ["experiment=one", "evaluation.finetune.drop_tubes=0.4", "segmentation=none"]
    with pytest.raises(UserError, match="drop_tubes"):
        composition.compose([*overrides, "severe=none", override])
