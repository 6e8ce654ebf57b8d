"""The whole model: what it sees, what it shows, and how it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Model, Objective
from pipeline.errors import UserError
from pipeline.method import vit
from pipeline.method.masks.base import PREDICTED, VISIBLE
from pipeline.method.sigma import SigmaModel
from pipeline.method.tubes import split_mask, split_masks


def batch(model: SigmaModel, size: int = 2, masked: float = 0.75) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    count = model.grid.count
    videos = torch.randn(size, 3, *model.grid.clip_shape, generator=generator)
    mask = torch.rand(size, count, generator=generator).argsort(1) < int(masked * count)
    return videos, mask


def test_masked_pixels_are_never_seen(model: Model, sinkhorn: Objective, clip: Clip) -> None:
    """A leak of masked pixels into the prediction would make the task trivial."""
    sigma = sigma_model(model, sinkhorn, clip).eval()
    videos, mask = batch(sigma)
    tubes = sigma.grid.split(videos)
    changed = sigma.grid.join(torch.where(mask[..., None], torch.randn_like(tubes), tubes))
    before, after = sigma(videos, mask), sigma(changed, mask)
    assert torch.equal(before.decoded, after.decoded)
    assert not torch.allclose(before.targets, after.targets)


def test_the_encoder_multiplies_visible_tubes_only(
    model: Model, sinkhorn: Objective, clip: Clip
) -> None:
    """Embedding all tubes and dropping most would give equal numbers, many times slower."""
    sigma = sigma_model(model, sinkhorn, clip)
    videos, mask = batch(sigma)
    seen: list[int] = []
    sigma.encoder.patch_embed.register_forward_hook(
        lambda _m, args, _o: seen.append(args[0].shape[1])
    )
    sigma(videos, mask)
    assert seen == [int((~mask[0]).sum())]


def test_dropped_tubes_have_no_part(model: Model, pixel: Objective, clip: Clip) -> None:
    """Catches tubes that are decoded or looked at though they are neither seen nor predicted."""
    sigma = sigma_model(model, pixel, clip).eval()
    videos, hidden = batch(sigma)
    mask = torch.where(hidden, PREDICTED, VISIBLE).to(torch.uint8)
    mask.scatter_(1, split_mask(hidden).predicted[:, :3], 0)
    prediction = sigma(videos, mask)
    assert prediction.decoded.shape == (2, int(hidden[0].sum()) - 3, sigma.grid.pixels)
    tubes = sigma.grid.split(videos)
    changed = sigma.grid.join(torch.where(mask[..., None] == 0, torch.randn_like(tubes), tubes))
    for before, after in zip(prediction[:2], sigma(changed, mask)[:2], strict=True):
        assert torch.equal(before, after)


def test_several_masks_of_a_clip_are_predicted_as_one_by_one(
    model: Model, sinkhorn: Objective, clip: Clip
) -> None:
    """Catches targets or features of another clip or mask, where a clip has more than one."""
    sigma = sigma_model(model, sinkhorn, clip).eval()
    videos, _ = batch(sigma)
    masks = torch.stack([batch(sigma, masked=0.75)[1], batch(sigma, masked=0.75)[1].flip(1)], 1)
    (prediction,) = sigma(videos, split_masks(masks))
    for number in range(2):
        alone = sigma(videos, masks[:, number])
        rows = slice(2 * number, 2 * number + 2)
        torch.testing.assert_close(prediction.decoded[rows], alone.decoded)
        torch.testing.assert_close(prediction.targets[rows], alone.targets)


def test_encoder_of_visible_indices(model: Model, pixel: Objective, clip: Clip) -> None:
    """Given all indices in another order, features must be the same ones in that order."""
    encoder = sigma_model(model, pixel, clip).eval().encoder
    videos = torch.randn(2, 3, *encoder.grid.clip_shape)
    order = torch.stack([torch.randperm(encoder.grid.count) for _ in range(2)])
    everything = encoder(videos)
    assert everything.shape == (2, encoder.grid.count, model.width)
    expected = everything.gather(1, order[..., None].expand(-1, -1, model.width))
    torch.testing.assert_close(encoder(videos, order), expected, rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_models(
    model: Model, sinkhorn: Objective, pixel: Objective, clip: Clip
) -> None:
    """Resuming and comparing runs rest on this; the encoder must not depend on the objective."""

    def built(objective: Objective, seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return sigma_model(model, objective, clip).state_dict()

    first, second, other = built(sinkhorn, 1), built(sinkhorn, 1), built(sinkhorn, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["prototypes"], other["prototypes"])
    pixels = built(pixel, 1)
    assert all(torch.equal(first[n], pixels[n]) for n in first if n.startswith("encoder."))


def test_recomputed_activations_change_nothing(
    model: Model, sinkhorn: Objective, clip: Clip
) -> None:
    """Activation checkpointing must give the same gradients."""
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        settings = model.model_copy(update={"activation_checkpointing": recompute})
        sigma = sigma_model(settings, sinkhorn, clip)
        prediction = sigma(*batch(sigma))
        (prediction.decoded.square().sum() + prediction.targets.sum()).backward()
        gradients.append({n: p.grad for n, p in sigma.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_short_and_long_sequences_attend_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain and fused attention, either side of the length that chooses: values and gradients."""
    found = []
    for short in (5, 4):  # plain, fused
        monkeypatch.setattr(vit, "SHORT", short)
        generator = torch.Generator().manual_seed(0)
        qkv = torch.randn(3, 2, 3, 5, 8, generator=generator, requires_grad=True)
        mixed = vit.attend(*qkv)
        mixed.square().sum().backward()
        found.append((mixed, qkv.grad))
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-5)


