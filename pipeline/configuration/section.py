"""The base of every section, and the kinds of values that several sections hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes a folder name
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]  # a dot parts DVC's keys
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]  # neither none nor all
PositiveShare = Annotated[float, Field(gt=0, le=1)]  # some, or all


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError("the first bound is greater than the second")
    return interval


NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Interval = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveInterval = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
ShareInterval = Annotated[tuple[PositiveShare, PositiveShare], AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of the configuration: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Keys that are not written where they have their default. What was made before there were such
    # keys has the same settings today, and stays.
    added_later: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def without_unused(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings, by their keys, without those of `added_later` that are not made use of.

        Such defaults are written as they are: a number, a text, nothing.
        """
        unused = {
            key: cls.model_fields[key].get_default(call_default_factory=True)
            for key in cls.added_later
        }
        return {k: v for k, v in values.items() if k not in unused or v != unused[k]}

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_unused(handler(self))
