"""What a value may be, in words, from the JSON schema that pydantic makes of its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import TypeAdapter

NAME = "^[A-Za-z0-9]["  # what patterns of names begin with


def in_words(annotation: Any, metadata: Any = ()) -> str:
    """Say in words what a value may be."""
    value: Any = Annotated[(annotation, *metadata)] if metadata else annotation
    return _allowed(TypeAdapter(value).json_schema())


def _allowed(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema allows."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_allowed, schema["anyOf"])))
    kind = schema.get("type", "section")
    if kind == "array" and "prefixItems" in schema:
        items = schema["prefixItems"]  # all are of one kind
        return f"{ {2: 'two', 3: 'three'}[len(items)] } {_plural(_allowed(items[0]))}"
    if kind == "array":
        least = schema.get("minItems")
        return (f"{least} or more " if least else "list of ") + _plural(_allowed(schema["items"]))
    if kind == "object" and "patternProperties" in schema:
        (values,) = schema["patternProperties"].values()
        return f"mapping of name to {_allowed(values)}"
    if kind == "object" and "properties" not in schema:
        values = schema["additionalProperties"]  # True: any
        return f"mapping of text to {'any value' if values is True else _allowed(values)}"
    if kind in ("integer", "number"):
        return _bounded(schema)
    text = "name" if schema.get("pattern", "").startswith(NAME) else "text"
    return {"boolean": "true, false", "string": text, "null": "null"}.get(kind, "section")


def _plural(kind: str) -> str:
    word, space, rest = kind.partition(" ")
    has_plural = word in ("integer", "number", "name", "section", "text")
    return f"{word}s{space}{rest}" if has_plural else kind


def _bounded(schema: Mapping[str, Any]) -> str:
    word = "even integer" if schema.get("multipleOf") == 2 else schema["type"]
    if "minimum" in schema and "maximum" in schema:
        return f"{word} from {schema['minimum']:g} to {schema['maximum']:g}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f"{word} {', '.join(bounds)}".strip()
