"""Who makes a file that several jobs need: one of them, on whichever machine, though any may die.

Jobs of one data set run at the same time, on machines that share nothing but a file system whose
locks may not reach from one to the other. So a claim is a file: who creates it first makes the
target, and touches the claim every `BEAT_S` seconds; one that is not touched for `STALE_S` seconds,
or whose process on this machine has ended, is taken over. No clock is compared with another's.

A process that was only asleep may wake up after its claim was taken. So a claim saves work, and
nothing depends on it: each claimant writes files of its own, and renames them to the target when
they are complete. At worst a file is made twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

BEAT_S = 10.0
STALE_S = 120.0  # longer than a network file system may show an old time stamp
POLL_S = 1.0


class Claim:
    """The right to make `target`: `take` it, make the target, `release` it (`held` does both)."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.claim")
        self.token = uuid.uuid4().hex[:12]  # no other claim has the same, of any process
        self._seen: tuple[bytes, int] | None = None  # another's claim, as it was last read
        self._since = 0.0

    def take(self) -> bool:
        """Try once; return whether the claim is ours."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            try:
                handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                if not self._abandoned():
                    return False
                self.path.unlink(missing_ok=True)
                continue
            with os.fdopen(handle, "w") as file:
                owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
                json.dump(owner, file)
            _HEART.add(self)
            return True
        return False

    def release(self) -> None:
        """Let others have it, unless it was taken over."""
        _HEART.remove(self)
        try:
            if json.loads(self.path.read_bytes())["token"] == self.token:
                self.path.unlink()
        except (OSError, ValueError, LookupError, TypeError):
            return

    def is_of_this_machine(self) -> bool:
        """Whether the claim that is there was written by a process of this machine."""
        try:
            return bool(json.loads(self.path.read_bytes())["host"] == socket.gethostname())
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def _abandoned(self) -> bool:
        """Whether nobody keeps the claim that is there any longer."""
        try:
            with self.path.open("rb") as file:  # opening asks the server: the time is not a copy
                seen = (file.read(), os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            return True
        now = time.monotonic()
        if seen != self._seen:
            self._seen, self._since = seen, now
        return _has_ended(seen[0]) or now - self._since > STALE_S


def _has_ended(owner: bytes) -> bool:
    """Whether the process that wrote a claim ran on this machine, and does so no longer."""
    try:
        fields = json.loads(owner)
        return fields["host"] == socket.gethostname() and not psutil.pid_exists(int(fields["pid"]))
    except (ValueError, LookupError, TypeError):
        return False  # it is being written


@contextlib.contextmanager
def held(target: Path, message: str = "") -> Iterator[Claim]:
    """Hold the claim on `target` within the block, however long another job has it before.

    Where there is a `message`, it is printed before waiting.
    """
    claim = Claim(target)
    if not claim.take():
        if message:
            print(message, flush=True)
        while not claim.take():
            time.sleep(POLL_S)
    try:
        yield claim
    finally:
        claim.release()


class _Heart:
    """A thread that touches the claims of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.claims: set[Claim] = set()
        self.thread: threading.Thread | None = None

    def add(self, claim: Claim) -> None:
        with self.lock:
            self.claims.add(claim)
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self._beat, daemon=True)
                self.thread.start()

    def remove(self, claim: Claim) -> None:
        with self.lock:
            self.claims.discard(claim)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self.lock:
                claims = list(self.claims)
            for claim in claims:
                try:
                    os.utime(claim.path)
                except OSError:  # taken over, or the server is away: nothing depends on it
                    continue


_HEART = _Heart()
