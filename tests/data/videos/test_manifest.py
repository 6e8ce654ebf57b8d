"""The list of videos: every row of a good one comes back, every error of a bad one is named."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.manifest import video_list
from pipeline.data.manifest.video_list import Row
from pipeline.errors import UserError

ids = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)
words = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12).map(str.strip)
texts = st.one_of(words, st.sampled_from(['say "hi"', "two\nlines", "a,b", "é", "🎬"]))
seconds = st.floats(0, 1e5, allow_nan=False).map(lambda value: round(value, 3))


@st.composite
def good_rows(draw: st.DrawFn) -> Row:
    start = draw(st.none() | seconds)
    length = draw(st.none() | st.floats(0.01, 1e3))
    return Row(
        id=draw(ids),
        path="",
        url="http://host/" + draw(st.from_regex(r"[a-z0-9]{1,8}\.mp4", fullmatch=True)),
        youtube_id="",
        synthetic="",
        start=start,
        end=None if length is None else (start or 0.0) + length,
        label=draw(texts),
        split=draw(st.sampled_from(video_list.SPLITS)),
        sha256=draw(
            st.just("") | st.binary(max_size=4).map(lambda b: hashlib.sha256(b).hexdigest())
        ),
        extra={"caption": draw(texts), "Größe": draw(texts)},
    )


@settings(max_examples=60)
@given(rows=st.lists(good_rows(), min_size=1, max_size=8, unique_by=lambda row: row.id))
def test_every_row_comes_back_from_its_own_csv(
    rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Would catch a column that is dropped or swapped, lossy numbers, and bad quoting."""
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    path.write_text(video_list.to_csv(rows, ["caption", "Größe"]), encoding="utf-8")
    assert video_list.read(path) == rows


BAD = {  # what is wrong -> the fields of `id,path,url,start,end,split,sha256`, and what is said
    "no id": (",a.mp4,,,,,", "has no id"),
    "a path as id": ("a/b,a.mp4,,,,,", "id 'a/b' cannot be used"),
    "hidden file": (".a,a.mp4,,,,,", "id '.a' cannot be used"),
    "space in id": ("a b,a.mp4,,,,,", "id 'a b' cannot be used"),
    "long id": ("x" * 161 + ",a.mp4,,,,,", "1 to 160"),
    "no source": ("c{n},,,,,,", "has no source"),
    "two sources": ("c{n},a.mp4,http://h/a.mp4,,,,", "has 2 sources (path, url)"),
    "other address": ("c{n},,htp://h/a.mp4,,,,", "does not begin with http"),
    "bad number": ("c{n},a.mp4,,zero,,,", "start 'zero' is not a number"),
    "not finite": ("c{n},a.mp4,,,inf,,", "end 'inf' is not a number"),
    "negative": ("c{n},a.mp4,,-1,,,", "start '-1' is not a number"),
    "end before start": ("c{n},a.mp4,,2,1,,", "start 2 is not before end 1"),
    "end at zero": ("c{n},a.mp4,,,0,,", "start 0 is not before end 0"),
    "bad split": ("c{n},a.mp4,,,,validation,", "split 'validation' is none of"),
    "bad hash": ("c{n},a.mp4,,,,,abc", "is not 64 hexadecimal"),
    "missing field": ("c{n},a.mp4,,,,", "has 6 fields where the header has 7"),
    "further field": ("c{n},a.mp4,,,,,,", "has 8 fields where the header has 7"),
}


