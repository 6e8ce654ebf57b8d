"""Kill the whole chain with SIGKILL at random moments, as often as asked, and compare how it ends.

    .venv/bin/python workflow/kill_the_chain.py --kills 100

The tiny experiment is made in temporary folders: stage by stage without being interrupted, and
stage by stage with kills, each at a moment of a process's life that is drawn anew, and started
again until it is done. All folders have to hold the same files with the same bytes, but for what
tells of time and machine, and none that a killed process left behind.
"""

from __future__ import annotations

import argparse
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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
RUN = "sigma_mlp"
OVERRIDES = (
    "experiment=tiny",
    "data.chunks=1",
    "data.synthetic.train=24",
    "severe.drawn.train=16",
    "severe.drawn.test=12",
    "~runs.pixel",
    "~runs.random",
)
STAGES: tuple[tuple[str, ...], ...] = (
    ("manifest",),
    *((stage, "--chunk", "0") for stage in ("download", "decode", "shard")),
    ("index",),
    *((stage, "--run", RUN) for stage in ("pretrain", "evaluate", "segment", "severe")),
    ("report",),
)
BEFORE_TRAINING = STAGES[: STAGES.index(("index",)) + 1]
# Of files that are otherwise equal: what was measured, not what came of it.
OF_TIME = {
    "seconds",
    "cost",
    "provenance",
    "sessions",
    "clips_per_s",
    "made",
    "outputs",
    "pretrain_sha256",
}
# Files that tell of time alone, or name the moment they were made.
LEFT_OUT = ("speed.jsonl", ".times.json", ".html", ".pt", ".pt.sha256", ".log", "journal.jsonl")


def start(
    folder: Path, stage: Sequence[str], interpreted: Sequence[str] = ("-m", "pipeline")
) -> subprocess.Popen[str]:
    """Start a stage in a session of its own: one thread, and this checkout's code."""
    return subprocess.Popen(
        [sys.executable, *interpreted, *stage],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, stage: Sequence[str]) -> float:
    """Run a stage to its end; return the seconds that it took."""
    began = time.monotonic()
    process = start(folder, stage)
    said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"error: {' '.join(stage)} failed\n{said}")
    return time.monotonic() - began


def killed(folder: Path, stage: Sequence[str], after: float) -> bool:
    """Start a stage and kill it after so many seconds; False where it was done before."""
    process = start(folder, stage)
    try:
        said = process.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1]
        if "Traceback" in said:
            raise SystemExit(f"error: {' '.join(stage)} failed before the kill\n{said}") from None
        return True
    if process.returncode:
        raise SystemExit(f"error: {' '.join(stage)} failed after a kill\n{said}")
    return False


def begin(folder: Path, overrides: Sequence[str] = OVERRIDES) -> None:
    """Write params.yaml, beside what the stages read of the project."""
    (folder / "pipeline").symlink_to(PROJECT / "pipeline")
    finish(folder, ("compose", *overrides))


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each file, without what differs from one time to the next."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_lasting(path)).hexdigest()
        for path in _files(folder)
    }


def _files(folder: Path) -> Iterator[Path]:
    for top in ("data", "downloads", "results", "logs"):
        yield from (path for path in sorted((folder / top).rglob("*")) if path.is_file())


def _lasting(path: Path) -> bytes:
    if path.name.endswith(LEFT_OUT):
        return b""  # that it is there counts
    if path.suffix == ".json":
        return json.dumps(_without(json.loads(path.read_text(encoding="utf-8")))).encode()
    if path.suffix == ".npz":
        return _arrays(path)
    return path.read_bytes()


def _arrays(path: Path) -> bytes:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if name != "provenance"]
        return b"".join(name.encode() + file[name].tobytes() for name in names)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        # A key that names a manifest has its hash, of all its bytes; these are compared themselves.
        kept = (key for key in value if key not in OF_TIME and not key.endswith(".json"))
        return {key: _without(value[key]) for key in kept}
    return [_without(each) for each in value] if isinstance(value, list) else value


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Say which files are missing, left over or other ones."""
    return [
        *(f"missing: {name}" for name in sorted(expected.keys() - found.keys())),
        *(f"left over: {name}" for name in sorted(found.keys() - expected.keys())),
        *(f"different: {n}" for n in sorted(expected) if found.get(n, expected[n]) != expected[n]),
    ]


def torn(
    folder: Path, longest: Mapping[tuple[str, ...], float], kills: int, chosen: random.Random
) -> int:
    """Make everything in `folder` with about so many kills; return how many there were.

    A stage's share of them is its share of the time; which stage gets the rest is drawn, too.
    """
    folder.mkdir()
    begin(folder)
    stages, seconds = list(longest), list(longest.values())
    due = Counter(chosen.choices(stages, seconds, k=kills))
    done: Counter[str] = Counter()
    for stage in stages:
        while done[stage[0]] < due[stage] and killed(
            folder, stage, chosen.uniform(0, longest[stage])
        ):
            done[stage[0]] += 1
        finish(folder, stage)
    print(f"kills: {', '.join(f'{stage} {count}' for stage, count in done.items() if count)}")
    return done.total()


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return 1 where the end was another one."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="workflow/kill_the_chain.py", description=described)
    parser.add_argument("--kills", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--at-once", type=int, default=25, help="kills of one chain at most")
    parser.add_argument("--seed", type=int, help="of the moments; default: another each time")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    chosen, kills, chains = random.Random(seed), 0, 0
    work = Path(tempfile.mkdtemp(prefix="kill-the-chain-"))
    whole = work / "whole"
    whole.mkdir()
    begin(whole)
    longest = {stage: finish(whole, stage) for stage in STAGES}
    expected = contents(whole)
    while kills < options.kills:
        folder = work / f"killed-{chains}"
        kills += torn(folder, longest, min(options.at_once, options.kills - kills), chosen)
        chains += 1
        if found := differences(expected, contents(folder)):
            print("\n".join([f"error: {folder} ended otherwise than {whole}", *found[:40]]))
            return 1
        shutil.rmtree(folder)
    shutil.rmtree(work)
    print(
        f"{kills} kills of {chains} chains: {len(expected)} files are equal, none is missing or new"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
