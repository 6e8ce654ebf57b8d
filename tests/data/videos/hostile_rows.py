"""Rows that somebody might put into a list to break it: strategies for hypothesis.

`rows()` gives dictionaries of the list's columns; `addresses()`, `paths()`, `names()` and
`braces()` a value each. `write(path, rows)` makes a list of them. None of them leads out of this
machine: every host is the loopback's, or none at all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from hypothesis import strategies as st

COLUMNS = (
    "id", "path", "url", "youtube_id", "start", "end", "label", "split", "sha256", "note",
)  # fmt: skip
SCHEMES = (
    "http", "https", "HTTP", "ftp", "s3", "gs", "hf", "file", "local", "memory", "data", "zip",
    "tar", "reference", "simplecache", "filecache", "blockcache", "github", "jupyter", "dask",
    "git", "dir", "simplecache::http", "zip::http", "", "javascript", "0", "http+unix",
    "{http,file}",
)  # fmt: skip
HOSTS = (
    "127.0.0.1:9", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:0", "127.0.0.1:8O", "[::1]:9",
    "[::1", "::1", "[broken", "[]", "[127.0.0.1]", "999.1.1.1", "", ":", "@",
    "user:word@127.0.0.1:9", "a:b:c@[::1]:9", "xn--", "☃", "a" * 64 + ".invalid", "127.0.0.1:٩",
    "{a,b}", "{127.0.0.1:9,..}", "127.0.0.1\\@h", "127.0.0.1:9\t", "127.0.0.1 :9", "%00", "..",
)  # fmt: skip
TAILS = (
    "/a.mp4", "/", "", "/../../a.mp4", "/%2e%2e/%00.mp4", "/a b.mp4", "/a\tb", "/a.mp4?token=hush",
    "/a.mp4?X-Amz-Signature=hush&id=1#access_token=hush", "/a.tar!/b.mp4", "/a.zip!/../b.mp4",
    "/a.rar!/b.zip!/c.tar!/d.tgz!/e.tar!/f.mp4", "/a.tar!//etc/passwd",
    "/a.zip!/b::file:///etc/passwd", "::file:///etc/passwd", "/a.zip::http://127.0.0.1:9/b.zip",
    "/" + "n" * 300 + ".mp4", "/" + "n" * 300 + ".tar!/a.mp4", "/a.tar!/" + "n" * 300,
    "/a.tar!/" + "d/" * 1500 + "x.mp4", "/?" + "q" * 70_000, "#", "/\x00", "/\x7f", "/é🎬.mp4",
)  # fmt: skip
BRACES = (
    "{00..03}", "{a,b}", "{1..100000000}", "{1..1001}", "{1..1000}", "{a,b}" * 30, "{{a,b},{c,d}}",
    "{.,..}", "{x,../../y}", "{/../,/}", "{", "}", "}{", "{}", "{,}", "{a", "{1..}", "\\{a,b}",
    "{" * 400, "{" * 400 + "a" + "}" * 400, "{1..9" + "9" * 5000 + "}", "{1..5..0}", "{z..a}",
    "{01..3}", "{a..Z}", "{" + "a," * 2000 + "a}", "{{1..40},{1..40}}{{1..40},{1..40}}", "\\",
)  # fmt: skip
PATHS = (
    "a.mp4", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/proc/kmsg", "/proc/self/environ",
    "/sys", "..", "../../../../../../etc/passwd", "/", ".", "./", "~/a.mp4", "a.mp4/",
    "n" * 300 + ".mp4", "d/" * 3000, "a\nb.mp4", "a\x00b.mp4", "a.tar!/b.mp4", "a.tar!/../b.mp4",
    "a.tar!/", "!/", "name!/a.mp4", "a.zip!/" * 9, "http://user:word@127.0.0.1:9/a.mp4",
    "file:///etc/passwd", "concat:a.mp4|b.mp4", "-i", "é.mp4", "\u202e4pm.a",
)  # fmt: skip
LABELS = (
    "jump", "", ";", "a;b", "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a\nb", 'say "hi"',
    "<script>", "\x00", "\x1b[31m", "é🎬", "x" * 2000, "{a,b}",
    "http://user:word@127.0.0.1/?token=hush", "None", "nan",
)  # fmt: skip
IDS = (
    "a", "", ".", "..", ".a", "-a", "=1", "a/b", "a\\b", "a b", "x" * 160, "x" * 161, "é", "a\n",
    "con", "a.mp4", "{a,b}", "__key__", "\x00",
)  # fmt: skip
YOUTUBE_IDS = (
    "dQw4w9WgXcQ", "-_-_-_-_-_-", "", "short", "x" * 12, "../../../..", "ytsearch:cats",
    "dQw4w9WgXc&", "https://127.0.0.1:9/", "dQw4w9WgXcQ\n", "@127.0.0.1:9", "dQw4w9WgXcé",
)  # fmt: skip
NUMBERS = (
    "", "0", "1.5", "-1", "nan", "inf", "1e309", "1e-400", "٣", "0x10", "1_000", "9" * 400, "1,5",
    " 2 ", "two",
)  # fmt: skip

_odd = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def names() -> st.SearchStrategy[str]:
    """What a file, or an archive's member, may be called."""
    return (
        st.sampled_from(["a.mp4", "n" * 300, "..", ".", "", "a\\b", "é", "x.tar", "x.zip!"]) | _odd
    )


def braces() -> st.SearchStrategy[str]:
    """Patterns of parts, some of which stand for more parts than there are atoms."""
    return st.lists(st.sampled_from(BRACES) | names(), min_size=1, max_size=3).map("".join)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """What the column `url` may hold."""
    scheme, host = draw(st.sampled_from(SCHEMES)), draw(st.sampled_from(HOSTS))
    tail = draw(st.sampled_from(TAILS) | _odd)
    pattern = draw(st.just("") | braces().map(lambda text: f"/{text}!/a.mp4"))
    return f"{scheme}{draw(st.sampled_from(['://', '://', ':', '']))}{host}{pattern or tail}"


@st.composite
def paths(draw: st.DrawFn) -> str:
    """What the column `path` may hold."""
    plain = draw(st.sampled_from(PATHS) | names())
    pattern = draw(st.just("") | braces())
    return f"{pattern}!/{plain}" if pattern else plain


@st.composite
def rows(draw: st.DrawFn) -> dict[str, str]:
    """A row of a list, mostly with one source, whose other columns are mostly good."""
    row = dict.fromkeys(COLUMNS, "")
    row["id"] = draw(st.sampled_from(IDS) | st.from_regex(r"[a-z]{6}", fullmatch=True))
    source = draw(st.sampled_from(["path", "url", "url", "youtube_id"]))
    values = {"path": paths(), "url": addresses(), "youtube_id": st.sampled_from(YOUTUBE_IDS)}
    row[source] = draw(values[source])
    row["label"] = draw(st.sampled_from(LABELS) | _odd)
    row["note"] = draw(st.sampled_from(LABELS))
    if draw(st.integers(0, 4)) == 0:
        row["start"], row["end"] = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(NUMBERS))
    if draw(st.integers(0, 9)) == 0:
        row["sha256"] = draw(st.sampled_from(["0" * 64, "A" * 64, "zz", "=1"]))
        row["split"] = draw(st.sampled_from(["val", "test", "dev", "=1"]))
    return row


def write(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Write a list of such rows, as another program would; return its path."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
