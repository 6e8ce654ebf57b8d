"""`python -m pipeline doctor`: what this machine has and lacks for each stage, and what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.cli.doctor.findings import Finding

SUMMARY = "tell what this machine has and lacks for each stage, and what to do about it"
NARROWEST = 100  # columns of the table, where the terminal has fewer or is none


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--params", default="params.yaml", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(options: argparse.Namespace) -> int:
    """Examine and print; return 1 where the present experiment lacks something that it needs."""
    from pipeline.cli.doctor.examination import examine
    from pipeline.configuration import composition

    params = composition.load(Path(options.params))
    shown = sys.stderr.isatty() and not options.json
    findings = list(examine(params, _say if shown else None))
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    failures = [finding for finding in findings if finding.is_failure]
    if options.json:
        rows = [asdict(finding) for finding in findings]
        body = {"experiment": params.name, "findings": rows, "failures": len(failures)}
        print(json.dumps(body, indent=1))
    else:
        _print(params.name, findings, failures)
    return 1 if failures else 0


def _say(stage: str) -> None:
    print(f"\r\x1b[Klooking at: {stage}", end="", file=sys.stderr, flush=True)


def _print(name: str, findings: Sequence[Finding], failures: Sequence[Finding]) -> None:
    from rich.console import Console

    console = Console()
    if console.width < NARROWEST:
        console = Console(width=NARROWEST)
    console.print(_table(findings))
    if failures:
        console.print(
            f"experiment {name}: {len(failures)} things that it needs are missing", style="red"
        )
        for failure in failures:
            console.print(f"  {failure.stage}, {failure.subject}: {failure.remedy}", markup=False)
    else:
        console.print(f"experiment {name}: all that it needs is here", style="green")


def _table(findings: Sequence[Finding]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "what", ""):
        table.add_column(column, no_wrap=True)
    table.add_column("found, and what to do", overflow="fold")
    previous = ""
    for finding in findings:
        if previous and finding.stage != previous:
            table.add_section()
        word, style = _mark(finding)
        found = Text(finding.found)
        if finding.remedy:
            found.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(
            finding.stage if finding.stage != previous else "",
            finding.subject,
            Text(word, style=style),
            found,
        )
        previous = finding.stage
    return table


def _mark(finding: Finding) -> tuple[str, str]:
    if finding.status == "ok":
        return "ok", "green"
    if finding.status == "warning":
        return "warning", "yellow"
    return ("missing", "bold red") if finding.needed else ("not here", "dim")
