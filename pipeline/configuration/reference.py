"""The reference of every key of params.yaml, as Markdown, from the schema itself.

Bounds, choices and defaults are those that pydantic checks; a key's meaning is the comment beside
it, or above it, in `pipeline/configuration/schema`; a section's is its class's docstring. So a key
cannot change without its line in docs/configuration.md, which a test compares with this.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import io
import itertools
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, is_dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import PlainValidator
from pydantic.fields import FieldInfo

from pipeline.configuration.composition import CONF, choices
from pipeline.configuration.reference_values import in_words
from pipeline.configuration.schema import Params, Section
from pipeline.configuration.schema.registered import OneOf
from pipeline.evaluation.registry import BENCHMARKS

PAGE = CONF.parent.parent / "docs" / "configuration.md"
MARK = "<!-- From here on written by `python -m pipeline compose --reference`. -->"
TELLING = ("kind", "solver")  # keys that tell which of several sections a value is
INLINE = 3  # a section of so few keys has no table of its own
Table = tuple[str, str, list[str]]  # heading, introduction, rows


def page(text: str) -> str:
    """Return the page with everything after MARK written anew."""
    return renewed(text, MARK, reference)


def renewed(text: str, mark: str, written: Callable[[], str]) -> str:
    """Return a page with everything after the line `mark` replaced by what `written` returns."""
    head, marker, _ = text.partition(mark)
    if not marker:
        raise ValueError(f"the page has no line {mark}")
    return f"{head}{mark}\n\n{written()}"


def reference() -> str:
    """Return the tables of all sections, in the order of the schema."""
    writer = _Writer()
    writer.section("", Params)
    for benchmark in BENCHMARKS.values():
        if benchmark.section not in Params.model_fields:
            writer.section(benchmark.section, benchmark.settings)
    tables = []
    for heading, introduction, rows in writer.tables:
        level = "##" if "." not in heading else "###"
        title = f"{level} `{heading}" if heading != "`" else "## Top level"
        head = "| key | value | default | meaning |\n|---|---|---|---|"
        parts = [title, *([introduction] if introduction else []), "\n".join([head, *rows])]
        tables.append("\n\n".join(parts))
    return "\n\n".join([_groups(), *tables]) + "\n"


def _groups() -> str:
    """Return the table of the groups' choices, each with the comment at the top of its file."""
    rows = ["## Groups", "", "| group | choice | what |", "|---|---|---|"]
    for group, names in choices().items():
        for name in (name for name in names if name != "base"):
            lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
            top = itertools.takewhile(lambda line: line.startswith("#"), lines)
            comment = " ".join(line.lstrip("# ") for line in top if "@package" not in line)
            rows.append(f"| `{group}` | `{name}` | {_linked(comment)} |")
    return "\n".join(rows)


@dataclass
class _Writer:
    """Walks the schema; `known` says where a section that occurs again was described."""

    tables: list[Table] = field(default_factory=list)
    known: dict[type[Any], str] = field(default_factory=dict)

    def section(self, path: str, section: type[Any], variant: str = "") -> None:
        """Add the table of a section, then those of the sections in it that are large enough."""
        heading = f"{path}` with {variant}" if variant else f"{path}`"
        rows: list[str] = []
        place = len(self.tables)
        self.known[section] = path
        own, parent = fields(section), self._parent(section)
        if parent is not None:
            own = {name: own[name] for name in own if name not in fields(parent)}
        self.tables.append((heading, "", rows))
        for name, info in own.items():
            rows += self._rows(path, "", name, info, section)
        about = [_sentence(section)] if path else []
        if parent is not None:
            about.append(f"Has the keys of `{self.known[parent]}` as well.")
        self.tables[place] = (heading, _linked(" ".join(filter(None, about))), rows)

    def _parent(self, section: type[Any]) -> type[Any] | None:
        base = section.__mro__[1]
        return base if base in self.known and base is not Section else None

    def _rows(
        self, path: str, prefix: str, name: str, info: FieldInfo, owner: type[Any]
    ) -> Iterator[str]:
        """Yield the row of a key, and those of the keys below it where they are few."""
        key = f"{prefix}{name}"
        where = f"{path}.{key}".lstrip(".")
        parts = _sections(info.annotation, info.metadata)
        known = [part for part in parts if part in self.known]
        new = [part for part in parts if part not in self.known]
        is_inline = len(parts) == 1 and bool(new) and _is_small(parts[0])
        notes = [_remark(owner, name)]
        notes += [f"keys as in `{self.known[known[0]]}`"] if known else []
        notes += ["keys below"] if new and not is_inline else []
        kind, default = in_words(info.annotation, info.metadata), _default(where, info, owner)
        yield _row(key, kind, default, "; ".join(filter(None, notes)))
        if kind.startswith("mapping"):
            where += ".NAME"
        for part in new:
            if is_inline:
                self.known[part] = where
                for below, each in fields(part).items():
                    yield from self._rows(path, f"{key}.", below, each, part)
            else:
                self.section(where, part, _variant(part) if len(parts) > 1 else "")


