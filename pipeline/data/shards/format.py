"""What a tube shard looks like on disk: names, keys, tar blocks, and the line kept of each clip.

A shard is a plain WebDataset tar. Per clip it holds the members of its codec (`shards.encode`),
such as `KEY.mp4`, and `KEY.json`, clips in the order of their ids. All that could differ between
two writings of the same clips (time stamps, owners, permissions) is fixed, so that equal clips
give equal bytes.

WebDataset takes everything up to the first dot of a name as the key, and tar takes slashes for
folders. A KEY is therefore the clip's id with every character other than ASCII letters, digits,
`_`, `-` and `~` percent-encoded (RFC 3986, UTF-8); `urllib.parse.unquote` gives the id back, and
the JSON member holds it as it is.
"""

from __future__ import annotations

import json
import re
import tarfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from pipeline.data.records import ClipRecord

BLOCK = tarfile.BLOCKSIZE  # bytes; every header and every member's data fill whole blocks
END = b"\0" * (2 * BLOCK)  # two empty blocks close an archive
EXTENSIONS = {"h264": "mp4", "jpeg": "mjpeg", "raw": "npy"}  # codec -> that of its pictures

_SHARD_NAME = re.compile(r"(?P<split>[A-Za-z0-9_]+)-(?P<chunk>\d{5,})-(?P<part>\d{3,})\.tar")


SUFFIXES = (".tar", ".jsonl", ".json")  # of a shard and of the two files beside it


def shard_name(split: str, chunk: int, part: int) -> str:
    """Return `SPLIT-KKKKK-PPP.tar`."""
    return f"{split}-{chunk:05d}-{part:03d}.tar"


def chunk_of_shard(name: str) -> int | None:
    """Return the chunk in a shard's file name; None where it is no such name."""
    match = _SHARD_NAME.fullmatch(name)
    return int(match["chunk"]) if match else None


def clips_file(shard: Path) -> Path:
    """Where the lines of the shard's clips lie: `SPLIT-KKKKK-PPP.clips.jsonl`."""
    return shard.with_suffix(".clips.jsonl")


def summary_file(shard: Path) -> Path:
    """Where the shard's hash and counts lie: `SPLIT-KKKKK-PPP.shard.json`."""
    return shard.with_suffix(".shard.json")


def key_of(clip_id: str) -> str:
    """Return the WebDataset key of a clip: its id, percent-encoded, dots included."""
    return quote(clip_id, safe="").replace(".", "%2E")


def id_of(key: str) -> str:
    """Return the id whose key this is: the inverse of `key_of`."""
    return unquote(key)


def member_header(name: str, size: int) -> bytes:
    """Return the tar header of a regular file: USTAR, with a PAX extension for long names."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of `size` bytes of data."""
    return b"\0" * (-size % BLOCK)


def clip_json(record: ClipRecord) -> bytes:
    """Return the contents of `KEY.json`: what is known of the clip, and nothing of this machine."""
    kept = {"id", "frames", "fps", "width", "height", "split", "labels", "source", "start", "end"}
    body = record.model_dump(mode="json", include=kept)
    return json.dumps(body, sort_keys=True, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One clip in a shard: where its pictures are, and what is needed to sample from them.

    Shards that were made before there were checksums have none: `xxh3` is None, `checks` 0.
    """

    id: str
    shard: Path
    offset: int  # of the pictures' first byte in the tar
    size: int  # bytes
    frames: int
    fps: float
    width: int
    height: int
    split: str
    labels: dict[str, str] = field(default_factory=dict)
    codec: str = "h264"
    table: int = 0  # jpeg: offset in the tar of KEY.offsets.npy
    checks: int = 0  # jpeg, raw: offset in the tar of KEY.xxh3.npy
    motion: int = 0  # offset in the tar of KEY.motion.npy; 0: there is none
    xxh3: int | None = None  # XXH3 (64 bits) of the pictures' bytes

    def line(self, sha256: str = "") -> str:
        """Return the clip's line in `.clips.jsonl`, without the shard that it lies beside.

        `sha256` is that of the pictures' bytes: what a training has learned from is told by it.
        """
        body: dict[str, Any] = asdict(self) | {"sha256": sha256}
        del body["shard"]
        if self.xxh3 is not None:
            body["xxh3"] = f"{self.xxh3:016x}"
        for name in OPTIONAL:
            if not body[name]:
                del body[name]
        return json.dumps(body, ensure_ascii=False) + "\n"

    @classmethod
    def parse(cls, line: str, shard: Path) -> Self:
        """Read what `line` wrote. Raises ValueError where the line is something else."""
        return cls.parse_with_sha256(line, shard)[0]

    @classmethod
    def parse_with_sha256(cls, line: str, shard: Path) -> tuple[Self, str]:
        """Read what `line` wrote, and the `sha256` that it was given."""
        body = json.loads(line)
        if not isinstance(body, dict) or set(body) | OPTIONAL != _LINE_KEYS:
            raise ValueError(f"expected an object with {', '.join(sorted(_LINE_KEYS - OPTIONAL))}")
        sha256 = body.pop("sha256", "")
        body["xxh3"] = int(body["xxh3"], 16) if "xxh3" in body else None
        if body["codec"] not in EXTENSIONS:
            raise ValueError(f"no codec is called {body['codec']!r}")
        return cls(shard=shard, **body), sha256


OPTIONAL = {"table", "checks", "motion", "xxh3", "sha256"}
_LINE_KEYS = {each.name for each in fields(ClipEntry)} - {"shard"} | OPTIONAL


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """A shard as a whole: its line in `index.json`."""

    name: str
    sha256: str
    bytes: int
    clips: int
    frames: int
    split: str
    chunk: int
    made_from: str = ""  # hash of clips, settings and code (`shards.parts`)
