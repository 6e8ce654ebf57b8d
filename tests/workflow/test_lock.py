"""The locked packages."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_the_lock_holds_exact_versions_with_hashes_and_no_host(project: Path) -> None:
    """Catches a dependency that was added without `make lock`, and a lock of one machine."""
    text = (project / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ ", text)
    locked: dict[str, list[str]] = defaultdict(list)  # several where Pythons differ
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]:
        requirement = Requirement(block.split("\\")[0].strip())
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), requirement.name
        locked[canonicalize_name(requirement.name)].append(pin.version)

    package = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for wanted in _declared(package, package["optional-dependencies"]):
        versions = locked[canonicalize_name(wanted.name)]
        assert versions, f"{wanted.name} is not locked: make lock"
        assert all(wanted.specifier.contains(version) for version in versions), wanted


@pytest.mark.parametrize("file", ["Makefile", "workflow/containers/install.sh"])
def test_nothing_is_fetched_without_a_hash(project: Path, file: str) -> None:
    """Catches a source archive whose build fetches a setuptools that nobody has locked."""
    text = (project / file).read_text(encoding="utf-8").replace("\\\n", " ")
    assert "/^(uv|setuptools)==/" in text
    text = text.replace("$(LOCKED)", "".join(re.findall(r"LOCKED := (.*)", text)))
    installs = [part for part in re.split(r"\n|\|\|", text) if "pip install " in part]
    assert len(installs) >= 2
    for command in installs:
        assert "--require-hashes" in command
        assert "first.lock" in command or "--no-build-isolation" in command


def test_containers_begin_with_one_base(project: Path) -> None:
    """Catches a base image that changes under its tag, and two recipes that differ in it."""
    recipes = [
        project / "workflow" / "containers" / name for name in ("Dockerfile", "pipeline.def")
    ]
    bases = re.findall(
        r"(?m)^(?:ARG BASE=|From: )(.*)$", "".join(recipe.read_text() for recipe in recipes)
    )
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"debian:12[.\w-]*@sha256:[0-9a-f]{64}", bases[0])


@pytest.mark.parametrize("folders", [("pipeline", "workflow"), ("tests", "benchmarks")])
def test_what_is_imported_is_declared(project: Path, folders: tuple[str, ...]) -> None:
    """Catches a package that is there only because another one happens to need it."""
    package = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(package["optional-dependencies"]) - {"setup"}
    if "pipeline" in folders:
        extras -= {"test"}
    declared = {canonicalize_name(each.name) for each in _declared(package, extras)}
    distributions = packages_distributions()
    own = {
        "pipeline",
        "benchmarks",
        "tests",
        *(path.stem for name in ("workflow", "examples") for path in project.glob(f"{name}/*.py")),
    }
    found = {
        name
        for folder in folders
        for path in (project / folder).rglob("*.py")
        for name in _imported(path)
    } - own
    found -= {"triton"}  # torch brings the one that it compiles with, where it can compile
    assert {"torch"} <= found
    undeclared = {
        name
        for name in found - sys.stdlib_module_names
        if not declared & {canonicalize_name(each) for each in distributions.get(name, [name])}
    }
    assert undeclared == set()


def _declared(package: dict[str, Any], extras: Iterable[str]) -> list[Requirement]:
    """What the package needs, and what its extras add; an extra may name others of the package."""
    lines = [line for extra in extras for line in package["optional-dependencies"][extra]]
    requirements = [Requirement(line) for line in package["dependencies"] + lines]
    return [each for each in requirements if each.name != package["name"]]


def _imported(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports from elsewhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