def _row(*cells: str) -> str:
    key, *rest = (cell.replace("|", "\\|") for cell in cells)
    return "| " + " | ".join([f"`{key}`", *rest]) + " |"


def _linked(text: str) -> str:
    """Make links of the pages that a comment names."""
    return re.sub(r"docs/([a-z-]+(?:/[a-z-]+)?\.md)", r"[\1](\1)", text)


def _sentence(section: type[Any]) -> str:
    written = inspect.cleandoc(vars(section).get("__doc__") or "")
    if is_dataclass(section):  # the rest is for who reads the code
        written = written.partition("\n\n")[0]
    return " ".join(written.split())


def _variant(section: type[Any]) -> str:
    """Return how a section of a choice is told: `kind: mlp`."""
    name = next(name for name in TELLING if name in fields(section))
    values = get_args(fields(section)[name].annotation)
    return " or ".join(f"`{name}: {value}`" for value in values)


def fields(section: type[Any]) -> dict[str, FieldInfo]:
    """Return the keys of a section, or of a registered kind, with what may stand there."""
    if not is_dataclass(section):
        return dict(section.model_fields)
    hints = get_type_hints(section, include_extras=True)
    return {
        each.name: FieldInfo.from_annotation(hints[each.name])
        if each.default is MISSING
        else FieldInfo.from_annotated_attribute(hints[each.name], each.default)
        for each in dataclass_fields(section)
    }


def _registered(metadata: Any) -> list[type[Any]]:
    """Return the classes of the registry that a value is one of."""
    return [
        kind
        for each in metadata
        if isinstance(each, PlainValidator) and isinstance(each.func, OneOf)
        for kind in each.func.registry.values()
    ]


def _sections(annotation: Any, metadata: Any = ()) -> list[type[Any]]:
    """Return the sections that a value may be or hold."""
    if found := _registered(metadata):
        return found
    if _is_section(annotation):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _sections(inner)]


def _is_section(annotation: Any) -> bool:
    """Whether it is a section, or a dataclass that a registered kind holds."""
    return isinstance(annotation, type) and (
        issubclass(annotation, Section) or is_dataclass(annotation)
    )


def _is_small(section: type[Any]) -> bool:
    """Whether its keys are so few, and so plain, that they need no table of their own."""
    keys = fields(section)
    return len(keys) <= INLINE and not any(_sections(f.annotation) for f in keys.values())


def _default(key: str, info: FieldInfo, owner: type[Any]) -> str:
    """Return what a key is where nothing is said: in its group's file, else in the schema."""
    group, _, rest = key.partition(".")
    values: Any = _values(f"{group}/base")
    section, _, name = key.rpartition(".")
    if is_dataclass(owner) and (CONF / section.replace(".", "/")).is_dir():
        kind = next(each.default for each in dataclass_fields(owner) if each.name == "kind")
        values, rest = _values(f"{section.replace('.', '/')}/{kind}"), name
    for part in rest.split("."):
        values = values[part] if isinstance(values, Mapping) and part in values else None
    if values is not None and values != "???" and not isinstance(values, Mapping):
        return f"`{_yaml(values)}`"
    if info.is_required() or isinstance(info.default, Section):
        return ""
    default = info.get_default(call_default_factory=True, validated_data={})
    return f"`{_yaml(list(default) if isinstance(default, tuple) else default)}`"


@functools.cache
def _values(choice: str) -> Any:
    path = CONF / f"{choice}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    )


def _remark(owner: type[Any], name: str) -> str:
    """Return the comment of a key, from the class that declares it."""
    for cls in owner.__mro__:
        if name in vars(cls).get("__annotations__", {}):
            return _linked(_remarks(cls.__module__).get((cls.__name__, name), ""))
    return ""


@functools.cache
def _remarks(module: str) -> dict[tuple[str, str], str]:
    """Return the comments of all keys of a module's classes: above a key, then beside it."""
    path = Path(str(importlib.import_module(module).__file__))
    text = path.read_text(encoding="utf-8")
    comments = {
        token.start[0]: (
            token.string.lstrip("# ").strip(),
            not token.line[: token.start[1]].strip(),
        )
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and "noqa" not in token.string
    }
    remarks = {}
    for cls in (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)):
        for node in cls.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                remarks[cls.name, node.target.id] = " ".join(_of_lines(comments, node))
    return remarks


def _of_lines(comments: Mapping[int, tuple[str, bool]], node: ast.AnnAssign) -> list[str]:
    first = node.lineno
    while comments.get(first - 1, ("", False))[1]:
        first -= 1
    lines = range(first, (node.end_lineno or node.lineno) + 1)
    return [comments[line][0] for line in lines if line in comments]
