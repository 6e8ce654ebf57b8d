"""The configuration reference says what the schema checks."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field

from pipeline.configuration import reference
from pipeline.configuration.reference_values import in_words
from pipeline.configuration.schema import Params, Section
from pipeline.method.losses import LOSSES
from pipeline.method.masks import MASKS
from pipeline.method.targets import TARGETS


def test_the_committed_page_is_what_is_generated() -> None:
    """Would catch a key, bound, default or meaning that changed without the page."""
    text = reference.PAGE.read_text(encoding="utf-8")
    assert text == reference.page(text), "run: python -m pipeline compose --reference"


def test_every_key_of_the_schema_is_there() -> None:
    """Would catch a section that the walk misses, against pydantic's own account of the keys."""
    sections = Params.model_json_schema()["$defs"].values()
    expected = {key for section in sections for key in section.get("properties", ())}
    expected |= set(Params.model_fields)
    for kind in (*MASKS.values(), *TARGETS.values(), *LOSSES.values()):
        expected |= {field.name for field in dataclasses.fields(kind)}
    rows = [line.split("|") for line in reference.reference().splitlines() if line[:3] == "| `"]
    there = {row[1].strip(" `").rpartition(".")[2] for row in rows}
    assert expected - there == set()


def test_every_key_says_what_it_means() -> None:
    """Would catch a new key without a comment. What tells one kind from another needs none."""
    text = reference.reference().split("## Top level")[1]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    silent = [row for row in rows if row.endswith("|  |")]
    assert {row.split("|")[1].strip(" `") for row in silent} <= set(reference.TELLING)


def test_values_in_words() -> None:
    """Would catch a bound that is left out, or an open one that is called closed."""

    class Example(Section):
        share: Annotated[float, Field(ge=0, le=1)]
        ratio: float = Field(gt=0, lt=1)
        count: int | None = Field(default=None, gt=0)
        side: int = Field(ge=16, multiple_of=2)
        words: tuple[str, ...] = Field(min_length=2)
        interval: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
        choice: Literal["one", "other"]

    said = {
        name: in_words(info.annotation, info.metadata)
        for name, info in Example.model_fields.items()
    }
    assert said == {
        "share": "number from 0 to 1",
        "ratio": "number > 0, < 1",
        "count": "integer > 0 or null",
        "side": "even integer >= 16",
        "words": "2 or more texts",
        "interval": "two numbers >= 0",
        "choice": "`one`, `other`",
    }
