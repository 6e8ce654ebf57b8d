"""Kill pretraining with SIGKILL at random moments, as often as asked, and compare how it ends.

    .venv/bin/python workflow/kill_and_resume.py --kills 20

In a temporary folder the tiny experiment's data are made, and one run is trained without being
interrupted. Then it is trained again from nothing, killed and started again and again: at any
moment from its first import on, in the middle of training, and while a checkpoint is being written,
by turns. It has to end with the same weights and the same log, bit for bit.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from pipeline.configuration import composition  # noqa: E402 - the path comes first
from pipeline.configuration.layout import RunLayout  # noqa: E402
from workflow import kill_the_chain  # noqa: E402
from workflow.kill_the_chain import BEFORE_TRAINING, begin  # noqa: E402

# Steps of some milliseconds, a checkpoint for every few of them, random numbers in the model.
OVERRIDES = (
    "experiment=tiny",
    "data.chunks=1",
    "data.synthetic.train=24",
    "trainer.epochs=200",
    "trainer.checkpoint_every=4",
    "trainer.log_every=3",
    "trainer.probe_every=10",
    "++model.drop_path=0.2",
)
# `python -c` of this is `python -m pipeline`, but that it kills itself while it writes its
# `number`th checkpoint: at most so many seconds after the file is there, before it has its name.
# A watcher from outside may come too late for a file of some milliseconds.
DYING_WHILE_WRITING = """
import os, runpy, signal, sys, threading

number, seconds = int(sys.argv.pop(1)), float(sys.argv.pop(1))
files = set()

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    path = str(arguments[0]) if event in ("open", "os.rename") else ""
    if "/checkpoints/." in path and path.endswith(".tmp.pt"):
        files.add(path)
        if len(files) == number:
            die() if event == "os.rename" else threading.Timer(seconds, die).start()

sys.addaudithook(watch)
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


@dataclass
class Killer:
    """Trains `run` in `folder`, and kills it at moments that `chosen` draws."""

    folder: Path
    run: str
    chosen: random.Random
    longest: float = 0.0  # seconds that training took in one go
    kills: int = 0
    while_writing: int = 0  # of them, while a checkpoint was half written

    @property
    def stage(self) -> tuple[str, ...]:
        return ("pretrain", "--run", self.run)

    @property
    def layout(self) -> RunLayout:
        return RunLayout("tiny", self.run)

    def start(self, *, dies_while_writing: bool = False) -> subprocess.Popen[str]:
        if not dies_while_writing:
            return kill_the_chain.start(self.folder, self.stage)
        moment = (self.chosen.randint(1, 3), self.chosen.uniform(0, 0.02))
        interpreted = ["-c", DYING_WHILE_WRITING, *map(str, moment)]
        return kill_the_chain.start(self.folder, self.stage, interpreted)

    def finish(self) -> dict[str, str]:
        """Train to the end; return the hashes of what must be equal."""
        self.longest = max(self.longest, kill_the_chain.finish(self.folder, self.stage))
        return outcome(self.folder, self.layout)

    def kill_once(self) -> bool:
        """Start training and kill it; False where it came to its end before.

        By turns: while a checkpoint is being written, after a few lines of the log, at any moment.
        """
        kind = self.kills % 3
        process = self.start(dies_while_writing=kind == 0)
        try:
            if kind == 1:
                self.wait_for_lines(process)
            elif kind == 2:
                self.wait_for_a_moment(process)
            else:
                process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            messages = process.communicate()[1]
        if "Traceback" in messages:
            raise SystemExit(f"error: training failed before the kill\n{messages}")
        killed = process.returncode == -signal.SIGKILL
        self.kills += killed
        self.while_writing += killed and kind == 0
        return killed

    def wait_for_a_moment(self, process: subprocess.Popen[str]) -> None:
        """Wait for as long as training may take, or less."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.chosen.uniform(0, self.longest))

    def wait_for_lines(self, process: subprocess.Popen[str]) -> None:
        """Wait until this process's log has a few lines more than it began with."""
        began = self.log_began()
        while process.poll() is None and self.log_began() == began:
            time.sleep(0.001)
        awaited = self.lines() + self.chosen.randint(0, 8)
        while process.poll() is None and self.lines() < awaited:
            time.sleep(0.001)

    def log_began(self) -> int:
        """Tells one process's log from another's: each writes it anew, and then appends."""
        path = self.folder / self.layout.metrics
        return path.stat().st_ino if path.exists() else 0

    def lines(self) -> int:
        """How many steps are in the run's log."""
        path = self.folder / self.layout.metrics
        return path.read_bytes().count(b"\n") if path.exists() else 0


def outcome(folder: Path, layout: RunLayout) -> dict[str, str]:
    """Hashes of the weights and of the logs, by name."""
    paths = (layout.weights, layout.metrics, layout.curves)
    return {p.name: hashlib.sha256((folder / p).read_bytes()).hexdigest() for p in paths}


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return 1 where a run ended otherwise than the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--run", default="sigma_mlp", help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the moments; default: another each time")
    parser.add_argument("override", nargs="*", help="such as trainer.accumulation=2")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="kill-and-resume-") as name:
        killer = Killer(Path(name), options.run, random.Random(seed))
        begin(killer.folder, (*OVERRIDES, *options.override))
        params = composition.load(killer.folder / "params.yaml")
        needed = (("pretrain", "--run", run) for run in params.needed(options.run))
        for stage in (*BEFORE_TRAINING, *needed):
            kill_the_chain.finish(killer.folder, stage)
        expected = killer.finish()
        runs = 0
        while killer.kills < options.kills:
            shutil.rmtree(killer.folder / killer.layout.folder)
            while killer.kills < options.kills and killer.kill_once():
                print(f"kill {killer.kills} of {options.kills}", flush=True)
            found = killer.finish()
            runs += 1
            if found != expected:
                print(
                    f"error: run {runs} ended otherwise\n{json.dumps([expected, found], indent=1)}"
                )
                return 1
    print(
        f"{killer.kills} kills, {killer.while_writing} of them while a checkpoint was being "
        f"written; {runs} run(s) ended as the uninterrupted one did, bit for bit"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
