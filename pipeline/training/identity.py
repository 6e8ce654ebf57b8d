"""What a training is told by: its settings, the pictures that it learns from, the code that learns.

Nothing heavy is imported: planning a workflow asks, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pipeline.configuration import code, plugins
from pipeline.configuration.layout import DataLayout, RunLayout, runs_of_all_experiments
from pipeline.configuration.schema import Data, Params, Run
from pipeline.data.load import mixture
from pipeline.data.shards.index import DatasetIndex, Pictures
from pipeline.runtime.checkpoint_sets import FINISHED, Settings, fingerprint
from pipeline.runtime.files import read_json
from pipeline.training.inheritance import Inherited, inherited

# Keys of a run that do not affect its result; excluded from the fingerprint under which it resumes.
# (Other `threads` add up in another order: the result is as good, but not equal bit for bit.)
RESULT_NEUTRAL_KEYS = {
    *("name", "on_code_change"),
    *("threads", "workers", "cache_mib", "decoder", "max_failed_share"),
    *(
        "engine",
        "zero_stage",
        "nodes",
        "devices",
        "timeout_s",
        "accumulation",
        "compile",
        "deterministic",
    ),
    *("log_every", "checkpoint_every", "keep_checkpoints", "keep_every", "tracking", "profile"),
    *("probe_every", "probe_labels", "probe_clips", "probe_drop_tubes"),
}


@dataclass(frozen=True)
class Identity:
    """What a training is told by."""

    settings: Settings
    code: dict[str, str]  # file -> hash of its meaning

    @classmethod
    def of(
        cls,
        params: Params,
        run: str,
        pictures: Pictures | None = None,
        others: Inherited | None = None,
        components: str | None = None,
    ) -> Self:
        """Return the identity of a run, by default with the pictures and other runs that there are.

        `others` is what `inherited` says of the weights that it begins with, `components` the hash
        of a mixture (`components_of`).

        Raises:
            UserError: where the data or those weights are not there, or do not go with the mixture.
        """
        pictures = pictures or pictures_of(params.data)
        chosen = params.runs[run]
        others = inherited(params.name, chosen) if others is None else others
        components = components_of(params, run) if components is None else components
        settings = _resumable_settings(chosen, params.data, pictures)
        if components:
            settings["data"]["components"] = components
        inheritance = {"inherited": others} if others else {}  # else as it was before there was any
        return cls({**settings, **inheritance}, _code_that_learns(chosen))

    def has_settings_of(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a finished training had these settings and pictures, by its manifest."""
        return manifest.get("fingerprint") == fingerprint(self.settings)

    def is_of(self, manifest: Mapping[str, Any]) -> bool:
        """Whether a finished training was of this identity, by its manifest."""
        return self.has_settings_of(manifest) and manifest.get("code") == self.code

    def elsewhere(self, experiment: str) -> Iterator[RunLayout]:
        """Yield the runs of other experiments in which such a training has ended."""
        for layout in runs_of_all_experiments():
            place = layout.checkpoints / FINISHED
            if layout.experiment != experiment and place.is_file() and self.is_of(read_json(place)):
                yield layout


def _resumable_settings(run: Run, data: Data, pictures: Pictures) -> dict[str, Any]:
    """Return all settings and data that decide what a run learns.

    A checkpoint is resumed under equal ones only. The data are the pictures of the clips that are
    trained on, in their order: no label, no name, and no clip of another split.
    """
    neutral = RESULT_NEUTRAL_KEYS - ({"decoder"} if run.trainer.decoder == "nvdec" else set())
    every = run.model_dump(mode="json")
    sections = {name: part for name, part in every.items() if isinstance(part, dict)}
    return {
        **{name: {k: v for k, v in s.items() if k not in neutral} for name, s in sections.items()},
        "data": {"clip": data.clip.model_dump(mode="json"), "pictures": pictures.sha256},
    }


def pictures_of(data: Data) -> Pictures:
    """Return what is learned from, as the index stage noted it; of older data sets it is read.

    Raises UserError where there is no index.
    """
    layout = DataLayout(data.name)
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        body = read_json(layout.pictures)
        if body["splits"] == list(data.pretrain_splits):
            return Pictures(body["clips"], body["sha256"])
    return DatasetIndex.load(layout.shards).pictures(data.pretrain_splits)


def components_of(params: Params, run: str) -> str:
    """Return a hash of which clip is of which component of a run's mixture; empty: it has none.

    A label in the mixture's column decides what is learned, which no other label does.
    """
    chosen, data = params.runs[run], params.data
    if chosen.trainer.mixture is None:
        return ""
    clips = DatasetIndex.load(DataLayout(data.name).shards).clips(data.pretrain_splits)
    place = f"runs.{run}.trainer.mixture"
    return mixture.mixed(clips, chosen.trainer.mixture, place)[0].sha256


def _code_that_learns(run: Run) -> dict[str, str]:
    """Return the files that decide what a training ends with, each with the hash of its meaning.

    Not the stage: it gives the training what it needs, and writes down what has come of it. What a
    plugin gives the run belongs to it.
    """
    given = (run.objective.mask, *run.objective.all_targets, run.objective.loss)
    modules = {type(each).__module__ for each in given}
    modules = {each for each in modules if plugins.is_one(each)}
    files = code.of_modules("pipeline.training.loop", "pipeline.training.state", *modules)
    return code.meanings(files)
