"""The metrics log of a resumed run is that of an uninterrupted one, byte for byte."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.training.logs import MetricsLog, SpeedLog


def write(log: MetricsLog, losses: list[float], first: int) -> None:
    for step, loss in enumerate(losses[first:], first + 1):
        log.add(loss)
        if log.is_due(step):
            log.write(step, 0, {"lr": step / 7})


@settings(max_examples=50)
@given(
    losses=st.lists(st.floats(0, 100), min_size=1, max_size=30),
    every=st.integers(1, 7),
    data=st.data(),
)
def test_killed_and_resumed_is_the_same_log(
    tmp_path_factory: pytest.TempPathFactory,
    losses: list[float],
    every: int,
    data: st.DataObject,
) -> None:
    """Catches lost or doubled lines, and means that forget the losses before a checkpoint."""
    folder = tmp_path_factory.mktemp("logs")
    saved = data.draw(st.integers(0, len(losses)), label="checkpoint")
    killed = data.draw(st.integers(saved, len(losses)), label="killed")

    whole = MetricsLog(folder / "whole.jsonl", every=every, steps=len(losses))
    whole.rewind(None)
    write(whole, losses, 0)

    before = MetricsLog(folder / "resumed.jsonl", every=every, steps=len(losses))
    before.rewind(None)
    write(before, losses[:saved], 0)
    state = json.loads(json.dumps(before.state()))
    write(before, losses[:killed], saved)
    with before.path.open("a") as handle:
        handle.write('{"step": 1')  # the line at which the process died

    after = MetricsLog(before.path, every=every, steps=len(losses))
    after.rewind(state)
    write(after, losses, saved)
    assert after.path.read_bytes() == whole.path.read_bytes()
    assert after.table.read_bytes() == whole.table.read_bytes()
    lines = [json.loads(line) for line in whole.path.read_text().splitlines()]
    assert lines[-1]["step"] == len(losses)
    with whole.table.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [{k: json.loads(v) for k, v in row.items()} for row in rows] == lines
    assert lines[0]["loss"] == pytest.approx(sum(losses[:every]) / len(losses[:every]))


def test_a_linked_copy_is_left_alone(tmp_path: Path) -> None:
    """Catches appending in place: DVC's cache may hold the file of before as a hard link."""
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1, steps=4)
    log.rewind(None)
    write(log, [1.0, 2.0], 0)
    os.link(log.path, tmp_path / "cached")
    content = (tmp_path / "cached").read_bytes()
    again = MetricsLog(log.path, every=1, steps=4)
    again.rewind(log.state())
    write(again, [1.0, 2.0, 3.0], 2)
    assert (tmp_path / "cached").read_bytes() == content
    assert len(log.path.read_text().splitlines()) == 3


@pytest.fixture
def pass_time(own_clock: Callable[[str], Callable[[float], None]]) -> Callable[[float], None]:
    return own_clock("pipeline.training.logs")


def test_speed_counts_the_wait_for_data(tmp_path: Path, pass_time: Callable[[float], None]) -> None:
    """Catches a data-wait share that is not a share, or clips that are counted twice."""

    def slowly() -> Iterator[int]:
        for step in range(1, 4):
            pass_time(3)
            yield step

    speed = SpeedLog(tmp_path / "speed.jsonl")
    speed.rewind(0)
    for step in speed.timed(slowly()):
        pass_time(1)
        speed.clips += 8
        speed.write(step)
    lines = [json.loads(line) for line in speed.path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["data_wait"] for line in lines] == [0.75] * 3
    assert [line["clips_per_s"] for line in lines] == [2.0] * 3
    assert lines[-1]["seconds"] == 12
    again = SpeedLog(speed.path)
    again.rewind(2)
    assert [json.loads(line) for line in speed.path.read_text().splitlines()] == lines[:2]


def test_a_table_grows_a_column_that_comes_late(tmp_path: Path) -> None:
    """Catches rows that slip under other columns, and a number that JSON has and CSV has not."""
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1, steps=3)
    log.rewind(None)
    assert log.table.read_text() == "step,epoch,loss,lr\n"
    fields: list[dict[str, float | None]] = [{"lr": 0.5}, {"grad_norm": 2.0}, {"lr": None}]
    for step, more in enumerate(fields, 1):
        log.add(1.0)
        log.write(step, 0, more)
    with log.table.open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["lr"] for row in rows] == ["0.5", "", ""]
    assert [row["grad_norm"] for row in rows] == ["", "2.0", ""]
    assert [row["step"] for row in rows] == ["1", "2", "3"]


def test_utilisation_is_operations_over_the_peak(
    tmp_path: Path, pass_time: Callable[[float], None]
) -> None:
    """Catches an MFU of another rate than the one beside it, and one where nothing is known."""
    speed = SpeedLog(tmp_path / "speed.jsonl")
    speed.rewind(0)
    pass_time(1)
    speed.clips += 4
    speed.write(1)
    assert "mfu" not in speed.last
    speed.utilisation = 1e-4
    pass_time(1)
    speed.clips += 100
    speed.write(2)
    assert speed.last["mfu"] == pytest.approx(speed.last["clips_per_s"] * 1e-4, abs=1e-4)
    assert speed.last["peak_memory_mib"] > 10