@settings(max_examples=60)
@given(chosen=st.lists(st.sampled_from([None, *BAD]), min_size=1, max_size=15))
def test_every_error_is_reported_with_its_own_line(
    chosen: list[str | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Would catch an error that hides a later one, a wrong line number, and a false alarm."""
    path = tmp_path_factory.getbasetemp() / "errors.csv"
    lines = ["id,path,url,start,end,split,sha256"]
    for number, kind in enumerate(chosen):
        fields = BAD[kind][0].format(n=number) if kind else f"good{number},a.mp4,,,,,"
        lines.append(fields)
    path.write_text("\n".join(lines) + "\n")
    expected = {number + 2: BAD[kind][1] for number, kind in enumerate(chosen) if kind}
    if not expected:
        assert len(video_list.read(path)) == len(chosen)
        return
    with pytest.raises(UserError) as caught:
        video_list.read(path)
    said = {
        int(match[1]): match[2]
        for match in re.finditer(r"^  line (\d+): (.*)$", caught.value.problem, re.MULTILINE)
    }
    assert said.keys() == expected.keys()
    assert all(expected[line] in said[line] for line in said)


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    """Would catch counting records for lines: the first record here spans two lines."""
    path = tmp_path / "list.csv"
    path.write_text('id,path,note\na,x.mp4,"two\nlines"\n\nb,x.mp4,\na,y.mp4,\n')
    with pytest.raises(UserError, match=r"line 6: id 'a' is already on line 2"):
        video_list.read(path)


@pytest.mark.parametrize("first_is_usable", [True, False])
def test_ids_that_differ_in_capitals_alone(tmp_path: Path, first_is_usable: bool) -> None:
    """Catches two clips that are one file where capitals do not count."""
    path = tmp_path / "list.csv"
    source = "x.mp4" if first_is_usable else ""
    path.write_text(f"id,path\nIntro,{source}\nb,x.mp4\nintro,y.mp4\nINTRO,z.mp4\n")
    with pytest.raises(UserError) as caught:
        video_list.read(path)
    said = caught.value.problem
    assert "line 4: id 'intro' and 'Intro' on line 2 differ in capitals alone" in said
    assert "line 5: id 'INTRO' and 'Intro' on line 2 differ in capitals alone" in said
    rows = [{"id": name, "path": "x.mp4"} for name in ("Intro", "intro")]
    with pytest.raises(UserError, match="row 2: id 'intro' and 'Intro' above differ in capitals"):
        list(video_list.from_mappings(rows, "rows"))


def test_a_long_list_of_errors_fits_on_one_screen(tmp_path: Path) -> None:
    """Would catch a flood: a wrong separator can make every row of a million wrong."""
    path = tmp_path / "list.csv"
    path.write_text("id,path\n" + "\n".join(f"c{n}," for n in range(1000)) + "\n")
    with pytest.raises(UserError) as caught:
        video_list.read(path)
    text = str(caught.value)
    assert "1,000 errors" in text
    assert "and 985 more" in text
    assert len(text.splitlines()) < 24


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no clip"),
        (b"id,path\n", "holds no clip"),
        (b"name,path\na,b\n", "line 1: there is no column 'id'"),
        (b"id,label\na,b\n", "there is no source"),
        (b"id;path\r\na;b\r\n", "line 1: the columns are separated by semicolons"),
        (b"id\tpath\na\tb\n", "line 1: the columns are separated by tabs"),
        (b"id,path,,x\na,b,,\n", "column 3 has no name"),
        (b"id,path,note,note\na,b,,\n", "the column 'note' is there twice"),
        (b'id,path\na,"b\nc,d\n', "not CSV"),
        ("id,path\na,é.mp4\n".encode("latin-1"), "not UTF-8"),
        ("id,path\na,b.mp4\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_file_that_is_no_list_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    """Would catch a traceback, or silence, for the files that spreadsheets and people make."""
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        video_list.read(path)
    assert said in str(caught.value)
    assert str(path) in caught.value.place


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Would catch a traceback for the most ordinary mistake."""
    with pytest.raises(UserError, match="no such list"):
        video_list.read(tmp_path / "nowhere" / "list.csv")


def test_the_mark_of_spreadsheets_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    """Would catch a column that is called `\\ufeffid`; and defaults, and paths' folder."""
    path = tmp_path / "list.csv"
    path.write_text("\ufeffid, path\r\nclip_00.25 , sub/../a b.mp4\r\n", encoding="utf-8")
    (row,) = video_list.read(path)
    assert row.id == "clip_00.25"
    assert row.path == str(tmp_path / "a b.mp4")
    assert row.split == "train"
    assert row.source == ("path", row.path)


@given(clip=ids, chunks=st.integers(1, 5000))
def test_a_clip_s_chunk_is_a_plain_hash_of_its_id(clip: str, chunks: int) -> None:
    """Would catch Python's own hash, which differs from process to process."""
    digest = hashlib.sha256(clip.encode()).hexdigest()
    assert video_list.chunk_of(clip, chunks) == int(digest[:16], 16) % chunks


def test_chunks_are_about_equal() -> None:
    """Would catch a hash that favours some chunks: those jobs would take longest."""
    counts = Counter(video_list.chunk_of(f"clip_{n:06d}", 20) for n in range(20_000))
    assert set(counts) == set(range(20))
    # 1,000 each, with a standard deviation of 31.
    assert 850 < min(counts.values()) <= max(counts.values()) < 1150
