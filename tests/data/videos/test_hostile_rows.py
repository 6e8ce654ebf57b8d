"""What a list is read with: no row leads further than a source, and none ends in a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from braceexpand import braceexpand
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.manifest import addresses, braces, members, redaction, video_list
from pipeline.errors import UserError
from tests.data.videos import hostile_rows


@settings(max_examples=150)
@given(rows=st.lists(hostile_rows.rows(), min_size=1, max_size=6))
def test_no_row_ends_in_a_traceback(
    rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Catches an exception of a parser of addresses, braces, numbers or CSV, a list of parts that
    fills memory, an error of more than a screen, and a password in it."""
    path = hostile_rows.write(tmp_path_factory.getbasetemp() / "hostile.csv", rows)
    began = time.process_time()
    try:
        read = video_list.read(path)
    except UserError as error:
        said, read = str(error), []
    else:
        said = ""
    assert time.process_time() - began < 5
    assert len(said) < 10_000
    assert len(said.splitlines()) < 24
    for row in read:
        assert _reaches_no_further(row.url or row.path), row
        said += "".join([redaction.redact(row.url), *row.extra.values(), row.label])
    assert "hush" not in said
    assert "user:word" not in said


def _reaches_no_further(source: str) -> bool:
    archive, member = members.split(source) or (source, "")
    parts = members.parts(archive)
    if len(parts) > braces.MOST or ".." in member.split("/"):
        return False
    web = [part for part in parts if "://" in part]
    known = (*addresses.WEB, *addresses.STORES)
    return all(addresses.scheme_of(part) in known and "::" not in part.partition("]")[2] + part[:9]
               for part in web)  # fmt: skip


@settings(max_examples=200)
@given(pattern=st.text("{},.a01-\\", max_size=14) | hostile_rows.braces())
def test_parts_are_counted_before_they_are_expanded(pattern: str) -> None:
    """Catches a count that differs from what the expansion gives, on which memory would depend."""
    try:
        found = braces.expand(pattern)
    except braces.TooManyParts:
        if len(pattern) < 14:
            assert len(list(braceexpand(pattern))) > braces.MOST
        return
    assert 1 <= len(found) <= braces.MOST
    if found != [pattern]:
        assert found == list(braceexpand(pattern))


BAD = {
    "http://[broken/a.mp4": "bad address",
    "http://h:99999/a.mp4": "the port is no number from 1 to 65535",
    "http://h:0/a.mp4": "the port is no number",
    "http://[::1/a.mp4": "bad address",
    "http:///a.mp4": "names no server",
    "http://a..b/a.mp4": "can be no server of this name",
    "http://" + "a" * 64 + ".org/a.mp4": "can be no server of this name",
    "http://999.1.1.1/a.mp4": "can be no server of this name",
    "http://h/\x01.mp4": "cannot be printed",
    "http://h/" + "a" * 9000: "is longer than",
    "s3:///a.mp4": "names no server, or no bucket",
    "S3://b/a.mp4": "small letters",
    "file:///etc/passwd": "does not begin with",
    "reference://x": "does not begin with",
    "zip://a.mp4::http://h/a.zip": "does not begin with",
    "simplecache::http://h/a.mp4": "does not begin with",
    "s3://b/a.zip::file:///etc/passwd": "chains file systems",
    "http://h/a.zip::file:///etc/passwd": "chains file systems",
    "github://o:r@main/a.mp4": "does not begin with",
    "http://h/{1..100000000}.tar!/a.mp4": "more than 1,000 parts",
    "http://h/" + "{a,b}" * 30 + "!/a.mp4": "more than 1,000 parts",
    "http://h/{a,../b}.tar!/a.mp4": "leads to another folder",
    "http://h/a{/../,/}b.tar!/a.mp4": "leads to another folder",
    "http://h/a.tar!/../../a.mp4": "outside of its archive",
    "http://h/a.tar!/" + "n" * 300: "a name of more than 255 bytes",
    "http://h/a.tar!/b-{1..9999}.zip!/a.mp4": "more than 1,000 parts",
    "{http,file}://h/a.tar!/a.mp4": "does not begin with",
}
GOOD = [
    "http://h/a b.mp4", "http://[::1]:8000/a.mp4", "http://ü.de/a.mp4", "HTTP://h/a.mp4",
    "http://a_b.example.org./a.mp4", "http://u:p@h/a.mp4?q=1#t=2", "s3://arn:aws:s3:us:1:point/b/k",
    "hf://datasets/a/b/c.mp4", "abfs://c@a.dfs.core.windows.net/a.mp4", "sftp://u@h:2222/a.mp4",
    "http://h/a-{00..19}.tar!/x{1}::y.mp4", "http://h/{a,b}.mp4", "http://h/" + "n" * 300 + ".mp4",
    "http://h/a.tar!/b{.mp4",
]  # fmt: skip


@pytest.mark.parametrize("url", [*BAD, *GOOD])
def test_addresses_are_judged_when_the_list_is_read(url: str, tmp_path: Path) -> None:
    """Catches a row that would end a job, read a file of this machine or fill memory; and one that
    was right before and is refused."""
    path = hostile_rows.write(tmp_path / "list.csv", [{"id": "good", "path": "a.mp4"},
                                                      {"id": "row", "url": url}])  # fmt: skip
    if url in GOOD:
        assert video_list.read(path)[1].url == url
        return
    with pytest.raises(UserError) as caught:
        video_list.read(path)
    assert BAD[url] in str(caught.value)
    assert "line 3: url" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("n" * 300 + ".mp4", "a name of more than 255 bytes"),
        ("d/" * 2100 + "a.mp4", "is longer than 4,000 bytes"),
        ("é" * 140 + ".mp4", "a name of more than 255 bytes"),
        ("x-{1..2000}!/a.mp4", "more than 1,000 parts"),
        ("x-{a,/../../etc}.tar!/a.mp4", "leads to another folder"),
        ("a.tar!/../a.mp4", "outside of its archive"),
        ("https://user:hush@h/a.mp4", "belongs into the column url"),
    ],
)
def test_paths_are_judged_when_the_list_is_read(path: str, said: str, tmp_path: Path) -> None:
    """Catches a name that no file system takes, and an address whose password would be passed on
    because it stands in the wrong column."""
    listed = hostile_rows.write(tmp_path / "list.csv", [{"id": "row", "path": path}])
    with pytest.raises(UserError, match=said) as caught:
        video_list.read(listed)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["short", "x" * 12, "../../../..", "ytsearch:cats", "dQw4w9WgXc&"])
def test_what_is_no_youtube_id_is_refused(name: str, tmp_path: Path) -> None:
    """Catches a value that would make yt-dlp ask for something else than a video."""
    listed = hostile_rows.write(tmp_path / "list.csv", [{"id": "row", "youtube_id": name}])
    with pytest.raises(UserError, match=r"line 2: youtube_id .* is not 11 of"):
        video_list.read(listed)
