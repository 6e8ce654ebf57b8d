"""The tables of segmentation and SEVERE, from what their stages wrote."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.evaluation.segmentation import table as segmentation_table
from pipeline.evaluation.severe import table as severe_table
from pipeline.evaluation.severe.columns import COLUMNS


def segmented(miou: float, kind: str) -> dict[str, Any]:
    row = {"data": "d", "kind": kind, "frames": 16, "protocol": "clustering", "miou": miou}
    return {"scores": [row | {"one_segment": 0.25, "scored": 9, "of": 10}]}


def severe(value: float, *, data: str | None = None, mean: float | None = 50.0) -> dict[str, Any]:
    """A row per column; of the paper's data sets where `data` names none."""
    rows = [
        {
            "task": f"my_{column}",
            "column": column,
            "data": data or severe_table.PAPER_DATA[column],
            "value": value,
            "constant": 0.125,
            "scored": 3,
            "of": 4,
        }
        for column in COLUMNS
    ]
    return {"scores": rows, "mean": mean}


def test_without_numbers_there_is_no_table() -> None:
    """Catches an empty table where a benchmark is switched off."""
    assert segmentation_table.table({"a": {}, "b": {"scores": []}}) is None
    assert severe_table.table({"a": {}}) is None


@pytest.mark.parametrize("kind", ["davis2017", "embedded"])
def test_segmentation_stands_beside_the_paper_where_the_data_set_is_its(kind: str) -> None:
    """Catches the paper's numbers beside another data set, and shares taken for per cent."""
    table = segmentation_table.table({"a": segmented(0.5, kind), "b": segmented(0.75, kind)})
    assert table is not None
    assert [line.values for line in table.runs] == [(50.0,), (75.0,)]
    assert [table.cells(line)[0].is_best for line in table.runs] == [False, True]
    assert table.runs[0].scored == "9 of 10"
    names = [line.name for line in table.others]
    assert names[0] == "one segment"
    assert table.others[0].values == (25.0,)
    published = {line.name.split(",")[0]: line.values[0] for line in table.others[1:]}
    expected = {"SIGMA-DINO": 30.6, "SIGMA-MLP": 30.2, "VideoMAE": 27.2}
    assert published == (expected if kind == "davis2017" else {})


def test_severe_counts_errors_the_other_way_and_names_stand_ins() -> None:
    """Catches an error shown as a percentage, the worst shown as the best, and a stand-in under
    the paper's name."""
    table = severe_table.table({"a": severe(0.25, data="mine"), "b": severe(0.5, data="mine")})
    assert table is not None
    counting = list(COLUMNS).index("ucf_rc")
    assert [table.shown(counting, line.values[counting]) for line in table.runs] == [
        "0.250",
        "0.500",
    ]
    assert table.best(counting) == 0.25
    assert table.best(0) == 50.0
    assert table.columns[0].title == "my ssv2"
    assert [line.name for line in table.others] == ["constant"]
    assert len(table.columns) == len(table.runs[0].values) == len(table.others[0].values) == 9


def test_severe_stands_beside_the_paper_with_its_data() -> None:
    """Catches paper rows that are shifted by a column."""
    table = severe_table.table({"a": severe(0.25)})
    assert table is not None
    rows = {line.name: line.values for line in table.others}
    assert rows["VideoMAE, ViT-B (paper)"] == tuple(severe_table.PAPER["VideoMAE"].values())
    assert [column.title for column in table.columns][:2] == ["SSv2", "Gym99"]
