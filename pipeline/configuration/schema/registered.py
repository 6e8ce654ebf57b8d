"""Settings that are one of several registered kinds, told by their key `kind`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter

from pipeline.method.registry import Registry


@dataclass(frozen=True)
class OneOf:
    """The check of a value: an object of a registered class, from a mapping of its fields.

    Unknown keys, values of other types and values outside their bounds are errors.
    """

    registry: Registry

    def __call__(self, value: object) -> Any:
        if type(value) in self.registry.values():
            return value
        if not isinstance(value, Mapping):
            raise ValueError("it has to be a section with a key 'kind'")
        kind = value.get("kind")
        if kind not in self.registry:
            raise ValueError(f"kind {kind!r} is unknown; known are {', '.join(self.registry)}")
        return adapter(self.registry[kind]).validate_python(dict(value))

    def with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a class of before with those that it has got since."""
        fields = dataclasses.fields(self.registry[values["kind"]])
        given = {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}
        return given | dict(values)


def adapter(settings: type[Any]) -> TypeAdapter[Any]:
    """Return pydantic's view of a dataclass, closed to unknown keys."""
    if not dataclasses.is_dataclass(settings):
        raise TypeError(f"{settings.__name__} has to be a dataclass")
    _close(settings)
    return TypeAdapter(settings)


def _close(settings: type[Any]) -> None:
    """Close a dataclass to unknown keys, and those that its fields hold."""
    settings.__pydantic_config__ = ConfigDict(extra="forbid")
    for annotation in get_type_hints(settings).values():
        for each in (annotation, *get_args(annotation)):
            if isinstance(each, type) and dataclasses.is_dataclass(each):
                _close(each)
