"""Every command that a page shows is one: its program, options and settings exist.

What needs more than this machine (a cluster, GPUs, a network) says so in its section.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli.parser import SCRIPT, parser
from pipeline.configuration import composition
from pipeline.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "conf/README.md")]
PAGES += sorted((PROJECT / "docs").rglob("*.md"))
BLOCK = re.compile(
    r"(?:^|\n\n)((?:    .*\n)+(?:\n?(?:    .*\n)+)*)|^```(?:bash|sh)?\n(.*?)^```", re.M | re.S
)
SHELL = ("cd", ".", "git", "eval", "export", "for", "pre-commit")  # not of this project
NEEDING = ("docker", "apptainer", "srun", "torchrun", "pip")  # more than this machine
NEEDS = re.compile(r"[Nn]eeds? (a cluster|GPUs|a network|Docker|Apptainer)")
# Of docs/extending.md, whose files test_extending.py makes.
MADE_THERE = ("gestures", "plugins=")
PLACEHOLDERS = {"K": "0", "N": "1"}


@dataclass(frozen=True)
class Command:
    """One command of a page, and the section that it stands in."""

    page: str
    words: tuple[str, ...]
    section: str

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page, in its order."""
    for section in re.split(r"(?m)^(?=#+ )", page.read_text(encoding="utf-8")):
        for match in BLOCK.finditer(section):
            lines = (match[1] or match[2]).replace("\\\n", " ").splitlines()
            for line in lines:
                for words in split(line.strip()):
                    yield Command(page.relative_to(PROJECT).as_posix(), words, section)


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


def without_optional(words: Sequence[str]) -> list[str]:
    """Drop the brackets of what may be left out, and what stands for more."""
    return [word.strip("[]") if word[0] in "[" or word[-1] == "]" else word for word in words]


def parses(made: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """Return what a parser has against these arguments."""
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            made.parse_args(list(words))
        except SystemExit as ended:
            return error.getvalue() if ended.code else ""
    return ""


def check_pipeline(words: Sequence[str]) -> str:
    arguments = list(words[3 if words[0].endswith("python") else 1 :])
    if any(part in word for word in arguments for part in MADE_THERE):
        return ""
    given = [PLACEHOLDERS.get(word, word) for word in arguments if word != "..."]
    if problem := parses(parser(), given):
        return problem
    if given[0] in ("compose", "init"):
        overrides = [w for w in given[1:] if re.match(r"[\w@./+]+=", w) and not w.endswith("=...")]
        try:
            composition.compose(overrides)
        except UserError as error:
            return str(error)
    return ""


def check_python(words: Sequence[str]) -> str:
    if words[1] == "-m":
        path = PROJECT / words[2].replace(".", "/")
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
        arguments = words[3:]
        if words[2] == "pytest":
            file, arguments = PROJECT / "tests" / "conftest.py", words[4:]
            extending = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
            if not (PROJECT / words[3]).is_file() and f"`{words[3]}`" not in extending:
                return f"no file {words[3]}"
    else:
        file, arguments = PROJECT / words[1], words[2:]
    if not file.is_file():
        return f"no file {file}"
    known = file.read_text(encoding="utf-8") + "--help"
    options = [word for word in without_optional(arguments) if word.startswith("--")]
    return " ".join(option for option in options if f"{option}" not in known)


def check_make(words: Sequence[str]) -> str:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    goals = [word for word in words[1:] if "=" not in word]
    return " ".join(goal for goal in goals if not re.search(rf"(?m)^{goal}:", makefile))


@functools.cache
def snakemake_parser() -> argparse.ArgumentParser:
    from snakemake.cli import get_argument_parser

    made: argparse.ArgumentParser = get_argument_parser()
    return made


def check_snakemake(words: Sequence[str]) -> str:
    return parses(snakemake_parser(), words[1:])


def check_dvc(words: Sequence[str]) -> str:
    from dvc.cli.parser import get_main_parser
    from dvc.exceptions import DvcException

    try:
        return parses(get_main_parser(), words[1:])
    except DvcException as error:
        return str(error)


def check_nothing(words: Sequence[str]) -> str:
    return ""


PROGRAMS = {
    SCRIPT: check_pipeline,
    "python": check_python,
    "make": check_make,
    "snakemake": check_snakemake,
    "dvc": check_dvc,
    **dict.fromkeys((*SHELL, *NEEDING), check_nothing),
}


def needs_more(command: Command) -> bool:
    """Whether a command needs a cluster, a container's program or a network."""
    name = program(command.words)
    return name in NEEDING or command.words[:2] == ("git", "clone") or "--profile" in command.words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_commands_exist(page: Path) -> None:
    """Catches a command, option, setting, script or goal that was renamed, in what a reader copies;
    and one that cannot work on any machine, where the page does not say so."""
    wrong = []
    for command in commands(page):
        problem = PROGRAMS[program(command.words)](command.words)
        if not problem and needs_more(command) and not NEEDS.search(command.section):
            problem = f"the section does not say what it needs: {NEEDS.pattern}"
        if problem:
            wrong.append(f"{command}\n    {problem}")
    assert not wrong, "\n".join(wrong)


def test_commands_are_seen() -> None:
    """Catches a pattern that passes over the pages' blocks."""
    seen = [command for page in PAGES for command in commands(page)]
    assert len(seen) > 150
    assert {program(command.words) for command in seen} >= {SCRIPT, "snakemake", "dvc", "make"}
    assert any(page.startswith("docs/tutorials/") for page in (each.page for each in seen))
