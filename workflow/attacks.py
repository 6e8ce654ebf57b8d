"""Count what the tests of hostile input and of faults tried; write the table in docs/security.md.

    .venv/bin/python workflow/attacks.py [--write] .pytest_cache/reports/*.xml

It reads the reports (JUnit's XML) that `make test` and `make test-system` leave behind. Each line
of the table is an area: the tests that hold it, how many cases they are (a parameter is a case, and
so is each example that hypothesis draws), and how many were withstood.
"""

from __future__ import annotations

import argparse
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "security.md"
BEGIN, END = "<!-- attacks: by workflow/attacks.py -->\n", "<!-- end of attacks -->\n"
EXAMPLES = re.compile(r"(\d+) passing(?: examples)?, (\d+) failing")


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

    cases: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Tried) -> Tried:
        return Tried(
            self.cases + other.cases, self.failed + other.failed, self.skipped + other.skipped
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Count all; 1 where something was not withstood, 2 where tests of an area were not run."""
    described = (__doc__ or "").split("\n\n", maxsplit=1)[0]
    parser = argparse.ArgumentParser(prog="workflow/attacks.py", description=described)
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help=f"the table into {PAGE.name}")
    options = parser.parse_args(arguments)
    results = read(options.reports)
    counts = {area: counted(area, results) for area in AREAS}
    if absent := [area.name for area, tried in counts.items() if tried == Tried()]:
        print(f"error: no test of {', '.join(absent)} was run", file=sys.stderr)
        print("  remedy: make test && make test-system", file=sys.stderr)
        return 2
    text = table(counts)
    print(text, end="")
    if options.write:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    return int(any(tried.failed for tried in counts.values()))


def read(reports: Iterable[Path]) -> dict[str, Tried]:
    """Return what came of each test, by its node id without parameters."""
    results: dict[str, Tried] = {}
    for report in reports:
        # The suite's own report, of our own pytest: no file of others is read here.
        for case in ET.parse(report).iter("testcase"):  # noqa: S314
            node = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
            test = node.partition("[")[0]
            results[test] = results.get(test, Tried()) + _tried(case)
    return results


def _tried(case: ET.Element) -> Tried:
    """Count one test; one of hypothesis counts as many as it drew (see tests/conftest.py)."""
    if case.find("skipped") is not None:
        return Tried(skipped=1)
    drawn = 0
    for statistics in case.iterfind("properties/property[@name='hypothesis']"):
        for passing, failing in EXAMPLES.findall(statistics.attrib["value"]):
            drawn += int(passing) + int(failing)
    failed = case.find("failure") is not None or case.find("error") is not None
    return Tried(1 + drawn, int(failed))


def counted(area: Area, results: dict[str, Tried]) -> Tried:
    """Add up an area's tests."""
    own = (
        tried
        for test, tried in results.items()
        if test in area.tests or test.partition("::")[0] in area.tests
    )
    return sum(own, start=Tried())


def table(counts: dict[Area, Tried]) -> str:
    """Return the table in Markdown."""
    lines = ["| attack or fault | tested in | cases | withstood | left out here |"]
    lines.append("|---|---|---:|---:|---:|")
    for area, tried in counts.items():
        files = dict.fromkeys(test.split("::")[0] for test in area.tests)
        where = ", ".join(f"`{file.removeprefix('tests/')}`" for file in files)
        cells = f"{tried.cases:,} | {tried.cases - tried.failed:,} | {tried.skipped}"
        lines.append(f"| **{area.name}**: {area.what} | {where} | {cells} |")
    total = sum(tried.cases for tried in counts.values())
    withstood = total - sum(tried.failed for tried in counts.values())
    lines.append(f"| all | `tests/` | {total:,} | {withstood:,} | |")
    return "\n".join(lines) + "\n"


def with_table(page: str, text: str) -> str:
    """Return the page with this table in the place of its own."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + text + END + rest.partition(END)[2]


if __name__ == "__main__":
    raise SystemExit(main())
