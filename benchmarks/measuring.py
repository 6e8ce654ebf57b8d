"""Taking turns, so that whatever else the machine does hits all alike; and printing it."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from pipeline.runtime.provenance import hardware, packages


@dataclass(frozen=True)
class Turn:
    """What one contender did in one turn."""

    count: int
    cpu: float  # seconds of this process's threads
    wall: float  # seconds by the clock


@dataclass(frozen=True)
class Speed:
    """Of all turns of one contender: the middle one, and the best."""

    per_cpu_s: float  # a second of one core
    best_per_cpu_s: float
    per_wall_s: float
    count: int

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Speed:
        by_cpu = [turn.count / turn.cpu for turn in turns]
        by_wall = [turn.count / turn.wall for turn in turns]
        total = sum(turn.count for turn in turns)
        return cls(statistics.median(by_cpu), max(by_cpu), statistics.median(by_wall), total)


def take_turns(
    contenders: Mapping[str, Callable[[], int]], *, rounds: int, seconds: float
) -> dict[str, Speed]:
    """Let each contender work for about `seconds` in each round; the first round is not counted.

    A contender does some work when it is called, and returns how much.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, work in contenders.items():
            count, cpu, wall = 0, time.process_time(), time.perf_counter()
            while not count or time.perf_counter() - wall < seconds:
                count += work()
            turn = Turn(count, time.process_time() - cpu, time.perf_counter() - wall)
            if round_:
                turns[name].append(turn)
    return {name: Speed.of(found) for name, found in turns.items()}


def answered(
    options: argparse.Namespace,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    shown: Callable[[dict[str, Any]], str],
) -> int:
    """Measure, and print what came of it, with `--json` as JSON; return the exit status."""
    try:
        report = measure(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2) if options.json else shown(report))
    return 0


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on, and with what."""
    return {"hardware": hardware(), "packages": packages()}


def machine_lines(found: Mapping[str, Any]) -> str:
    """Return `machine()` for people."""
    hard, packed = found["hardware"], found["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packed.items())
    return f"on: {', '.join(f'{name} {value}' for name, value in hard.items())}\nwith: {versions}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return aligned columns: the first to the left, numbers to the right."""
    lines = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
