"""The tables of README and of the docs are those of the committed scores."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmarks import results
from pipeline.errors import UserError


def test_the_pages_show_the_committed_scores() -> None:
    """Catches a table that was edited by hand, or left as it was when the scores were renewed."""
    assert results.main(["--check"]) == 0


def test_another_score_changes_the_tables(tmp_path: Path) -> None:
    """Catches a table that does not depend on the scores that it stands for, and a wrong mean."""
    scores = json.loads(results.SCORES.read_text())
    scores["pixel_s1"]["motion"]["linear"] = 0.123
    changed = tmp_path / "metrics.json"
    changed.write_text(json.dumps(scores))
    now, then = results.tables(), results.tables(changed)
    assert {name for name in now if now[name] != then[name]} == {"glance", "recognition"}
    runs = ("pixel", "pixel_s1", "pixel_s2")
    values = [100 * scores[run]["motion"]["linear"] for run in runs]
    shown = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    assert f"| {shown} |" in then["glance"]


def test_the_best_mean_is_bold_and_of_errors_the_least() -> None:
    """Catches bold type on the worst, where lower is better."""
    higher = results.Row("a", {"sigma_mlp": [1.0], "pixel": [3.0], "random": [2.0]})
    lower = higher._replace(lower_is_better=True)
    assert "| **3.0** |" in results.across([higher])
    assert "| **1.0** |" in results.across([lower])


def test_a_table_of_no_such_name_is_refused() -> None:
    """Catches a misspelt name, whose table would be left as it is for ever."""
    page = "<!-- scores: glanze -->\n<!-- end of scores -->"
    with pytest.raises(UserError, match="glanze"):
        results.written(page, results.tables(), Path("README.md"))
