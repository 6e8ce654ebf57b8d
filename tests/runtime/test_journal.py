"""A job that is killed at any moment goes on where it was."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runtime.journal import Journal

entries = st.lists(
    st.tuples(st.text(max_size=5), st.dictionaries(st.sampled_from("abc"), st.text(max_size=5))),
    max_size=6,
)


@settings(max_examples=60)
@given(before=entries, after=entries, data=st.data())
def test_a_journal_cut_anywhere_loses_the_cut_line_only(
    before: list[tuple[str, dict[str, str]]],
    after: list[tuple[str, dict[str, str]]],
    data: st.DataObject,
    tmp_path_factory: object,
) -> None:
    """Would catch a journal that cannot be read, or glues new lines to half an old one."""
    path = tmp_path_factory.getbasetemp() / "journal.jsonl"  # type: ignore[attr-defined]
    path.unlink(missing_ok=True)
    ends, size = [], 0
    with Journal(path) as journal:
        for key, entry in before:
            journal.add(key, **entry)
            ends.append(size := path.stat().st_size)
    cut = data.draw(st.integers(0, size))
    path.write_bytes(path.read_bytes()[:cut])
    # A line without its line feed is whole already.
    expected = dict(entry for entry, end in zip(before, ends, strict=True) if end - 1 <= cut)
    with Journal(path) as journal:
        for key, entry in after:
            journal.add(key, **entry)
    expected.update(after)
    found = Journal(path)
    assert {key: found.get(key) for key, _ in (*before, *after)} == {
        key: expected.get(key, {}) for key, _ in (*before, *after)
    }


def test_lines_that_are_no_entries_are_skipped(tmp_path: Path) -> None:
    """Would catch a crash on a file that something else wrote into."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'[]\n5\n{"no": "key"}\n{"key": [1]}\n\xff\xfe\n{"key": "a", "x": 1}\n')
    assert Journal(path).get("a") == {"x": 1}
    assert Journal(tmp_path / "absent").get("a") == {}
