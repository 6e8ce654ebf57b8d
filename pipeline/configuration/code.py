"""What a piece of code means: a hash that no comment, docstring or layout changes.

Results and checkpoints count as long as the code that made them means the same. A module's meaning
is its syntax tree; that of a stage is the meaning of all modules that its module imports, but for
those that decide no result.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

# What the package `pipeline` lies in: the checkout, or where packages are installed.
PROJECT = Path(__file__).resolve().parent.parent.parent

# Modules that decide no result, with all that is in them: module -> why.
WITHOUT_EFFECT = {
    "pipeline.cli.main": "starts stages",
    "pipeline.configuration": "settings and paths reach a stage by value, compared on its own",
    "pipeline.data.load.failed_clips": "counts and names clips that cannot be read",
    "pipeline.data.load.shared_videos": "where batches lie until they are copied",
    "pipeline.data.load.view_cache": "keeps pixels that would be decoded again alike",
    "pipeline.data.shards.remote": "brings bytes, which checksums hold to those written",
    "pipeline.errors": "messages",
    "pipeline.evaluation.benchmark": "declares; the module that scores decides",
    "pipeline.evaluation.registry": "declares; the module that scores decides",
    "pipeline.runtime.accelerators": "which there are, and what they say of themselves",
    "pipeline.runtime.allocation": "where memory comes from",
    "pipeline.runtime.checkpoint_sets": "sets checkpoints aside and brings them back as they are",
    "pipeline.runtime.checkpoints": "keeps states; the loop says what is in them",
    "pipeline.runtime.claims": "keeps two processes from one result",
    "pipeline.runtime.files": "writes bytes as they are given",
    "pipeline.runtime.interruption": "stops a job, which goes on later",
    "pipeline.runtime.joblog": "messages",
    "pipeline.runtime.journal": "keeps what is done, for a job that goes on",
    "pipeline.runtime.launch": "starts processes",
    "pipeline.runtime.machine": "says what this machine has",
    "pipeline.runtime.operations": "how many operations a network needs",
    "pipeline.runtime.processes": "reads which process of a run this is",
    "pipeline.runtime.progress": "messages",
    "pipeline.runtime.provenance": "says what ran; compared by nobody",
    "pipeline.runtime.store": "keeps what is done, for a job that goes on",
    "pipeline.runtime.timing": "how long a job took",
    "pipeline.runtime.watchdog": "stops a job that hangs",
    "pipeline.training.explained_errors": "messages",
    "pipeline.training.flops": "how fast a training is",
    "pipeline.training.logs": "writes numbers that the loop gives",
    "pipeline.training.messages": "messages",
    "pipeline.training.profiling": "how long operations take",
    "pipeline.training.record": "how a training went",
    "pipeline.training.tracking": "shows numbers that the loop gives",
    "pipeline.weights.video_model": "for users; no stage calls it",
}
# Nor do settings of benchmarks, which are compared by value.
SETTINGS = re.compile(r"pipeline\.evaluation\.(\w+\.)?settings")
TEMPLATES = {".html", ".css", ".js", ".j2"}


def meanings(files: Iterable[Path]) -> dict[str, str]:
    """Return the hash of the meaning of each file that has one, by its name in the project."""
    hashes = {_name(path): _meaning(path) for path in files}
    return {name: digest for name, digest in sorted(hashes.items()) if digest}


def combined(files: Mapping[str, str]) -> str:
    """Return one hash of the names and meanings of several files."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def of_modules(*modules: str) -> set[Path]:
    """Return the files of these modules and of all that they import and that has an effect."""
    return {_file(name) for module in modules for name in _closure(module)}


def templates(module: str) -> set[Path]:
    """Return the templates that lie in the folder of a module."""
    return {path for path in _file(module).parent.rglob("*") if path.suffix in TEMPLATES}


def meaning(source: str | bytes) -> str:
    """Return a hash of the syntax tree of a module, without docstrings and comments.

    The tree is spelt here rather than by `ast.dump`, which prints empty fields in some versions of
    Python and not in others. A statement that is a constant (a docstring, `...`) does nothing.
    Empty where no statement is left.
    """
    spelt: list[str] = []
    tree = ast.parse(source)
    _spell(tree, spelt)
    if spelt == ["Module", ")"]:
        return ""
    return hashlib.sha256("\n".join(spelt).encode()).hexdigest()


def _name(path: Path) -> str:
    """A file's name below what its package lies in; that of a plugin's, in the working folder."""
    root = PROJECT if path.is_relative_to(PROJECT / "pipeline") else Path.cwd()
    return path.relative_to(root).as_posix()


def _meaning(path: Path) -> str:
    # By the file's state: a long process (a test, a notebook) sees edits.
    state = path.stat()
    return _meaning_of(path, state.st_mtime_ns, state.st_size)


@functools.cache
def _meaning_of(path: Path, _time: int, _size: int) -> str:
    data = path.read_bytes()
    return meaning(data) if path.suffix == ".py" else hashlib.sha256(data).hexdigest()


def _spell(value: object, spelt: list[str]) -> None:
    if isinstance(value, list):
        for each in value:
            _spell(each, spelt)
        spelt.append("]")
    elif isinstance(value, ast.AST):
        spelt.append(type(value).__name__)
        for name in value._fields:
            part = getattr(value, name, None)
            if isinstance(value, ast.JoinedStr):
                part = list(_joined(value.values))
            elif isinstance(part, list):
                part = [each for each in part if not _does_nothing(each)]
            if part is not None and part != [] and name not in {"kind", "type_comment"}:
                spelt.append(name)
                _spell(part, spelt)
        spelt.append(")")
    else:  # ascii, since which characters repr() shows as they are depends on the version
        spelt.append(ascii(value))


def _does_nothing(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _joined(parts: Iterable[ast.expr]) -> Iterator[object]:
    """Join the literal parts of an f-string, which Python 3.12 cuts elsewhere than 3.11."""
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            yield from [text] * bool(text)
            yield part
            text = ""
    yield from [text] * bool(text)


@functools.cache
def _closure(module: str) -> frozenset[str]:
    """Return `module` and every module of the project that it imports, directly or not."""
    modules: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in modules and not has_no_effect(name):
            modules.add(name)
            waiting += _imports(name)
    return frozenset(modules)


def has_no_effect(module: str) -> bool:
    """Whether a module decides no result, whatever is in it."""
    if module == "pipeline" or SETTINGS.fullmatch(module):
        return True
    return any(f"{module}.".startswith(f"{each}.") for each in WITHOUT_EFFECT)


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the project's modules that one module imports anywhere in its text."""
    parent = module.rpartition(".")[0]
    names = [parent] if parent else []  # importing a module runs its package's __init__ first
    for node in ast.walk(ast.parse(_file(module).read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in dict.fromkeys(names) if find(name))


def _file(module: str) -> Path:
    path = find(module)
    if path is None:
        raise FileNotFoundError(f"module {module} does not exist")
    return path


@functools.cache
def find(module: str) -> Path | None:
    """Return the file of a module of this package, or of one in the project's folder, which is
    the working folder; None where the name is not a module of either."""
    first, *rest = module.split(".")
    path = (PROJECT if first == "pipeline" else Path.cwd()).joinpath(first, *rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def forget() -> None:
    """Forget what was read of the modules' files; for tests that change them."""
    for cached in (_closure, _imports, find, _meaning_of):
        cached.cache_clear()
