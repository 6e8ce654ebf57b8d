"""Weights that know their geometry give it to the settings that nobody has set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.configuration import known_weights
from pipeline.configuration.known_weights import SEEN, Known

if TYPE_CHECKING:
    from omegaconf import DictConfig

MARGIN = 8 / 7  # of a stored picture's short side over a clip's, where crops are to have room


def follow(config: DictConfig, overrides: Sequence[str]) -> None:
    """Change `config` where runs have weights: model, clip, and the frame rate of videos.

    What the overrides set stays as it is. Where several runs have weights, the first ones count.
    """
    chosen = {override.lstrip("+~").partition("=")[0].rpartition("@")[2] for override in overrides}
    for name in config.get("runs") or {}:
        run = config.runs[name]
        path = run.get("weights")
        known = known_weights.known(Path(path)) if isinstance(path, str) else None
        if known is None:
            continue
        theirs = known.model.model_dump(mode="json", exclude_defaults=True)
        if not _is_chosen("model", chosen) and not _is_chosen(f"runs.{name}.model", chosen):
            if not _equal(run.model, theirs):
                _put(config, "model", theirs)
            if not _equal(run.model, theirs):  # it is no copy of `model`
                _put(config, f"runs.{name}.model", theirs)
        _follow_clip(config, known, chosen)
        return


def _follow_clip(config: DictConfig, known: Known, chosen: set[str]) -> None:
    data, own = config.data, chosen - {"data"}  # a data set's choice says nothing of clips
    for key in SEEN:
        if key in known.seen and not _is_chosen(f"data.clip.{key}", own):
            data.clip[key] = known.seen[key]
    is_drawn = data.get("synthetic") is not None
    if "fps" in known.seen and not is_drawn and not _is_chosen("data.decode.fps", own):
        data.decode.fps = known.seen["fps"]
    if data.decode.short_side < data.clip.size and not _is_chosen("data.decode.short_side", own):
        short_side = data.clip.size * (1 if is_drawn else MARGIN)
        data.decode.short_side = 2 * -(-round(short_side) // 2)


def _is_chosen(key: str, chosen: set[str]) -> bool:
    """Whether an override is of this key, of what it is in, or of what is in it."""
    return any(
        other == key or key.startswith(f"{other}.") or other.startswith(f"{key}.")
        for other in chosen
    )


def _equal(section: Any, values: dict[str, Any]) -> bool:
    from omegaconf import OmegaConf

    ours: dict[str, Any] = OmegaConf.to_container(section, resolve=True)  # type: ignore[assignment]
    return {k: v for k, v in ours.items() if k != "name"} == {
        k: v for k, v in values.items() if k != "name"
    }


def _put(config: DictConfig, key: str, values: dict[str, Any]) -> None:
    from omegaconf import OmegaConf, open_dict

    with open_dict(config):
        OmegaConf.update(config, key, values, merge=False)
