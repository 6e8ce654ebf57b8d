"""A chunk's rows: written without the secrets of their addresses, and read with them.

What is below `data/` is versioned and passed on. So a chunk's list has each address as
`redaction.redact` leaves it; the job that fetches reads the whole one from the user's list, where
it stands anyway.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.manifest import redaction, video_list
from pipeline.data.manifest.video_list import Row
from pipeline.errors import UserError
from pipeline.runtime.files import read_json


def redacted(row: Row) -> Row:
    """Return the row as a chunk's list has it."""
    url = redaction.redact(row.url)
    return row if url == row.url else row._replace(url=url)


def read(listed: Path, census: Path) -> list[Row]:
    """Return a chunk's rows, whose addresses are whole; unlike the user's list, it may be empty.

    `census` is the manifest stage's `manifest.json`, which names the user's list.

    Raises:
        UserError: the user's list is needed, and is not there or is another by now.
    """
    if listed.read_bytes().count(b"\n") <= 1:
        return []
    rows = video_list.read(listed, folder="")
    partial = {row.id: row.url for row in rows if redaction.is_redacted(row.url)}
    if not partial:
        return rows
    source = read_json(census)["source"]["file"]
    try:
        whole = video_list.urls(Path(source), partial)
    except UserError as error:
        raise UserError(
            f"{len(partial):,} addresses of this chunk have a password or a signature, which the "
            f"list of videos alone holds; {error.problem}",
            place=source,
            remedy="put the list back, or run `python -m pipeline manifest` with another",
        ) from None
    changed = [
        name for name, url in partial.items() if redaction.redact(whole.get(name, "")) != url
    ]
    if changed:
        raise UserError(
            f"the list of videos has changed: {len(changed):,} addresses of this chunk are others "
            f"now, such as that of clip {changed[0]!r}",
            place=source,
            remedy="python -m pipeline manifest",
        )
    return [row._replace(url=whole[row.id]) if row.id in partial else row for row in rows]
