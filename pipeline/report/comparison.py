"""Whether one run's score is higher than another's, or whether no difference is shown.

Two single runs are compared on the clips that both answered, by McNemar's exact test (1947): of the
clips on which just one of them is right, is that one the same more often than a coin would be? Over
several seeds it is Student's t-test on the seeds' scores (Welch's where both have several).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

LEVEL = 0.05  # below it a difference is called shown
ALIKE = 1e-9  # scores that differ by less are equal
CLIPS, SEEDS = "exact McNemar test", "t-test over seeds"


def clips(first: Mapping[str, bool], second: Mapping[str, bool]) -> float | None:
    """Return the two-sided p of McNemar's exact test on what two runs got right, by clip.

    None where they have no clip in common.
    """
    from scipy import stats  # takes a second

    both = first.keys() & second.keys()
    if not both:
        return None
    only_first = sum(first[clip] and not second[clip] for clip in both)
    only_second = sum(second[clip] and not first[clip] for clip in both)
    differ = only_first + only_second
    return float(stats.binomtest(only_first, differ).pvalue) if differ else 1.0


def seeds(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the two-sided p of a t-test on the scores of two runs' seeds.

    None where neither has several. A single one is taken to vary as much as the other's seeds do.
    """
    from scipy import stats

    if max(len(first), len(second)) < 2:
        return None
    if max(np.ptp(first), np.ptp(second)) < ALIKE:  # no deviation to judge by
        return 1.0 if abs(first[0] - second[0]) < ALIKE else 0.0
    p = float(stats.ttest_ind(first, second, equal_var=min(len(first), len(second)) < 2).pvalue)
    return p if math.isfinite(p) else None


def above(values: Sequence[float], share: float) -> bool:
    """Whether the mean of several seeds' scores is above `share` (95 % interval of Student's t)."""
    from scipy import stats

    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    reach = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1))
    return mean - reach * deviation / math.sqrt(len(values)) > share


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % interval of a share of n clips (Wilson 1927, "Probable Inference").

    It tells how far another draw of as many test clips could move the score; it says nothing of
    another seed.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def p_text(p: float) -> str:
    """Write such as `p = 0.36` or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
