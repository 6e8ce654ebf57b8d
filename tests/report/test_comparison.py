"""Tests of differences: against published numbers, and what they must hold whatever the scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import comparison

ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=5)


def answers(pairs: list[tuple[bool, bool]]) -> tuple[dict[str, bool], dict[str, bool]]:
    first, second = zip(*pairs, strict=True)
    return {str(k): v for k, v in enumerate(first)}, {str(k): v for k, v in enumerate(second)}


@pytest.mark.parametrize(
    ("first", "second", "p"), [(5, 0, 0.0625), (6, 0, 0.03125), (9, 1, 0.021484375), (3, 3, 1.0)]
)
def test_mcnemar_is_exact(first: int, second: int, p: float) -> None:
    """Catches a one-sided or approximate p: these are sums of binomial terms, by hand."""
    pairs = [(True, False)] * first + [(False, True)] * second + [(True, True)] * 20
    assert comparison.clips(*answers(pairs)) == pytest.approx(p)


@given(ANSWERS)
def test_a_comparison_has_no_direction(pairs: list[tuple[bool, bool]]) -> None:
    """Catches a p that depends on who is named first, or lies outside 0 to 1."""
    first, second = answers(pairs)
    p = comparison.clips(first, second)
    assert p is not None
    assert 0 <= p <= 1
    assert comparison.clips(second, first) == pytest.approx(p)
    assert comparison.clips(first, first) == 1


def test_only_common_clips_are_compared() -> None:
    """Catches a clip that one run could not read, counted for the other one."""
    assert comparison.clips({"a": True}, {"b": True}) is None
    assert comparison.clips({"a": True, "b": True}, {"a": True}) == 1


@given(SCORES, SCORES)
def test_seeds_never_give_what_is_no_p(first: list[float], second: list[float]) -> None:
    """Catches NaN of seeds that are all equal, and a claim from one seed against one."""
    p = comparison.seeds(first, second)
    if len(first) == len(second) == 1:
        assert p is None
    if p is not None:
        assert 0 <= p <= 1
        assert not math.isnan(p)


def test_seeds_against_student() -> None:
    """Catches pooled deviations where both have several seeds: Welch's p, by hand."""
    p = comparison.seeds([0.90, 0.87, 0.95], [0.69, 0.70, 0.68])
    assert p == pytest.approx(0.0100, abs=2e-3)
    assert comparison.seeds([0.5, 0.5], [0.5, 0.5]) == 1
    assert comparison.seeds([0.5, 0.5], [0.4, 0.4]) == 0


def test_above_wants_the_whole_interval() -> None:
    """Catches a mean that is called above a share which its seeds reach around."""
    assert comparison.above([0.52, 0.50, 0.51], 0.45)
    assert not comparison.above([0.60, 0.40, 0.53], 0.45)
