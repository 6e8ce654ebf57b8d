"""What is logged, shown elsewhere too: TensorBoard, Weights & Biases, MLflow.

metrics.jsonl and speed.jsonl stay the record; a tracker is a view of it, so one that fails while
training (a server that is down) is switched off with a warning. One that cannot even begin is an
error: whoever switched it on is still there.

A run keeps its identity when it is resumed: it goes on in the same run of each tool.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from pipeline.configuration.schema import Tracking
from pipeline.errors import UserError, first_line, how_to_install

ON_THE_WAY = 50  # lines to MLflow that may be, before training waits
BATCH = 100  # parameters in one request to MLflow, its limit
LONGEST = 500  # characters of one of MLflow's parameters, its limit in old versions


class Tracker(Protocol):
    """One tool."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the values of a step (counted from 1)."""

    def close(self, *, failed: bool) -> None:
        """Send what is left; `failed` says that an error ended the run."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that is shown."""

    experiment: str
    run: str
    folder: Path  # of the run's results
    fingerprint: str  # of all that decides its result
    configuration: Mapping[str, Any]
    done: int = 0  # steps before this process

    @property
    def id(self) -> str:
        """Equal for a run and its resumption, and for no other."""
        text = f"{self.experiment}/{self.run}/{self.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Trackers:
    """All trackers that are switched on, as a context; often none."""

    def __init__(self, settings: Tracking, tracked: TrackedRun, say: Callable[[str], None]) -> None:
        """Begin; `say` prints a warning.

        Raises:
            UserError: where a tool is switched on but not installed, or cannot begin.
        """
        self.say = say
        self.trackers: dict[str, Tracker] = {}
        if settings.tensorboard:
            self._begin("tensorboard", lambda: TensorBoard(tracked))
        if (project := settings.wandb) is not None:
            self._begin("wandb", lambda: WeightsAndBiases(project, tracked))
        if (uri := settings.mlflow) is not None:
            self._begin("mlflow", lambda: MlFlow(uri, tracked))

    def _begin(self, name: str, begin: Callable[[], Tracker]) -> None:
        place = f"trainer.tracking.{name}"
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"{name} is switched on, but not installed",
                place=place,
                remedy=how_to_install("tracking") + ", or switch it off",
            )
        try:
            self.trackers[name] = begin()
        except Exception as error:
            self.close(failed=True)
            raise UserError(
                f"{name} cannot begin: {first_line(error)}",
                place=place,
                remedy="see the tool's own documentation, or switch it off; docs/resuming.md",
            ) from error

    def __bool__(self) -> bool:
        return bool(self.trackers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def log(self, step: int, *lines: Mapping[str, Any]) -> None:
        """Show the numbers of a step; the first line's own keys come before those of the next."""
        values = {name: value for line in reversed(lines) for name, value in line.items()}
        values = {k: float(v) for k, v in values.items() if k != "step" and v is not None}
        self._each(lambda tracker: tracker.log(step, values))

    def close(self, *, failed: bool) -> None:
        """Send what is left."""
        self._each(lambda tracker: tracker.close(failed=failed))
        self.trackers = {}

    def _each(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                action(tracker)
            except Exception as error:  # noqa: BLE001 - no tool may end the training
                del self.trackers[name]
                self.say(f"warning: {name} failed and is switched off: {first_line(error)}")


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir results`."""

    def __init__(self, tracked: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = str(tracked.folder / "tensorboard")
        # Steps that a killed process showed beyond its last checkpoint come again.
        self.writer: Any = SummaryWriter(folder, purge_step=tracked.done + 1)
        if not tracked.done:
            text = json.dumps(tracked.configuration, indent=1, sort_keys=True)
            self.writer.add_text("configuration", f"```\n{text}\n```", 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # a killed process leaves no gap

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 - there is no place for it
        self.writer.close()


class WeightsAndBiases:
    """A run of a project; WANDB_MODE=offline keeps it in the run's folder, for `wandb sync`."""

    def __init__(self, project: str, tracked: TrackedRun) -> None:
        wandb = importlib.import_module("wandb")
        tracked.folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=project,
            group=tracked.experiment,
            name=tracked.run,
            id=tracked.id,
            resume="allow",
            dir=str(tracked.folder),
            config=dict(tracked.configuration),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self, *, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class MlFlow:
    """A run of the experiment at a server, or in a folder (`file:FOLDER`)."""

    def __init__(self, uri: str, tracked: TrackedRun) -> None:
        if uri.startswith("file:"):  # a folder is what was asked for, old-fashioned as it may be
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow = importlib.import_module("mlflow")
        self.metric = importlib.import_module("mlflow.entities").Metric
        self.client = mlflow.MlflowClient(tracking_uri=uri)
        self.sent: list[Any] = []  # what is on its way
        name = tracked.experiment
        experiment = self.client.get_experiment_by_name(name)
        home = experiment.experiment_id if experiment else self.client.create_experiment(name)
        runs = self.client.search_runs([home], f"tags.sigma_id = '{tracked.id}'")
        if runs:
            self.run = runs[0].info.run_id
            history = self.client.get_metric_history(self.run, "loss")
            self.shown = {metric.step for metric in history}
            self.client.update_run(self.run, status="RUNNING")
            return
        tags = {"sigma_id": tracked.id}
        self.run = self.client.create_run(home, tags=tags, run_name=tracked.run).info.run_id
        self.shown = set()
        param = importlib.import_module("mlflow.entities").Param
        flat = [param(key, value[:LONGEST]) for key, value in _flat(tracked.configuration)]
        for start in range(0, len(flat), BATCH):
            self.client.log_batch(self.run, params=flat[start : start + BATCH])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step not in self.shown:  # a step that comes again is as it was
            now = int(time.time() * 1000)
            metrics = [self.metric(name, value, now, step) for name, value in values.items()]
            self.sent.append(self.client.log_batch(self.run, metrics=metrics, synchronous=False))
        while len(self.sent) > ON_THE_WAY:
            self.sent.pop(0).wait()

    def close(self, *, failed: bool) -> None:
        for sent in self.sent:
            sent.wait()
        self.client.set_terminated(self.run, "FAILED" if failed else "FINISHED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, str]]:
    """Nested settings as `trainer.epochs`, `800`."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", json.dumps(value)))
    return flat
