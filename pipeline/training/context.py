"""What one process of a run trains with: the model's settings, its data, its place, its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pipeline.configuration.schema import Clip, Run
from pipeline.data.load.mixture import ClipMixture
from pipeline.data.shards.format import ClipEntry
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.runtime.ranks import Ranks
from pipeline.training.engines import Engine
from pipeline.training.inheritance import Initial
from pipeline.training.logs import MetricsLog, SpeedLog
from pipeline.training.state import Session
from pipeline.training.tracking import TrackedRun


class Scorer(Protocol):
    """Scores an encoder while it trains (`online_evaluation`): its code decides no weights."""

    def scores(self, engine: Engine) -> dict[str, float]:
        """Return the scores of the weights as they are now, by their keys in the log."""

    def record(self) -> dict[str, Any]:
        """Return what `pretrain.json` says of it."""


@dataclass(frozen=True)
class RunContext:
    """A run, seen from one of its processes."""

    run: Run
    clip: Clip
    entries: Sequence[ClipEntry]  # the clips that it trains on
    epochs: int  # how often
    ranks: Ranks
    device: torch.device
    checkpoints: Checkpoints
    log: MetricsLog
    speed: SpeedLog
    tracked: TrackedRun
    provenance: Mapping[str, Any]  # the code and the machine (`runtime.provenance`)
    session: Session  # begins as `provenance`, and grows while this process trains
    initial: Initial | None = None  # weights that it begins with; None: fresh ones
    online: Scorer | None = None  # scores it meanwhile; None: nothing does
    mixture: ClipMixture | None = None  # which clips weigh how much; None: all the same
