"""A command on a pseudo-terminal of its own: what comes there, and keys that are pressed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


class Terminal:
    """Runs a command, which the terminal is the controlling one of, so that Ctrl-C reaches it."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        size: tuple[int, int] = (100, 40),
    ) -> None:
        """`size` is columns and lines."""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:  # the new process
            with contextlib.suppress(BaseException):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.chdir(folder)
                os.execve(command[0], command, {"TERM": "xterm", **environment})  # noqa: S606
            os._exit(127)
        self.text = ""
        self.resize(*size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)

    @property
    def plain(self) -> str:
        """What came, without control sequences."""
        return CONTROL.sub("", self.text).replace("\r", "")

    def resize(self, columns: int, lines: int) -> None:
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)

    def press(self, keys: bytes) -> None:
        os.write(self.descriptor, keys)

    def read(self) -> bool:
        """Wait for something to come; return whether there will be more."""
        try:
            received = os.read(self.descriptor, 65536)
        except OSError:  # nobody writes any more
            return False
        self.text += received.decode(errors="replace")
        return bool(received)

    def wait_for(self, words: str, seconds: float = 600) -> None:
        """Read until these words have come; fail where they do not."""
        deadline = time.monotonic() + seconds
        while words not in self.plain:
            assert self.read(), self.plain
            assert time.monotonic() < deadline, self.plain

    def wait(self) -> int:
        """Read to the end; return the exit status, negative where a signal ended it."""
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def run_on_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Run a command to its end; return its exit status and all that came, as it came."""
    with Terminal(command, folder, environment) as terminal:
        return terminal.wait(), terminal.text


def leaves_a_cursor(text: str) -> bool:
    """Whether a cursor that was hidden is shown again."""
    return text.rfind(SHOW_CURSOR) >= text.rfind(HIDE_CURSOR)
