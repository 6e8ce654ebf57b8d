"""Run the tests of hostile input and of faults; print the table of them in docs/security.md.

    .venv/bin/python workflow/attacks.py [--write] [--only checkpoints]

Each line of the table is an area: the tests that hold it, how many cases they are (a parameter is a
case, and so is each example that hypothesis draws), and how many were withstood. `--write` puts the
table into docs/security.md, as `make test-system` does.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "security.md"
BEGIN, END = "<!-- attacks: by workflow/attacks.py -->\n", "<!-- end of attacks -->\n"
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")
EXAMPLES = re.compile(r"(\d+) passing examples, (\d+) failing")


@dataclass(frozen=True)
class Area:
    """One kind of attack or fault, and the tests that hold it: files, or files::tests."""

    name: str
    what: str
    tests: tuple[str, ...]


AREAS = (
    Area(
        "rows",
        "addresses, schemes, chains, braces, ids, names and CSV of a list",
        ("tests/data/videos/test_hostile_rows.py", "tests/data/videos/test_hostile_downloads.py"),
    ),
    Area(
        "secrets",
        "passwords and signatures of addresses in what is written",
        ("tests/data/videos/test_redaction.py",),
    ),
    Area(
        "servers",
        "answers that lie, never end, change, redirect or refuse",
        (
            "tests/data/videos/test_web.py",
            "tests/data/videos/test_lengths_and_names.py",
            "tests/data/videos/test_limits_of_fetching.py",
            "tests/data/videos/test_remote.py",
        ),
    ),
    Area(
        "archives",
        "names that lead out, links, bombs, damage",
        ("tests/data/videos/test_archives.py", "tests/data/videos/test_hostile_archives.py"),
    ),
    Area("videos", "damaged and hostile video files", ("tests/data/videos/test_fuzz.py",)),
    Area(
        "checkpoints",
        "pickles, false shapes, one storage for many tensors, damage",
        ("tests/weights/test_checkpoint_files.py",),
    ),
    Area(
        "shards",
        "cut, exchanged and rotten bytes",
        ("tests/data/shards/test_verify.py", "tests/data/load/test_failed_clips.py"),
    ),
    Area("views", "cut, rotten and foreign decoded views", ("tests/data/load/test_view_cache.py",)),
    Area(
        "report",
        "markup and scripts in ids, labels and reasons; requests to outside",
        (
            "tests/report/test_page.py::test_text_from_files_stays_text",
            "tests/report/test_page.py::test_json_in_scripts_is_safe_and_unchanged",
            "tests/report/test_page.py::test_nothing_comes_from_outside",
            "tests/report/test_page.py::test_the_browser_is_told_to_fetch_nothing",
        ),
    ),
    Area(
        "full disk",
        "no room in evaluate, segment, severe, report, embed and training",
        ("tests/evaluation/test_full_disk.py", "tests/training/test_failures.py"),
    ),
    Area(
        "kills",
        "SIGKILL at random moments of training",
        ("tests/training/test_kill_and_resume.py",),
    ),
)


@dataclass(frozen=True)
class Tried:
    """What came of an area's tests."""

    cases: int
    failed: int
    skipped: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all; 1 where something was not withstood."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="workflow/attacks.py", description=described)
    parser.add_argument("--only", choices=[area.name for area in AREAS])
    parser.add_argument("--write", action="store_true", help=f"the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    areas = [area for area in AREAS if options.only in (None, area.name)]
    found = {area: tried(area) for area in areas}
    text = table(found)
    print(text, end="")
    if options.write and not options.only:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    return int(any(each.failed for each in found.values()))


def tried(area: Area) -> Tried:
    """Run an area's tests in one process."""
    command = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics", *area.tests]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # neither withstood nor not
        raise SystemExit(f"error: the tests of {area.name!r} did not run\n{done.stdout[-2000:]}")
    return counted(done.stdout)


def counted(output: str) -> Tried:
    """Count cases in what pytest says; a test of hypothesis counts as many as it drew."""
    said = {what: int(count) for count, what in COUNTS.findall(output.splitlines()[-1])}
    failed = said.get("failed", 0) + said.get("error", 0) + said.get("errors", 0)
    drawn = sum(int(passing) + int(failing) for passing, failing in EXAMPLES.findall(output))
    return Tried(said.get("passed", 0) + failed + drawn, failed, said.get("skipped", 0))


def table(found: dict[Area, Tried]) -> str:
    """Return the table in Markdown."""
    lines = ["| attack or fault | tested in | cases | withstood | left out here |"]
    lines.append("|---|---|---:|---:|---:|")
    for area, each in found.items():
        files = dict.fromkeys(test.split("::")[0] for test in area.tests)
        where = ", ".join(f"`{file.removeprefix('tests/')}`" for file in files)
        counts = f"{each.cases:,} | {each.cases - each.failed:,} | {each.skipped}"
        lines.append(f"| **{area.name}**: {area.what} | {where} | {counts} |")
    total = sum(each.cases for each in found.values())
    withstood = total - sum(each.failed for each in found.values())
    lines.append(f"| all | `tests/` | {total:,} | {withstood:,} | |")
    return "\n".join(lines) + "\n"


def with_table(page: str, text: str) -> str:
    """Return the page with this table in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


if __name__ == "__main__":
    raise SystemExit(main())
