"""Files that people open in a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.data.records import ClipRecord, Outcome
from pipeline.data.shards import index_stage


def test_no_cell_of_the_lost_clips_is_a_formula(tmp_path: Path) -> None:
    """Catches a list whose author has a formula computed on the desk of whoever looks at what was
    lost."""
    odd = ("=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "plain")
    lost = [ClipRecord(id="-a", outcome=Outcome.FAILED, reason=text, source=text) for text in odd]
    index_stage._write_lost(tmp_path / "lost.csv", lost)
    with (tmp_path / "lost.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["source"] for row in rows] == [
        "'=1+1", "'+1", "'-1+cmd|' /C calc'!A0", "'@SUM(A1)", "'\t=1", "' =1", "plain",
    ]  # fmt: skip
    assert [row["reason"] for row in rows] == [row["source"] for row in rows]
    assert {row["id"] for row in rows} == {"'-a"}
