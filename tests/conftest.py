"""Options for data that is not part of the project, and fixtures that skip by name without it."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from pipeline.configuration import code, composition

PROJECT = Path(__file__).resolve().parent.parent

# How long an example takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
SHARED = PROJECT.parent / "shared"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with files of quick tests; then, where several processes share the tests, those of the
    workflow, which take longest, so that none of these is left for the end."""
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if item.get_closest_marker("system")}
        whole = PROJECT / "tests" / "workflow"
        items.sort(
            key=lambda item: (
                item.path in long or whole in item.path.parents,
                whole not in item.path.parents,
            )
        )


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Put what hypothesis drew into the report, where workflow/attacks.py counts it."""
    if statistics := getattr(item, "hypothesis_statistics", None):
        item.user_properties.append(("hypothesis", statistics))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clips", type=Path, default=SHARED / "clips", help="folder of real videos")
    parser.addoption("--golden", type=Path, action="append", help="recorded numbers (several)")
    parser.addoption("--fuzz", type=int, default=200, help="damaged videos to try in all")
    parser.addoption("--fuzz-seed", type=int, default=0, help="of the first of them")


def _folder(request: pytest.FixtureRequest, option: str) -> Path:
    folder: Path = request.config.getoption(option)
    if not folder.is_dir():
        pytest.skip(f"{option} {folder}: no such folder (give one with {option} DIR)")
    return folder.resolve()


@pytest.fixture(scope="session")
def clips_folder(request: pytest.FixtureRequest) -> Path:
    """Real videos, good and bad, with all.csv and segments.csv."""
    return _folder(request, "--clips")


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Hydra takes half a second, and many tests compose alike; none of them changes its groups."""
    compose = composition._compose
    composed = functools.cache(lambda *overrides: compose(overrides))
    composition._compose = lambda overrides: copy.deepcopy(composed(*overrides))
    yield
    composition._compose = compose


@pytest.fixture(scope="session")
def project() -> Path:
    """The project folder."""
    return PROJECT


@pytest.fixture
def own_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[float], None]]:
    """Gives a module, by its name, a clock that stands still, and returns a function that lets
    seconds pass on it."""

    def stop_the_clock_of(module: str) -> Callable[[float], None]:
        now = [100.0]

        def pass_time(seconds: float) -> None:
            now[0] += seconds

        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: now[0]))
        return pass_time

    return stop_the_clock_of


@pytest.fixture
def edit_source(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """A function that adds a statement to a file of the sources, in a copy that the stages take."""
    copy = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / "pipeline", copy / "pipeline", ignore=ignored)

    def edit(name: str) -> None:
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write("CHANGED = 1\n")

    monkeypatch.setattr(code, "PROJECT", copy)
    code.forget()
    yield edit
    code.forget()
