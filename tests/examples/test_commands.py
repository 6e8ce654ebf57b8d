"""Every command that a page shows is one: its program, options and settings exist.

What needs more than this machine (a cluster, GPUs, a network) says so in its section. Those that
can be run are, by `test_pages.py` or another test that the page names (`page_commands.py`).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.cli.parser import SCRIPT, parser
from pipeline.configuration import composition
from pipeline.errors import UserError

from .page_commands import NEEDING, NEEDS, PAGES, PROJECT, SHELL, Command, commands, program

# Of docs/extending.md, whose files test_extending.py makes.
MADE_THERE = ("gestures", "plugins=")
PLACEHOLDERS = {"K": "0", "N": "1"}
REASONS = re.compile(r"cluster|GPU|network|hours|publisher|bucket|these tests")


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


CHECKS = {
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


def functions_in(path: Path) -> set[str]:
    """Return the names of a file's functions."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def wrong_remarks(command: Command) -> str:
    """Return which remark before a command names no test that knows it, or no reason."""
    verb = command.words[1] if program(command.words) == "dvc" else program(command.words)
    if verb in (SCRIPT, "python"):
        verb = re.split(r"[./]", command.words[2 if "-m" in command.words else 1])[-1]
        verb = command.words[3] if verb == "pipeline" else verb.removesuffix("py")
    known = verb == "compose"  # which test_commands_exist runs
    for text in command.run_by:
        name, _, test = text.partition("::")
        path = PROJECT / name
        if not path.is_file() or (test and test not in functions_in(path)):
            return f"no such test: {text}"
        known |= verb in path.read_text(encoding="utf-8")
    for text in command.not_run:
        if not REASONS.search(text):
            return f"no reason that is known: {text}"
    if command.run_by and not known and not command.not_run:
        return f"{', '.join(command.run_by)} does not know it"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_commands_exist(page: Path) -> None:
    """Catches a command, option, setting, script or goal that was renamed, in what a reader copies;
    and one that cannot work on any machine, where the page does not say so."""
    wrong = []
    for command in commands(page):
        problem = CHECKS[program(command.words)](command.words)
        if not problem and needs_more(command) and not NEEDS.search(command.section):
            problem = f"the section does not say what it needs: {NEEDS.pattern}"
        if problem:
            wrong.append(f"{command}\n    {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_what_is_not_run_says_why(page: Path) -> None:
    """Catches a command that neither test_pages.py nor another test runs, and that has no reason;
    and a remark whose test is gone."""
    assert [f"{each}: {wrong}" for each in commands(page) if (wrong := wrong_remarks(each))] == []


UNQUOTED = re.compile(r"(?m)^    .*\s[\w@./+]+=\[.*")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix())
def test_brackets_are_quoted(page: Path) -> None:
    """Catches a list of values that zsh, macOS's shell, takes for a pattern of files."""
    lines = UNQUOTED.findall(page.read_text(encoding="utf-8"))
    assert [line for line in lines if "python" in line or SCRIPT in line] == []


def test_commands_are_seen() -> None:
    """Catches a pattern that passes over the pages' blocks."""
    seen = [command for page in PAGES for command in commands(page)]
    assert len(seen) > 150
    assert {program(command.words) for command in seen} >= {SCRIPT, "snakemake", "dvc", "make"}
    assert any(page.startswith("docs/tutorials/") for page in (each.page for each in seen))
