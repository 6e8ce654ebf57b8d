"""The notebooks run as they are committed, in a clean checkout, and show what they promise."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from ..workflow.workspace import Workspace, checkout, environment

OWN, PROTOTYPES = "your_own_videos.ipynb", "what_the_prototypes_see.ipynb"


@pytest.fixture(scope="module")
def workspace(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return checkout(project, tmp_path_factory.mktemp("notebooks") / "project")


def executed(workspace: Workspace, name: str) -> nbformat.NotebookNode:
    """Run all cells in a kernel of this Python; raises where a cell does."""
    path = workspace.folder / "examples" / name
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute(env=environment())
    return notebook


def outputs(notebook: nbformat.NotebookNode, kind: str) -> Iterator[str]:
    """Yield what the cells gave, of one kind: `text/plain`, `image/png`; `stream` is printed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and kind == "stream":
                yield output.text
            elif kind in output.get("data", {}):
                yield output.data[kind]


@pytest.mark.parametrize("name", [OWN, PROTOTYPES])
def test_no_output_is_committed(project: Path, name: str) -> None:
    """Would catch results of somebody's machine in git."""
    notebook = nbformat.read(project / "examples" / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.fixture(scope="module")
def own(workspace: Workspace) -> nbformat.NotebookNode:
    """The first notebook, executed; `workspace` then holds what it made."""
    return executed(workspace, OWN)


@pytest.mark.system
def test_your_own_videos(own: nbformat.NotebookNode, workspace: Workspace) -> None:
    """Would catch a step of the first ten minutes that does not work, or shows nothing."""
    results = workspace.folder / "results" / "own_videos"
    assert (results / "report.html").stat().st_size > 10_000
    shown = "\n".join(outputs(own, "text/plain"))
    assert "sigma_mlp" in shown
    assert "train_turning_damaged" in shown  # among the lost ones, by name
    printed = "\n".join(outputs(own, "stream"))
    assert "results/own_videos/report.html" in printed
    features = np.load(results / "runs" / "sigma_mlp" / "features.npz")
    width = features["test_features"].shape[-1]
    assert f"{len(features['test_ids'])} clips, {width} numbers each" in printed


@pytest.mark.system
def test_what_the_prototypes_see(own: nbformat.NotebookNode, workspace: Workspace) -> None:
    """Would catch a page without pictures; and that it trains a run which is not there."""
    run = workspace.folder / "results" / "own_videos" / "runs" / "sigma_mlp"
    shutil.rmtree(run)
    notebook = executed(workspace, PROTOTYPES)
    assert (run / "model.safetensors").is_file()
    (picture,) = outputs(notebook, "image/png")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("L"))
    assert pixels.std() > 20  # something is drawn
    printed = "\n".join(outputs(notebook, "stream"))
    assert printed.count("prototype ") >= 6
