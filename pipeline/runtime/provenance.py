"""What a result was made with: code version, packages, codecs, hardware. Beside every result.

Nothing here may fail a stage: outside git, without git, or on an odd machine the fields that
cannot be known are null. No host name and no path: results are shared.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent

# Those that can change a number or a byte of a result.
PACKAGES = (
    "sigma-pipeline",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "scipy",
    "transformers",
    "deepspeed",
    "triton",
    "decord",
    "torchcodec",
    "av",
    "imageio-ffmpeg",
    "pillow",
    "webdataset",
    "yt-dlp",
    "safetensors",
    "pyarrow",
    "scikit-learn",
    "pydantic",
    "hydra-core",
    "snakemake",
    "dvc",
)


def provenance() -> dict[str, Any]:
    """Return `code`, `packages`, `codecs` and `hardware` as JSON values."""
    return {
        "code": code_version(),
        "packages": packages(),
        "codecs": codecs(),
        "hardware": hardware(),
    }


@functools.cache
def code_version() -> dict[str, Any]:
    """Return the git `revision` of this code, whether it is `dirty`, and its `source_sha256`.

    `revision` and `dirty` are null where the code is not in git (an installed package, an
    unpacked archive). `dirty` looks at `pipeline/` alone: `params.yaml` differs in most
    experiments and is recorded in full anyway. `source_sha256` is over the names and bytes of
    all modules and configuration files, so it tells two dirty trees apart.
    """
    revision = dirty = None
    # TrackedRun here, and not merely inside somebody else's repository (a .venv in a checkout).
    if _git("ls-files", "--error-unmatch", "__init__.py") is not None:
        revision = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain", "--", ".")
        dirty = None if status is None else bool(status)
    return {"revision": revision, "dirty": dirty, "source_sha256": source_sha256(PACKAGE)}


def source_sha256(folder: Path) -> str:
    """Return one SHA-256 over the relative names and bytes of `folder`'s source files."""
    digest = hashlib.sha256()
    suffixes = {".py", ".yaml", ".html", ".css", ".js"}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in suffixes):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def packages() -> dict[str, str]:
    """Return the versions of Python and of the `PACKAGES` that are installed."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@functools.cache
def codecs() -> dict[str, str | None]:
    """Return the version of the ffmpeg program that clips are made with; null where there is none.

    What decodes clips in training is a package (decord, torchcodec, av) with its own libraries.
    """
    from pipeline.runtime import ffmpeg  # late: a result that needs no video needs no ffmpeg

    try:
        command = [ffmpeg.executable(), "-version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return {"ffmpeg": None}
    words = done.stdout.split()
    return {"ffmpeg": words[2] if words[:2] == ["ffmpeg", "version"] else None}


def hardware() -> dict[str, Any]:
    """Return system, processor, cores that this process may use, memory and accelerators."""
    import psutil

    from pipeline.runtime import machine

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": machine.cpu_model(),
        "cores": machine.cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerators": _accelerators(),
    }


def _accelerators() -> list[str]:
    if "torch" not in sys.modules:  # never imported for this: it takes seconds
        return []
    from pipeline.runtime import accelerators

    return accelerators.names()


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None where it cannot answer."""
    command = ["git", "--no-optional-locks", "-C", str(PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
