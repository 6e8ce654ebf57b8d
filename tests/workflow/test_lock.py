"""The locked packages."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_the_lock_holds_exact_versions_with_hashes_and_no_host(project: Path) -> None:
    """Catches a dependency that was added without `make lock`, and a lock of one machine."""
    text = _text(project)
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


PLATFORMS = {
    "x86_64-unknown-linux-gnu": ("linux", "x86_64"),
    "aarch64-unknown-linux-gnu": ("linux", "aarch64"),
    "aarch64-apple-darwin": ("darwin", "arm64"),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SOURCES = {  # that have no wheel, and why a source archive serves
    "antlr4-python3-runtime": "pure Python",
    "connection-pool": "pure Python",
    "deepspeed": "pure Python; its kernels are compiled when they are used",
    "immutables": "has wheels up to Python 3.13; then its extension is compiled",
}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_lock_serves_each_platform(project: Path, platform: str, python: str) -> None:
    """Catches a lock of one platform, and a library that has no wheels there asked for."""
    locked = _locked_for(project, platform, python)
    package = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment = _environment(platform, python)
    for requirement in _declared(package, []):
        name = canonicalize_name(requirement.name)
        needed = requirement.marker is None or requirement.marker.evaluate(environment)
        assert needed <= (name in locked), name
    is_usual = platform == "x86_64-unknown-linux-gnu"
    assert ("decord" in locked) == is_usual
    assert {"torchcodec", "av"} <= locked.keys()
    assert any(name.startswith("nvidia-") for name in locked) == ("linux" in platform)


@pytest.mark.system
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_locked_package_has_a_wheel(
    project: Path, tmp_path: Path, platform: str, python: str
) -> None:
    """Catches a package that a platform, or a new Python, would have to compile."""
    locked = _locked_for(project, platform, python)
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml"]
    command += ["--extra", "test", "--extra", "setup", "--constraint", "requirements.lock"]
    version = _environment(platform, python)["python_full_version"]
    command += ["--python-platform", platform, "--python-version", version]
    command += ["--no-annotate", "--no-header", "--quiet", "--color", "never"]
    command += [f"--only-binary={name}" for name in locked.keys() - SOURCES.keys()]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # PyTorch's oldest
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
        pytest.skip("needs the index of packages")
    assert done.returncode == 0, done.stderr
    resolved = dict(re.findall(r"(?m)^([\w.-]+)==([^ +\n]+)", done.stdout))
    assert resolved == {name: locked[name] for name in resolved}
    assert locked.keys() - resolved.keys() <= {"sigma-pipeline"}


def _locked_for(project: Path, platform: str, python: str) -> dict[str, str]:
    """Versions of the locked packages that a platform and a Python get, by name."""
    environment = _environment(platform, python)
    lines = re.findall(r"(?m)^([\w.-]+)==([^ ;]+)(?: ; ([^\\\n]*))?", _text(project))
    kept = [
        (canonicalize_name(name), version)
        for name, version, marker in lines
        if not marker or Marker(marker.strip()).evaluate(environment)
    ]
    versions = dict(kept)
    assert len(versions) == len(kept), "two versions of one package"
    return versions


def _environment(platform: str, python: str) -> dict[str, str]:
    system, machine = PLATFORMS[platform]
    full = f"{python}.9"
    return {
        "sys_platform": system,
        "platform_system": system.capitalize(),
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": full,
        "implementation_version": full,
        "os_name": "posix",
    }


def _text(project: Path) -> str:
    return (project / "requirements.lock").read_text(encoding="utf-8")


def test_nothing_is_fetched_without_a_hash(project: Path) -> None:
    """Catches a source archive whose build fetches a setuptools that nobody has locked."""
    text = (project / "workflow" / "install.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    assert "/^(uv|setuptools)==/" in text
    text = text.replace("$locked", "".join(re.findall(r'locked="(.*)"', text)))
    installs = [part for part in re.split(r"\n|\|\|", text) if "pip install " in part]
    assert len(installs) >= 2
    for command in installs:
        if "--torch-backend" in command:  # asked for by TORCH=cpu
            continue
        assert "--require-hashes" in command
        assert "first.lock" in command or "--no-build-isolation" in command
    for file in ("Makefile", "workflow/containers/install.sh"):
        assert "pip install" not in (project / file).read_text(encoding="utf-8")


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
        "workflow",
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
