"""Nearest neighbours, their table and their page."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main as cli
from pipeline.errors import UserError
from pipeline.use.embedding import features_file, neighbours, page
from pipeline.use.embedding.features_file import About, Features
from pipeline.weights import hub


def made(vectors: np.ndarray, ids: list[str]) -> Features:
    columns = features_file.empty_columns()
    for name in ids:
        texts = (f"nowhere/{name}", "", "", "")
        features_file.add_row(columns, (name, 0, 0.0, 1.0, None, None, *texts))
    about = About({"kind": "test", "path": "", "sha256": "0"}, {}, vectors.shape[1:])
    return Features(about, columns, vectors.astype(np.float32))


def test_neighbours_are_those_of_brute_force() -> None:
    """Against scikit-learn's; a video is no neighbour of its own, and is found but once."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30, 5))
    features = made(vectors, [f"v{k // 2}" for k in range(30)])
    query = neighbours.by_id(features, "v3")
    hits = neighbours.nearest(features, query, 6)
    asked = vectors[6:8].astype(np.float32).mean(0, keepdims=True)
    oracle = NearestNeighbors(metric="cosine").fit(vectors.astype(np.float32))
    distances, places = oracle.kneighbors(asked, 30)
    expected: dict[str, float] = {}
    for distance, place in zip(distances[0], places[0], strict=True):
        if (name := f"v{place // 2}") != "v3":
            expected.setdefault(name, 1 - distance)
    assert [hit.moment.id for hit in hits] == list(expected)[:6]
    np.testing.assert_allclose([h.similarity for h in hits], list(expected.values())[:6], atol=1e-6)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]


def test_unknown_ids_and_foreign_checkpoints_are_refused(checkpoint: Path, videos: Path) -> None:
    """Catches a comparison of features of different models."""
    features = made(np.ones((2, 3)), ["a", "b"])
    with pytest.raises(UserError, match="no video 'c'"):
        neighbours.by_id(features, "c")
    with pytest.raises(UserError, match="another checkpoint"):
        neighbours.by_video(features, videos / "a.mp4", hub.load(checkpoint))


def test_text_from_files_stays_text() -> None:
    """Catches a file name that becomes a script of the page."""
    features = made(np.eye(2), ["<script>alert(1)</script>", "b"])
    html = page.render(
        features, query := neighbours.by_id(features, "b"), neighbours.nearest(features, query, 3)
    )
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "not there any more" in html


def test_the_commands(
    checkpoint: Path,
    videos: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From videos to a page by the command line: a copy under another name is the nearest, its
    frames are on the page, and the exit status tells of the share that is lost."""
    monkeypatch.chdir(videos.parent)
    (videos / "copy.mp4").write_bytes((videos / "b.mp4").read_bytes())
    arguments = ["embed", str(checkpoint), "videos", "--workers", "0", "-o", "f.parquet"]
    assert cli.main(arguments) == 3
    said = capsys.readouterr()
    assert "lost: page.mp4 (not_a_video): a web page" in said.err
    assert "4 of 5 videos (4 ok, 1 not_a_video)" in said.out.replace("\n", " ")
    assert cli.main([*arguments, "--max-lost-share", "0.2"]) == 0
    asked = ["neighbours", "f.parquet", "--html", "n.html", "-k", "2", "--query"]
    for query in ("b.mp4", "videos/b.mp4"):
        capsys.readouterr()
        assert cli.main([*asked, query]) == 0
        table = capsys.readouterr().out.splitlines()
        nearest = [line.split()[2] for line in table if re.match(r" +\d+  ", line)]
        first = "copy.mp4" if query == "b.mp4" else "b.mp4"  # an equal one, earlier in the file
        assert nearest[0] == first
        assert float(table[1].split()[1]) == pytest.approx(1, abs=1e-4)
    html = Path("n.html").read_text(encoding="utf-8")
    pictures = re.findall(
        r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)" width="(\d+)"', html
    )
    assert len(pictures) == 3
    for content, alt, width in pictures:
        assert alt.startswith("8 frames of ")
        assert Image.open(io.BytesIO(base64.b64decode(content))).width == int(width)
    assert "http" not in html
    assert cli.main(["neighbours", "f.parquet", "--query", "videos/page.mp4"]) == 2
    assert cli.main(["neighbours", "videos/a.mp4", "--query", "a"]) == 2
