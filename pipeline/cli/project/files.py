"""The files of a project beside its settings: what Snakemake and DVC need to run the chain.

They lie at the root of the repository. setup.py runs this file and copies them into the package,
where a checkout has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

COPIES = Path("pipeline") / "cli" / "project" / "copies"  # in an installed package
FILES = (
    *("Snakefile", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"),
    *("workflow/free_lock.py", "workflow/meaning.py", "workflow/mirror.py"),
    *("workflow/envs", "workflow/hydra_plugins/project_folder.py", "workflow/profiles"),
    *("workflow/report", "workflow/rules"),
    "conf/README.md",
    "pipeline/conf/data/synthetic.yaml",  # what Snakemake and DVC take for the list of made videos
)


def names(root: Path) -> Iterator[str]:
    """Yield the names, below `root`, of all files that a project needs."""
    for name in FILES:
        path = root / name
        inner = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file.relative_to(root).as_posix() for file in inner if file.is_file())


def root() -> Path:
    """Return the folder that has the files: in the installed package, or the checkout's."""
    around = Path(__file__).resolve().parents[3]
    copies = around / COPIES
    return copies if copies.is_dir() else around
