"""A local file that was replaced is noticed, one that was only touched is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.data.manifest import local_files
from pipeline.runtime.files import sha256_file


@pytest.fixture
def note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files `a` and `b` that were read, `c` that was no video and `d` that was not there."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        Path(name).write_bytes(name.encode() * 9)
    noted("")
    return Path("note.json")


def noted(before: str) -> None:
    """What the download stage does at its end."""
    hashes = {name: sha256_file(name) for name in "ab"}
    seen = {name: (local_files.stamp_of(name), hashes.get(name, "")) for name in "abcd"}
    local_files.write_note(Path("note.json"), before, [("path", name) for name in "abcd"], seen)


def later(name: str, seconds: int = 5) -> None:
    """Give a file another time."""
    stamp = Path(name).stat().st_mtime_ns + seconds * 10**9
    os.utime(name, ns=(stamp, stamp))


def test_nothing_has_changed(note: Path) -> None:
    """Catches chunks that run again at every plan."""
    assert local_files.state(note) == ""
    assert local_files.state(Path("nowhere.json")) == ""


def test_a_touched_file_is_the_same_and_hashed_once(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a rerun for a time stamp, and 240,000 files that are hashed at each plan."""
    later("a")
    assert local_files.state(note) == ""
    monkeypatch.setattr(local_files, "sha256_file", lambda _: pytest.fail("hashed again"))
    assert local_files.state(note) == ""


def test_a_note_that_cannot_be_written_is_no_failure(
    note: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a plan that ends where the data set belongs to somebody else."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(local_files, "write_json", refuse)
    later("a")
    assert local_files.state(note) == ""


@pytest.mark.parametrize("name", ["a", "c", "d"])
def test_a_file_that_is_another_is_noticed(note: Path, name: str) -> None:
    """Catches results of a file that is no longer there: also of the same size, and where at first
    it was none, or no video."""
    Path(name).write_bytes(b"x" * 9)
    later(name)
    assert local_files.state(note).startswith(local_files.REPLACED)
    assert local_files.replaced(note) == [name]


def test_the_state_stays_once_the_chunk_was_made_again(note: Path) -> None:
    """Catches a chunk that runs a second time after a replaced file was taken up; and one that does
    not when the first file comes back."""
    states = [local_files.state(note)]
    for content in (b"second", b"a" * 9, b"second"):
        Path("a").write_bytes(content)
        later("a", len(states) * 5)
        planned = local_files.state(note)
        assert planned not in states
        assert local_files.state(note) == planned  # however often it is asked
        noted(planned)
        assert local_files.state(note) == planned
        states.append(planned)


def test_a_file_that_is_gone_is_not_missed(note: Path) -> None:
    """Catches clips that are lost since their raw videos were removed to make room."""
    Path("a").unlink()
    assert local_files.state(note) == ""


def test_what_is_no_plain_file_is_not_read(note: Path) -> None:
    """Catches a plan that waits for ever for a pipe in place of a video."""
    Path("a").unlink()
    os.mkfifo("a")
    assert local_files.replaced(note) == ["a"]


def test_archives_are_watched_and_addresses_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a replaced archive that nobody notices, or a look at what is on the web."""
    monkeypatch.chdir(tmp_path)
    Path("a.tar").write_bytes(b"tar")
    sources = [("path", "a.tar!/x.mp4"), ("path", "a.tar!/y.mp4"), ("url", "http://h/x.mp4")]
    local_files.write_note(Path("note.json"), "", sources, {})
    assert local_files.state(Path("note.json")) == ""
    Path("a.tar").write_bytes(b"another")
    assert local_files.replaced(Path("note.json")) == ["a.tar"]


def test_a_chunk_without_local_files_has_no_note(tmp_path: Path) -> None:
    """Catches a file for nothing beside every chunk of a data set from the web."""
    local_files.write_note(tmp_path / "note.json", "", [("url", "http://h/x.mp4")], {})
    assert not (tmp_path / "note.json").exists()
