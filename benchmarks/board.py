"""docs/pictures/board.svg: what a terminal shows while the demo trains.

    python -m benchmarks.board

makes a project, runs it on a terminal of its own, and draws what stands there at a moment of its
training, in the terminal's own characters and colours. It then presses Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pipeline.errors import UserError
from pipeline.runtime.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "board.svg"
LINES, COLUMNS = 30, 118
MOMENT = r"\b[1-9]\d\d/[\d,]+ steps.* k-NN"  # of a training that has taken a hundred steps
REDRAWN = re.compile(r"\r\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")  # the board before is wiped away
FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # which would come from elsewhere
CTRL_C = b"\x03"


class Screen:
    """Follows what a command writes to its terminal until the board shows the wanted moment."""

    def __init__(self, moment: str) -> None:
        self.moment = re.compile(moment)
        self.text = ""
        self.seen = 0
        self.board: Text | None = None

    def read(self, terminal: int) -> bytes:
        """Take what came, as `pty.spawn` wants it; press Ctrl-C once the moment is there."""
        if not self.text:
            termios.tcsetwinsize(terminal, (LINES, COLUMNS))
        received = os.read(terminal, 65536)
        self.text += received.decode(errors="replace")
        if self.board is None and (board := self._wanted_board()):
            self.board = board
            os.write(terminal, CTRL_C)
        return received

    def _wanted_board(self) -> Text | None:
        """The first board at the moment among those that came; each is whole once another follows.

        All are looked at: a busy machine hands over several at once.
        """
        *whole, _ = REDRAWN.split(self.text)
        new, self.seen = whole[self.seen :], len(whole)
        boards = (Text.from_ansi(each.replace("\r\n", "\n").strip("\n")) for each in new)
        return next((board for board in boards if self.moment.search(board.plain)), None)


def run(folder: Path, chosen: list[str], moment: str) -> Text:
    """Make a project in a folder and run it until the board shows a moment; return the board.

    Raises:
        UserError: the workflow has ended before.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VERBOSE": "0"}
    environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    python = [sys.executable, "-m"]
    made = [*python, "pipeline", "init", str(folder), *chosen]
    subprocess.run(made, cwd=folder.parent, env=environment, check=True)
    screen = Screen(moment)
    os.environ.update(environment)  # which `pty.spawn` hands on
    with contextlib.chdir(folder):
        pty.spawn([*python, "snakemake", "--cores", "2"], screen.read)
    if screen.board is None:
        raise UserError(
            f"the board has never shown {moment!r}",
            place=str(folder),
            remedy="look at what the terminal showed; give another --moment",
        )
    return screen.board


def drawn(board: Text, title: str) -> str:
    """Return an SVG of a terminal that shows a board; it asks for no fonts from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(board, no_wrap=True, overflow="crop")
    picture = console.export_svg(title=title, unique_id="board")
    return FONTS.sub("", picture).replace("Fira Code, monospace", "monospace")


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture anew."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("chosen", nargs="*", default=["experiment=demo"], help="as of compose")
    parser.add_argument("--moment", default=MOMENT, help="a regular expression: %(default)s")
    parser.add_argument("-o", "--output", type=Path, default=PICTURE)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        board = run(Path(folder) / "project", given.chosen, given.moment)
    write_text(given.output, drawn(board, "make run"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
