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

    What the overrides set stays as it is. The first weights decide what is common to all runs;
    those that are of another encoder, or other clips, have a model and a clip of their own. Clips
    of further data sets have the size of the experiment's.
    """
    chosen = {override.lstrip("+~").partition("=")[0].rpartition("@")[2] for override in overrides}
    is_first = True
    for name in config.get("runs") or {}:
        path = config.runs[name].get("weights")
        known = known_weights.known(Path(path)) if isinstance(path, str) else None
        if known is None:
            continue
        common = theirs = known.model.model_dump(mode="json", exclude_defaults=True)
        if (pooling := config.runs[name].get("pooling", "mean")) != "mean":
            own = known_weights.known(Path(path), pooling) or known
            theirs = own.model.model_dump(mode="json", exclude_defaults=True)
        if not _is_chosen("model", chosen) and not _is_chosen(f"runs.{name}.model", chosen):
            if is_first and not _equal(config.runs[name].model, common):
                _put(config, "model", common)
            if not _equal(config.runs[name].model, theirs):  # it is no copy of `model`
                _put(config, f"runs.{name}.model", theirs)
        if is_first:
            _follow_clip(config, known, chosen)
        elif not _is_chosen(f"runs.{name}.clip", chosen):
            _follow_own_clip(config, name, known, chosen)
        is_first = False
    _follow_in_further_data(config, chosen)


def _follow_clip(config: DictConfig, known: Known, chosen: set[str]) -> None:
    data, own = config.data, chosen - {"data"}  # a data set's choice says nothing of clips
    for key in SEEN:
        if key in known.seen and not _is_chosen(f"data.clip.{key}", own):
            data.clip[key] = known.seen[key]
    is_drawn = data.get("synthetic") is not None
    if "fps" in known.seen and not is_drawn and not _is_chosen("data.decode.fps", own):
        data.decode.fps = known.seen["fps"]
    _make_large_enough(data, data.clip.size, "data", own)


def _follow_own_clip(config: DictConfig, run: str, known: Known, chosen: set[str]) -> None:
    """Give a run a clip of its own where its weights were trained on another than `data.clip`."""
    own = chosen - {"data"}
    differing = {
        key: known.seen[key]
        for key in SEEN
        if known.seen.get(key, config.data.clip[key]) != config.data.clip[key]
        and not _is_chosen(f"data.clip.{key}", own)
    }
    if differing:
        _put(config, f"runs.{run}.clip", differing)
        _make_large_enough(config.data, differing.get("size", 0), "data", own)


def _follow_in_further_data(config: DictConfig, chosen: set[str]) -> None:
    """Give clips of further data sets as many frames and pixels as those of the experiment's."""
    for name, data in (config.get("evaluation_data") or {}).items():
        place = f"evaluation_data.{name}"
        own = chosen - {place}
        for key in ("frames", "size"):
            if not _is_chosen(f"{place}.clip.{key}", own):
                data.clip[key] = config.data.clip[key]
        sizes = [run.clip.get("size", 0) for run in config.runs.values() if run.get("clip")]
        _make_large_enough(data, max([data.clip.size, *sizes]), place, own)


def _make_large_enough(data: Any, size: int, place: str, chosen: set[str]) -> None:
    """Store pictures that have room for a clip of so many pixels."""
    if data.decode.short_side < size and not _is_chosen(f"{place}.decode.short_side", chosen):
        short_side = size * (1 if data.get("synthetic") is not None else MARGIN)
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
