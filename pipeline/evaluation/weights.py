"""A run's weights: that they are those that were trained."""

from __future__ import annotations

from pipeline.configuration.layout import RunLayout
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, sha256_file


def verified_sha256(layout: RunLayout) -> str:
    """Hash the weights; they must be those that the pretrain stage wrote.

    Raises:
        UserError: where the run has not been pretrained, or the weights are others.
    """
    remedy = f"python -m pipeline pretrain --run {layout.run}"
    try:
        recorded = read_json(layout.pretrained)["model_sha256"]
        actual = sha256_file(layout.weights)
    except FileNotFoundError as error:
        problem = f"run {layout.run!r} has not been pretrained"
        raise UserError(problem, place=str(error.filename), remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        problem = f"this is not the manifest of a pretrained run: {error!r}"
        raise UserError(problem, place=str(layout.pretrained), remedy=remedy) from None
    if recorded != actual:
        raise UserError(
            f"the weights are not those that {layout.pretrained} tells of",
            place=str(layout.weights),
            remedy=remedy,
        )
    return actual
