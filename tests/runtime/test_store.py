"""Pieces of work are kept whole, under their key, by any number of writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.runtime.store import Store


def filled(folder: Path, names: str, writer: int = 0) -> Store:
    store = Store(folder, {"weights": "w"}, "float16", writer)
    with store.writing():
        for name in names:
            store.add(name, np.full((2, 3), ord(name), np.float64), note=name)
    return store


def test_pieces_of_several_writers_are_read_together(tmp_path: Path) -> None:
    """Catches pieces that one writer's files hide, arrays of another piece, and a type that is not
    the store's."""
    filled(tmp_path / "store", "ab")
    filled(tmp_path / "store", "cd", writer=7)
    store = filled(tmp_path / "store", "e")
    store.get("e")
    for name in "abcde":
        assert store.get(name)["note"] == name
        assert (store.values(name) == ord(name)).all()
        assert (store.values(name).shape, store.values(name).dtype) == ((2, 3), np.float16)
    assert store.get("f") == {}
    with pytest.raises(KeyError):
        store.values("f")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_piece_counts_as_absent(tmp_path: Path, damage: str) -> None:
    """Catches an array that is believed after a power cut, and good ones lost with it; and one that
    is hidden by its damaged predecessor when it was made again."""
    filled(tmp_path / "store", "abc")
    path = tmp_path / "store" / "0.bin"
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[-1] ^= 64
        path.write_bytes(content[:-1] if damage == "cut" else content)
    store = Store(tmp_path / "store", {"weights": "w"}, "float16")
    assert not store.is_new
    assert store.get("c") == {}
    assert bool(store.get("a")) == (damage != "gone")
    again = filled(tmp_path / "store", "c", writer=1)
    store = Store(again.folder, again.key, "float16")
    assert store.get("c")["note"] == "c"
    assert (store.values("c") == ord("c")).all()


@pytest.mark.parametrize(("key", "dtype"), [({"weights": "x"}, "float16"), ({}, "float32")])
def test_another_key_begins_anew(tmp_path: Path, key: dict[str, str], dtype: str) -> None:
    """Catches what another checkpoint gave being taken up, or left on the disk."""
    filled(tmp_path / "store", "a")
    (tmp_path / "store" / "more").mkdir()
    store = Store(tmp_path / "store", key, dtype)
    assert store.is_new
    assert store.get("a") == {}
    assert [path.name for path in store.folder.iterdir()] == ["key.json"]
    store.remove()
    assert not store.folder.exists()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(0, 3), (), (2, 3, 4)])
def test_an_array_of_any_shape_comes_back(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    """Catches an empty array that cannot be read, and one that loses its shape or its type."""
    values = np.full(shape, 1.5, dtype)
    store = Store(tmp_path / "store", {"of": "this"}, dtype)
    with store.writing():
        store.add("a", values)
    again = Store(tmp_path / "store", {"of": "this"}, dtype)
    assert again.get("a")
    assert again.values("a").dtype == dtype
    assert np.array_equal(again.values("a"), values)
