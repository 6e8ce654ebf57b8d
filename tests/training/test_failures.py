"""Every end from outside is one screen that names the last good checkpoint, and leaves nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.training import pretrain_stage

pytestmark = pytest.mark.system

Compose = Callable[..., Params]
PRETRAIN = [sys.executable, "-m", "pipeline", "pretrain", "--run", "sigma_mlp"]
MANY = ("trainer.epochs=20", "trainer.checkpoint_every=1", "trainer.keep_checkpoints=1000")
PAIR = ("trainer.engine=ddp", "trainer.devices=2")


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}


def is_one_clear_screen(said: str) -> None:
    """What a user can read at once, and act on."""
    assert "Traceback" not in said, said
    error = said[said.index("error: ") :]
    assert error.count("error: ") == 1
    assert error.count("\n") < 10
    assert "the last good checkpoint is results/" in error
    assert "run the same command again and it goes on" in error


# The command line three times in one process: each start of torch takes seconds.
ON_A_DISK = """
import os, subprocess, sys
from pathlib import Path
from pipeline.cli import main as cli
checkpoints, size = Path(sys.argv[1]), int(sys.argv[2])

def mount(options, *what):
    subprocess.run(["mount", "-o", options, *what, "results"], check=True)

def pretrain(name):
    print(name, "status", cli.main(["pretrain", "--run", "sigma_mlp"]), flush=True)
    print(*sorted(path.name for path in checkpoints.glob("*.pt")), flush=True)

mount(f"size={9 * size // 2}", "-t", "tmpfs", "none")
pretrain("full")
mount("remount,ro")
pretrain("read-only")
mount(f"remount,rw,size={100 * size}")
pretrain("room")
subprocess.run(["cp", "-r", "results", "kept"], check=True)
"""


def test_a_full_disk_one_that_may_not_be_written_and_then_room(
    compose: Compose, project: Path
) -> None:
    """Catches a traceback, a damaged checkpoint, and a run that does not go on once there is room.

    The disk is real, if of memory, in mounts of a process's own: full after some checkpoints, then
    read-only (root's permissions would hide a folder that merely is), and then large.
    """
    unshare = ["unshare", "--map-root-user", "--mount"]
    try:
        probe = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
        subprocess.run([*unshare, *probe], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount, even within `unshare --map-root-user --mount`")
    params = compose(*MANY)
    layout = RunLayout(params.name, "sigma_mlp")
    pretrain_stage.run(params, "sigma_mlp")
    size = (layout.checkpoints / "step-00000001.pt").stat().st_size
    Path("results").rename("uninterrupted")
    Path("results").mkdir()
    done = subprocess.run(
        [*unshare, sys.executable, "-c", ON_A_DISK, str(layout.checkpoints), str(size)],
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    full, rest = done.stdout.split("full status 2\n")
    read_only, rest = rest.split("read-only status 2\n")
    room, rest = rest.split("room status 0\n")
    is_one_clear_screen(full)
    assert "No space left on device" in full
    last = read_only.splitlines()[0].split()[-1]
    assert f"the last good checkpoint is {layout.checkpoints}/{last}" in full
    is_one_clear_screen(read_only)
    assert "Read-only file system" in read_only
    assert f"going on after step {int(last[5:-3])}" in room
    for path in (layout.weights, layout.metrics, layout.curves):
        again = Path("kept") / path.relative_to("results")
        expected = Path("uninterrupted") / path.relative_to("results")
        assert again.read_bytes() == expected.read_bytes()


@pytest.fixture
def pair(compose: Compose, project: Path) -> Iterator[subprocess.Popen[str]]:
    """Two processes in the middle of a training that would take minutes."""
    params = compose(*PAIR, *MANY, "trainer.epochs=2000", "trainer.timeout_s=20")
    process = subprocess.Popen(
        PRETRAIN,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    folder = RunLayout(params.name, "sigma_mlp").checkpoints
    deadline = time.monotonic() + 600
    while len(list(folder.glob("*.pt"))) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    for child in [*psutil.Process().children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_process_that_is_lost(
    pair: subprocess.Popen[str], rank: int, number: signal.Signals
) -> None:
    """Catches processes that wait for a dead one for ever, or that outlive the run."""
    children = psutil.Process(pair.pid).children(recursive=True)
    ranks = {child.environ()["RANK"]: child for child in children if "RANK" in child.environ()}
    assert set(ranks) == {"0", "1"}
    ranks[str(rank)].send_signal(number)
    said, _ = pair.communicate(timeout=300)  # 20 until it is missed, 30 of grace
    assert pair.returncode not in (0, 75)
    is_one_clear_screen(said)
    assert f"rank {1 - rank} of 2" in said
    alive = psutil.wait_procs(children, timeout=30)[1]  # the shell that watches ends last
    assert not alive
