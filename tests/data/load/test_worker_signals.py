"""What a terminal or a scheduler sends to a training and its loader workers at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from pipeline.data.shards.format import ClipEntry

PROJECT = Path(__file__).parents[3]


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "outcome"),
    [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "finished"), (signal.SIGUSR1, "finished")],
)
def test_signals_are_the_parents(
    entries: list[ClipEntry],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    number: signal.Signals,
    outcome: str,
) -> None:
    """Catches workers that print a traceback on Ctrl-C, that die of a scheduler's signal to all
    processes while the parent finishes a step or while they start, and that are left over."""
    listing = tmp_path / "entries.txt"
    # Not in tmp_path, which may be too deep: workers hand tensors over by sockets in this folder,
    # and the path of a socket has at most 107 bytes.
    files = Path(tempfile.mkdtemp(prefix="loader-"))
    request.addfinalizer(lambda: shutil.rmtree(files, ignore_errors=True))
    listing.write_text("".join(f"{entry.shard}\t{entry.line()}" for entry in entries))
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, str(listing), str(number.value)],
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "TMPDIR": str(files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() == "started\n":
        os.killpg(process.pid, number)  # as a terminal or a scheduler does it: to all of them
    try:
        output, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert (output, errors, process.returncode) == (f"{outcome}\n", "", 0)
    # An ffmpeg that decoded for a worker ends at once, as nobody reads it any more. It is a zombie
    # until the system's first process, whose child it is then, takes notice of its end.
    deadline = time.monotonic() + 120
    while running := _running(process.pid):
        assert time.monotonic() < deadline, running
        time.sleep(0.05)
    assert not [path for path in files.rglob("*") if path.is_file()]  # no copy of a video


def _running(group: int) -> list[psutil.Process]:
    """Return the processes of a group that have not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


# Each worker gets the signal as it starts, too: torch's handlers are in place, ours not yet.
SIGNALLED = r"""
import os, signal, sys
from pathlib import Path
import torch
from pipeline.data.load.loader import PretrainingClips, pretraining_batches
from pipeline.data.load.options import LoaderOptions
from pipeline.configuration.schema import Clip
from pipeline.method.masks import TubeMask
from pipeline.data.shards.format import ClipEntry

noted = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs with `&`
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: noted.append("signal"))
signal_handling = torch.utils.data._utils.signal_handling
set_handlers = signal_handling._set_worker_signal_handlers
def set_handlers_and_get_the_signal():
    set_handlers()
    os.kill(os.getpid(), int(sys.argv[2]))
signal_handling._set_worker_signal_handlers = set_handlers_and_get_the_signal
lines = [line.split("\t") for line in Path(sys.argv[1]).read_text().splitlines()]
entries = [ClipEntry.parse(line, Path(shard)) for shard, line in lines]
clip = Clip(frames=4, stride=1, size=16, scales=(1.0,), flip=False)
clips = PretrainingClips(entries, clip, TubeMask(ratio=0.5), (2, 8, 8), seed=0, batch_size=4)
batches = pretraining_batches(clips, range(10**6), LoaderOptions(workers=2))
try:
    next(batches)
    print("started", flush=True)
    after = 0
    for batch in batches:
        after += len(noted)
        if after == 20:  # well past those that were ready when the signal came
            break
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