def test_dropped_paths_only_when_training(model: Model, pixel: Objective, clip: Clip) -> None:
    """Stochastic depth must be off in evaluation and on in training."""
    sigma = sigma_model(model.model_copy(update={"drop_path": 0.9}), pixel, clip)
    videos, _ = batch(sigma, size=8)
    assert not torch.equal(sigma.encoder(videos), sigma.encoder(videos))
    sigma.eval()
    assert torch.equal(sigma.encoder(videos), sigma.encoder(videos))


def test_prototypes_have_length_one_and_only_targets_move_them(
    model: Model, sinkhorn: Objective, clip: Clip
) -> None:
    """The decoder's branch scores against detached prototypes; the target's moves them."""
    sigma = sigma_model(model, sinkhorn, clip)
    assert sigma.prototypes is not None
    torch.testing.assert_close(sigma.prototypes.norm(dim=1), torch.ones(6))
    prediction = sigma(*batch(sigma))
    prediction.decoded_scores.sum().backward(retain_graph=True)
    assert sigma.prototypes.grad is None
    prediction.target_scores.sum().backward()
    assert sigma.prototypes.grad.abs().sum() > 0
    with torch.no_grad():
        sigma.prototypes.mul_(3)
    sigma.normalise_prototypes()
    torch.testing.assert_close(sigma.prototypes.norm(dim=1), torch.ones(6))


def test_tube_scores_are_cosines(model: Model, sinkhorn: Objective, clip: Clip) -> None:
    """The report's gallery picks tubes by these: the masked ones must agree with `forward`."""
    sigma = sigma_model(model, sinkhorn, clip).eval()
    videos, mask = batch(sigma)
    scores = sigma.tube_scores(videos)
    assert scores.shape == (2, sigma.grid.count, 6)
    assert scores.abs().max() <= 1 + 1e-6
    expected = sigma(videos, mask).target_scores
    torch.testing.assert_close(scores[mask].view_as(expected), expected)


def test_pixel_models_have_no_prototypes(model: Model, pixel: Objective, clip: Clip) -> None:
    """A VideoMAE run must not carry weights that it never trains."""
    sigma = sigma_model(model, pixel, clip)
    assert "prototypes" not in sigma.state_dict()
    videos, mask = batch(sigma)
    prediction = sigma(videos, mask)
    assert prediction.target_scores is None
    predicted = split_mask(mask).predicted
    assert prediction.decoded.shape == (2, predicted.shape[1], sigma.grid.pixels)
    with pytest.raises(ValueError, match="no prototypes"):
        sigma.tube_scores(videos)


def test_heads_that_do_not_divide_the_width_are_refused(
    model: Model, pixel: Objective, clip: Clip
) -> None:
    """A user's slip in a model's settings must be explained, not crash in a reshape."""
    with pytest.raises(UserError, match="5 heads"):
        sigma_model(model.model_copy(update={"heads": 5}), pixel, clip)
