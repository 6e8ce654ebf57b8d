"""The network that is fine-tuned: which tubes it sees."""

from __future__ import annotations

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.configuration import composition, stages
from pipeline.errors import UserError
from pipeline.method.pooling import changing_tubes
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

        chosen = changing_tubes(encoder, grid.split(videos), drop)
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


@pytest.mark.parametrize("key", ["evaluation.drop_tubes", "evaluation.finetune.drop_tubes"])
@pytest.mark.parametrize("override", ["data.clip.frames=4", "0.999"])
def test_a_selection_that_cannot_be_made_is_refused_when_it_is_composed(
    key: str, override: str
) -> None:
    """Not after hours of pretraining: tubes of the model have 4 frames, and a clip has 32."""
    overrides = ["experiment=one", "evaluation=demo_finetuned", "segmentation=none", "severe=none"]
    assert "drop_tubes: 0.4" in composition.compose([*overrides, f"{key}=0.4"])
    overrides.append(f"{key}=0.4" if "=" in override else f"{key}={override}")
    with pytest.raises(UserError, match=f"{key} keeps the tubes that change most: runs.encoder"):
        composition.compose(overrides + [override] * ("=" in override))


def test_images_have_no_tubes_that_change() -> None:
    """Catches features of arbitrary tubes of still clips."""
    images = "+evaluation.images=[{name: a, format: cifar100, folder: b}]"
    with pytest.raises(UserError, match="in images nothing changes"):
        composition.compose(["experiment=one", "evaluation.drop_tubes=0.4", images])


def test_online_evaluation_follows_and_nothing_is_written_where_nothing_is_dropped() -> None:
    """Catches one setting that has to be made twice, and recorded settings that are others."""
    for share in (None, 0.4):
        override = [f"evaluation.drop_tubes={share}"] if share else []
        text = composition.compose(["experiment=one", *override])
        params = composition.validate(yaml.safe_load(text), place="test")
        assert params.runs["encoder"].trainer.probe_drop_tubes == share
        for stage in ("pretrain", "evaluate", "order"):
            assert ("drop_tubes" in stages.settings(params, stage, "encoder")) is bool(share)
