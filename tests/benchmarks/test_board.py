"""The picture of the board."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import board

SVG = "{http://www.w3.org/2000/svg}"


def words(picture: Path) -> str:
    """The text of a picture, a line for each of its lines."""
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - our own
    texts = ["".join(each.itertext()) for each in root.iter(f"{SVG}text")]
    return "\n".join(texts).replace("\xa0", " ")


def test_the_page_has_a_picture_of_a_training(project: Path) -> None:
    """Catches a picture without what the page says of it, and one that wants a font from elsewhere;
    GitHub and the site show neither."""
    shown = words(board.PICTURE)
    for word in ("pretrain", "sigma_mlp", "clips/s", "left", "loss", "k-NN"):
        assert word in shown
    text = board.PICTURE.read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    page = (project / "docs" / "getting-started.md").read_text(encoding="utf-8")
    assert "](pictures/board.svg)" in page


@pytest.mark.system
def test_it_is_drawn_of_a_run(tmp_path: Path) -> None:
    """Catches boards that are not told apart, so that one is drawn from before the moment; and a
    workflow that trains on after its picture was taken.

    The moment is one that stays: both parts may be decoded between two boards.
    """
    picture = tmp_path / "board.svg"
    chosen = ("experiment=tiny", "--moment", "decode +[12]/2")
    assert board.main([*chosen, "-o", str(picture)]) == 0
    lines = words(picture).splitlines()
    assert sum(line.startswith("decode") for line in lines) == 1
    assert not any("interrupted" in line for line in lines)
