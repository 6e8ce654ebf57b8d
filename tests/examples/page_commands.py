"""The commands that the documentation shows, and what each page says of running them.

`test_pages.py` runs every command, but for those whose block has a remark before it, which is not
seen on the page: `<!-- run by tests/FILE.py -->` (or `tests/FILE.py::TEST`) names the test that
does, `<!-- not run: REASON -->` says what it needs. A section that tells its reader of such a need
(`NEEDS`) counts as the latter.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli.parser import SCRIPT

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "conf/README.md")]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
BLOCK = re.compile(
    r"(?:^|\n\n)((?:    .*\n)+(?:\n?(?:    .*\n)+)*)|^```(?:bash|sh)?\n([\s\S]*?)^```", re.M
)
REMARKS = re.compile(r"((?:<!-- [^>]* -->\s*)+)$")
REMARK = re.compile(r"<!-- (run by|not run:) ([^>]*) -->")
NEEDS = re.compile(r"[Nn]eeds? (a cluster|GPUs|a network|Docker|Apptainer)")
SHELL = ("cd", ".", "git", "eval", "export", "pre-commit")  # not of this project
NEEDING = ("docker", "apptainer", "srun", "torchrun", "pip")  # more than this machine
PROGRAMS = (SCRIPT, "python", "make", "snakemake", "dvc", *SHELL, *NEEDING)


@dataclass(frozen=True)
class Command:
    """One command of a page, the section that it stands in, and the remarks before its block."""

    page: str
    words: tuple[str, ...]
    section: str
    run_by: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"

    @property
    def is_form(self) -> bool:
        """Whether it shows what a command looks like, with `...` for what a reader puts there."""
        return any("..." in word for word in self.words if word != "VIDEO...")

    @property
    def is_left_out(self) -> bool:
        """Whether its page says that test_pages.py does not run it."""
        said = self.run_by or self.not_run or NEEDS.search(self.section)
        return bool(said) or self.is_form


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page, in its order."""
    name = page.relative_to(PROJECT).as_posix()
    for section in re.split(r"(?m)^(?=#+ )", page.read_text(encoding="utf-8")):
        for match in BLOCK.finditer(section):
            before = REMARKS.search(section[: match.start()])
            remarks = REMARK.findall(before[1]) if before else []
            lines = (match[1] or match[2]).replace("\\\n", " ").splitlines()
            for line in lines:
                for words in split(line.strip()):
                    yield Command(
                        name,
                        words,
                        section,
                        tuple(text for kind, text in remarks if kind == "run by"),
                        tuple(text for kind, text in remarks if kind == "not run:"),
                    )


def split(line: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of the commands of a line; none, where it is no shell."""
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return
    command: list[str] = []
    for word in [*words, "&&"]:
        if word in ("&&", "|", ";", ">"):
            while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                command.pop(0)
            if command and program(command) in PROGRAMS:
                yield tuple(command)
            command = []
        else:
            command.append(word)


def program(words: Sequence[str]) -> str:
    """Return what a command calls: `python -m pipeline` counts as `sigma-pipeline`."""
    name = words[0].removeprefix(".venv/bin/")
    if name == "python":
        return SCRIPT if list(words[1:3]) == ["-m", "pipeline"] else "python"
    return name
