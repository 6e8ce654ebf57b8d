"""The columns of SEVERE's table, and its mean.

Thoker et al. 2022, "How Severe is Benchmark-Sensitivity in Video Self-Supervised Learning?"; the
columns are those of the SIGMA paper's table (arXiv 2407.15447).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Axis = Literal["domain shift", "sample efficiency", "action granularity", "task shift"]


@dataclass(frozen=True)
class Column:
    """A column: its axis, its title, and whether it holds an error, of which less is better."""

    axis: Axis
    title: str
    error: bool = False


COLUMNS: dict[str, Column] = {
    "ssv2": Column("domain shift", "SSv2"),
    "gym99": Column("domain shift", "Gym99"),
    "ucf_1000": Column("sample efficiency", "UCF (10³)"),
    "gym99_1000": Column("sample efficiency", "Gym (10³)"),
    "fx_s1": Column("action granularity", "FX-S1"),
    "ub_s1": Column("action granularity", "UB-S1"),
    "ucf_rc": Column("task shift", "UCF-RC", error=True),
    "charades": Column("task shift", "Charades"),
}


def mean(values: Mapping[str, float]) -> float | None:
    """Return the table's last column, in per cent; None unless there is every other column.

    Args:
        values: by column, shares and relative errors (0 to 1, an error may be more).

    The paper does not say how it takes the mean of seven percentages and an error. Its rows fit one
    formula: an error e counts as 100 (1 - e), and all eight count alike.
    """
    if set(values) != set(COLUMNS):
        return None
    goods = [1 - values[name] if column.error else values[name] for name, column in COLUMNS.items()]
    return 100 * sum(goods) / len(goods)
