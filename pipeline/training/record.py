"""What a run says while it trains: logs, trackers, a line of progress. Rank 0 speaks for all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipeline.configuration.schema import Tracking
from pipeline.runtime.progress import Progress
from pipeline.training import flops
from pipeline.training.context import RunContext
from pipeline.training.logs import KNN, RANKME, MetricsLog, SpeedLog
from pipeline.training.messages import StepResult
from pipeline.training.profiling import profiled
from pipeline.training.state import TrainingState
from pipeline.training.tracking import Trackers

Item = TypeVar("Item")


@dataclass
class Record:
    """All places where a step is noted. On ranks other than the first: only the clock."""

    log: MetricsLog
    speed: SpeedLog
    trackers: Trackers
    progress: Progress
    epochs: int
    writes: bool  # as rank 0 does
    trace: Callable[[], None]  # called after each step
    probe: Callable[[], dict[str, float]]  # scores the encoder; all processes call it together

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches, and count the time until each one comes."""
        return self.speed.timed(batches)

    @property
    def seconds(self) -> float:
        """Since this process began to train."""
        return self.speed.seconds

    def begin(self) -> str:
        """Note what the encoder is worth before the first step, where it is probed; tell it."""
        if not self.log.probe_is_due(0):
            return ""
        scores = self.probe()
        if not self.writes or not scores:
            return ""
        self.log.write(0, 0, scores)
        self.trackers.log(0, self.log.last)
        shown = _shown_scores(scores)
        self.progress.fields.update(shown)
        return ", ".join(f"{name} {value}" for name, value in shown.items())

    def step(self, done: int, epoch: int, rate: float, result: StepResult, *, clips: int) -> None:
        """Note that `done` steps are done; the last one took `clips` clips of all processes."""
        self.speed.clips += clips
        self.log.add(result.loss)
        self.trace()
        scores = self.probe() if self.log.probe_is_due(done) else {}
        if not self.writes:
            return
        if self.log.is_due(done):
            numbers = {"lr": rate, "grad_norm": result.grad_norm}
            numbers |= {name: value.item() for name, value in result.diagnostics.items()}
            numbers |= scores
            self.log.write(done, epoch, _finite(numbers))
            self.speed.write(done)
            self.trackers.log(done, self.log.last, self.speed.last)
            self.progress.fields.update(_shown(self.log.last, self.speed.last, self.epochs))
            self.progress.fields.update(_shown_scores(scores))
        self.progress.advance()


@contextlib.contextmanager
def recording(context: RunContext, state: TrainingState, operations: int) -> Iterator[Record]:
    """Begin to note the steps of a run, after `state.done` of them.

    `operations` is what the model needs for one clip.
    """
    trainer, engine, log, speed = context.run.trainer, state.engine, state.log, context.speed
    label, say = context.checkpoints.label, context.checkpoints.say
    writes = engine.ranks.is_first
    if writes:
        speed.rewind(state.done)
    if writes and state.done < log.steps:
        peak = flops.matmul_peak(engine.device, engine.precision.measured_as) * engine.ranks.world
        speed.utilisation = operations / peak
    rate = ("clips", trainer.batch_size)
    progress = Progress(label, log.steps, "steps", done=state.done, rate=rate)
    tracking = trainer.tracking if writes else Tracking()
    folder = context.tracked.folder / "profile"

    def probe() -> dict[str, float]:
        if context.online is None:
            return {}
        with speed.probe():
            scores = context.online.scores(engine)
        context.session["probe_seconds"] = round(speed.probing, 3)
        return scores

    with (
        Trackers(tracking, replace(context.tracked, done=state.done), say) as trackers,
        profiled(trainer.profile if writes else None, folder, say) as trace,
        progress if writes else contextlib.nullcontext(),
    ):
        record = Record(log, speed, trackers, progress, context.epochs, writes, trace, probe)
        if not state.done and (worth := record.begin()):
            say(f"before training: {worth}")
        yield record


def _finite(fields: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers as JSON has them: a step that fp16 left out has no length of its gradient."""
    return {name: value if math.isfinite(value) else None for name, value in fields.items()}


def _shown(line: Mapping[str, Any], speed: Mapping[str, Any], epochs: int) -> dict[str, str]:
    fields = {
        "epoch": f"{line['epoch'] + 1}/{epochs}",
        "loss": f"{line['loss']:.3f}",
        "lr": f"{line['lr']:.2e}",
    }
    if "prototypes_used" in line:
        fields["prototypes"] = f"{line['prototypes_used']:.0%}"
    fields["data wait"] = f"{speed['data_wait']:.0%}"
    fields["memory"] = f"{speed['peak_memory_mib']:,} MiB"
    if "mfu" in speed:
        fields["MFU"] = f"{speed['mfu']:.0%}"
    return fields


def _shown_scores(scores: Mapping[str, float]) -> dict[str, str]:
    """Scores of online evaluation by the names that they are shown under."""
    shown = {}
    for key, value in scores.items():
        if key == RANKME:
            shown["RankMe"] = f"{value:.1f}"
        else:
            shown[f"k-NN {key.removeprefix(KNN)}"] = f"{value:.1%}"
    return shown
