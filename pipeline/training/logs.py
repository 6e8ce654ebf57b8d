"""The two logs of a run, a JSON object per line.

`metrics.jsonl` holds only what equal runs have in common and is, byte for byte, the same for a
run that was killed and resumed as for one that was not; `metrics.csv` is the same as a table, for
DVC's plots. Whatever differs from run to run (time, memory) goes to `speed.jsonl`.

All are written anew when a process starts, and only then appended to: the file of before may be
a link into a DVC cache.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.runtime import accelerators
from pipeline.runtime.files import write_text

Item = TypeVar("Item")
COLUMNS = ("step", "epoch", "loss", "lr")  # of the table where no step was logged
# Keys of online evaluation (`online_evaluation`).
RANKME = "rankme"
KNN = "knn_"  # and a label


class MetricsLog:
    """One line every `every` steps, one at the last of `steps`, and one where a probe is due.

    Probes are due every `probe_every` steps, before the first and after the last step; 0: never.
    """

    def __init__(self, path: Path, *, every: int, steps: int, probe_every: int = 0) -> None:
        self.path, self.every, self.steps, self.probe_every = path, every, steps, probe_every
        self.table = path.with_suffix(".csv")
        self._columns: list[str] = []  # of the table
        self.losses: list[float] = []  # since the last line
        self.last: dict[str, Any] = {}  # the last line

    def rewind(self, state: Mapping[str, Any] | None) -> None:
        """Go back to a `state()`, dropping the lines after it; None empties the log."""
        self.losses = list(state["losses"]) if state else []
        self.last = json.loads(state["last"]) if state else {}
        lines = _lines_up_to(self.path, self.last.get("step", -1))
        if self.last and (not lines or json.loads(lines[-1])["step"] != self.last["step"]):
            print(f"warning: {self.path} lacks lines from before the checkpoint", file=sys.stderr)
        write_text(self.path, "".join(lines))
        self._write_table([json.loads(line) for line in lines])

    def state(self) -> dict[str, Any]:
        """Return what `rewind` needs, as primitives."""
        return {"losses": list(self.losses), "last": json.dumps(self.last)}

    def add(self, loss: float) -> None:
        """Note the loss of a step."""
        self.losses.append(loss)

    def is_due(self, step: int) -> bool:
        """Whether a line belongs to this step (counted from 1)."""
        return step % self.every == 0 or step == self.steps or self.probe_is_due(step)

    def probe_is_due(self, step: int) -> bool:
        """Whether the encoder is probed after so many steps."""
        if not self.probe_every or not self.steps:
            return False
        return step % self.probe_every == 0 or step == self.steps

    def write(self, step: int, epoch: int, fields: Mapping[str, Any]) -> None:
        """Write a line: the mean loss since the last one, and `fields` of this step.

        The line before the first step (0) has no loss.
        """
        mean = sum(self.losses) / len(self.losses) if self.losses else None
        self.last = {"step": step, "epoch": epoch, "loss": mean, **fields}
        self.losses = []
        _append(self.path, json.dumps(self.last))
        if not self.last.keys() <= {*self._columns}:  # the first line, or one with new columns
            lines = self.path.read_text(encoding="utf-8").splitlines()
            self._write_table([json.loads(line) for line in lines])
        else:
            _append(self.table, _row(self.last.get(name) for name in self._columns))

    def _write_table(self, lines: list[dict[str, Any]]) -> None:
        self._columns = list(dict.fromkeys(key for line in lines for key in line))
        rows = [_row(line.get(name) for name in self._columns) for line in lines]
        text = "\n".join([",".join(self._columns or COLUMNS), *rows])
        write_text(self.table, f"{text}\n")


class SpeedLog:
    """Where the time goes: clips per second, and the share of it spent waiting for data.

    `utilisation` turns clips per second into MFU; without it there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.utilisation: float | None = None  # MFU of one clip per second
        self.last: dict[str, Any] = {}  # the last line
        self.clips = 0
        self.began = self.marked = time.monotonic()
        self.waited = 0.0
        self.probing = 0.0  # seconds of online evaluation
        self._clips_marked, self._waited_marked = 0, 0.0

    def rewind(self, step: int) -> None:
        """Keep what earlier processes wrote, up to `step`; start the clock."""
        write_text(self.path, "".join(_lines_up_to(self.path, step)))
        self.began = self.marked = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since this process began to train."""
        return time.monotonic() - self.began

    def timed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches, and count the time until each one comes."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited += time.monotonic() - asked
            yield batch

    @contextlib.contextmanager
    def probe(self) -> Iterator[None]:
        """Count the time of the block as online evaluation."""
        began = time.monotonic()
        yield
        self.probing += time.monotonic() - began

    def write(self, step: int) -> None:
        """Write a line about the time since the last one."""
        now = time.monotonic()
        seconds = max(now - self.marked, 1e-9)
        rate = (self.clips - self._clips_marked) / seconds
        self.last = {
            "step": step,
            "seconds": round(self.seconds, 3),
            "clips_per_s": round(rate, 2),
            "data_wait": round((self.waited - self._waited_marked) / seconds, 4),
            "peak_memory_mib": round(accelerators.peak_memory() / 2**20),
        }
        if self.utilisation is not None:
            self.last["mfu"] = round(rate * self.utilisation, 4)
        self.marked, self._clips_marked, self._waited_marked = now, self.clips, self.waited
        _append(self.path, json.dumps(self.last))


def _row(values: Iterable[object]) -> str:
    """One line of CSV. Numbers are spelled as in JSON, a missing one is empty."""
    return ",".join("" if value is None else json.dumps(value) for value in values)


def _append(path: Path, line: str) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def _lines_up_to(path: Path, step: int) -> list[str]:
    """Return the whole lines up to this step; a killed process may have left half of one."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    return kept
