"""Rooms import from those below them alone (docs/architecture.md); functions are small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

# From the lowest up. Those of one line may not import each other.
ROOMS = (
    ("pipeline.errors",),
    ("pipeline.runtime.files",),
    ("pipeline.method",),
    ("pipeline.weights.formats", "pipeline.weights.checkpoint_files"),
    ("pipeline.weights.processor",),
    ("pipeline.weights.networks",),
    ("pipeline.weights.timm_network", "pipeline.weights.vjepa2_attention"),
    ("pipeline.weights.network_encoder",),
    ("pipeline.configuration",),
    ("pipeline.runtime",),
    ("pipeline.data.records",),
    ("pipeline.data.synthetic",),
    ("pipeline.data.manifest",),
    ("pipeline.data.decode",),
    ("pipeline.data.fetch",),
    ("pipeline.data.shards",),
    ("pipeline.data.load",),
    ("pipeline.weights",),
    ("pipeline.training", "pipeline.evaluation"),
    ("pipeline.use", "pipeline.report"),
    ("pipeline.planning",),
    ("pipeline.cli",),
    ("pipeline.__main__",),
)
# What a benchmark declares is read with the configuration, and is of its room.
DECLARED = ("benchmark", "registry", "settings")
MOST_LINES = 50  # of a function
MOST_PARAMETERS = 7  # of a function, `self` not counted: where more go together they are an object
# Beside the standard library.
METHOD = {"torch", "torchvision", "numpy", "annotated_types", "timm", "safetensors", "triton"}


def height(module: str) -> tuple[int, str]:
    """The place of the room that a module is in: that of the longest name."""
    parts = module.split(".")
    if parts[:2] == ["pipeline", "evaluation"] and {*DECLARED} & {*parts[2:4]}:
        module = "pipeline.configuration"
    found = [
        (len(room), number, room)
        for number, rooms in enumerate(ROOMS)
        for room in rooms
        if f"{module}.".startswith(f"{room}.")
    ]
    assert found, f"{module} is in no room"
    _, number, room = max(found)
    return number, room


def imports(project: Path) -> Iterator[tuple[str, str]]:
    """Each module, and a module or name that it imports, anywhere in its text."""
    for path in sorted((project / "pipeline").rglob("*.py")):
        module = ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield from ((module, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_picture_shows_the_rooms_in_their_order(project: Path) -> None:
    """Catches a room that docs/architecture.md lacks, or shows above one that imports it."""
    svg = ElementTree.parse(project / "docs" / "pictures" / "rooms.svg")  # noqa: S314 - our own
    texts = [each for each in svg.iter() if each.get("class") == "room"]
    shown = sorted((-float(each.get("y", "")), each.text or "") for each in texts)  # from below
    folders = [path.parent.name for path in (project / "pipeline").glob("[!_]*/__init__.py")]
    assert sorted(name for _, name in shown) == sorted({*folders, "errors"} - {"conf"})
    heights = [
        max(n for n, rooms in enumerate(ROOMS) if f"pipeline.{name}." in f"{'. '.join(rooms)}.")
        for _, name in shown
    ]
    assert heights == sorted(heights)


def test_imports_point_down(project: Path) -> None:
    """Catches a circle of rooms, and a layer that knows what is built upon it."""
    wrong = []
    for module, imported in imports(project):
        if not imported.startswith("pipeline.") or module == "pipeline":
            continue
        (own, room), (other, theirs) = height(module), height(imported)
        if other > own or (other == own and room != theirs):
            wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_the_method_stands_alone(project: Path) -> None:
    """Catches a method that needs data, training or the configuration to be understood."""
    import sys

    beyond = {
        f"{module} imports {imported}"
        for module, imported in imports(project)
        if module.startswith("pipeline.method")
        and not imported.startswith(("pipeline.method", "pipeline.errors"))
        and imported.split(".")[0] not in METHOD | sys.stdlib_module_names
    }
    assert beyond == set()


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many parameters a function has, keyword-only ones too."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_functions_are_small(project: Path) -> None:
    """Catches a function that nobody sees as a whole, and a missing object for ten parameters."""
    wrong = []
    for path in sorted((project / "pipeline").rglob("*.py")):
        if path.name == "kernels.py":  # Triton's take pointers, sizes and constants, no objects
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES or parameters(node) > MOST_PARAMETERS:
                    name = f"{path.relative_to(project)}: {node.name}"
                    wrong.append(f"{name}: {lines} lines, {parameters(node)} parameters")
    assert wrong == []


@pytest.mark.parametrize("module", ["pipeline.training.loop", "pipeline.data.fetch.web"])
def test_every_module_has_a_room(module: str) -> None:
    """Catches a table of rooms that names none."""
    assert height(module)[1] in {"pipeline.training", "pipeline.data.fetch"}
