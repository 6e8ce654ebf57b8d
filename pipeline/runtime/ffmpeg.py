"""Which ffmpeg to run, and running it so that a bad video can do no harm."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import IO

from pipeline.runtime import watchdog

# Options of the input. Containers that hold videos: playlists, pictures and text files are demuxed
# by ffmpeg as well, and a playlist could make it open other files.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,asf,flv,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,ogg,rm,dv,mxf,"
    "nut,gif,yuv4mpegpipe,wtv,swf,vc1"
)
CONFINED = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}


@cache
def executable() -> str:
    """Return the ffmpeg to run: IMAGEIO_FFMPEG_EXE where it is set, else the one that
    imageio-ffmpeg brings; where it brings none for this machine, conda's or the system's.

    Its version is locked with the other packages, so equal videos give equal clips on every
    machine; and it starts in a fifth of the time of one that is linked to hundreds of libraries.
    """
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


class TimedOut(Exception):  # noqa: N818 - it is the outcome of a video, not an error of ours
    """The process had not ended after its time limit, and was killed."""


def run(
    command: Sequence[str],
    on_line: Callable[[str], None],
    *,
    time_limit_s: float,
    memory_limit_mib: int,
) -> int:
    """Run a command to its end and return its exit status (negative: the signal that ended it).

    `on_line` is called with each line of its standard error. Whatever happens here, the process and
    its children are gone afterwards, also where this process is killed.

    Args:
        time_limit_s: wall clock.
        memory_limit_mib: address space of the process; Linux only.

    Raises:
        TimedOut: it ran into the time limit.
    """
    deadline = time.monotonic() + time_limit_s
    with started(
        command,
        time_limit_s=time_limit_s,
        memory_limit_mib=memory_limit_mib,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            for line in _lines(process, deadline):
                on_line(line.decode(errors="replace"))
            _await_end(process, deadline)
            return process.wait()
        except subprocess.TimeoutExpired:
            raise TimedOut from None


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    time_limit_s: float,
    memory_limit_mib: int,
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command; it and its children are gone after the block.

    The time limit is one of processor time here, several times as long: whoever waits for the
    process keeps an eye on the clock.
    """
    with subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,  # a group of its own, to be killed as one
    ) as process:
        watch = watchdog.started(process.pid)
        try:
            _limit(process.pid, time_limit_s, memory_limit_mib)
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            watch.ended(process.pid)


def _limit(pid: int, time_limit_s: float, memory_limit_mib: int) -> None:
    # From outside and right after the start: a function run between fork and exec would keep
    # Python from using vfork, which costs more than a small video takes to decode.
    if not hasattr(resource, "prlimit"):
        return
    memory = memory_limit_mib * 2**20
    # A second line behind the time limit and the watchdog. Four threads at most do any work:
    # reading, decoding, filtering, encoding.
    seconds = math.ceil(4 * time_limit_s) + 1
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        resource.prlimit(pid, resource.RLIMIT_AS, (memory, memory))
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds))


def _await_end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait until the process has ended, which it does right after it closed its standard error."""
    left = max(0.01, deadline - time.monotonic())
    if not hasattr(os, "pidfd_open"):
        process.wait(left)  # looks again and again, and sleeps in between
        return
    descriptor = os.pidfd_open(process.pid)
    try:
        if not select.select([descriptor], [], [], left)[0]:
            raise subprocess.TimeoutExpired(process.args, left)
    finally:
        os.close(descriptor)


def _lines(process: subprocess.Popen[bytes], deadline: float) -> Iterator[bytes]:
    """Yield the lines of standard error while they come; nothing of them is kept."""
    assert process.stderr is not None  # noqa: S101 - for the type checker
    descriptor = process.stderr.fileno()
    rest = b""
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([descriptor], [], [], left)[0]:
            raise subprocess.TimeoutExpired(process.args, left)
        block = os.read(descriptor, 65536)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    if rest:
        yield rest
