"""What is worked out of the loader's rates."""

from __future__ import annotations

from benchmarks import loader_workers
from benchmarks.measuring import Turn


def test_rates_become_efficiencies_and_shares() -> None:
    """Would catch a rate of no workers, or of the other memory, as the one to compare with, and
    shares of the wrong time."""
    turns = {0: Turn(10, 1.0, 1.0), 1: Turn(12, 0.02, 1.0), 2: Turn(36, 0.06, 2.0)}
    rows = [loader_workers.row(workers, "new", turn) for workers, turn in turns.items()]
    rows += [loader_workers.row(workers, "reused", Turn(24, 0.1, 1.0)) for workers in (1, 2)]
    loader_workers.add_efficiency(rows)
    assert "efficiency" not in rows[0]
    assert [round(row["efficiency"], 3) for row in rows[1:]] == [1.0, 0.75, 1.0, 0.5]
    rows = rows[:3]
    assert [round(row["consumer_share"], 3) for row in rows] == [1.0, 0.02, 0.03]
    assert round(rows[2]["consumer_ms_per_clip"], 3) == 1.667
