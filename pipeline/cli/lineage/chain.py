"""From a result back to the addresses of its videos, file by file, each compared with its hash."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipeline.cli.lineage.reading import Link, Reading, read
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file


class Verdict(StrEnum):
    """How a file compares with what was noted of it."""

    START = "of"
    FITS = "fits"
    DIFFERS = "DIFFERS"  # the file has changed since, or is another one
    UNKNOWN = "UNKNOWN"  # no file that is here has this hash: the chain breaks off
    ABSENT = "not here"
    NOT_READ = "not read"  # left out on request: only its size could be told
    NO_HASH = "no hash"  # belongs together by its place alone


@dataclass(frozen=True)
class Step:
    """One file of the chain. `link` is how it was come upon; that of the first says nothing."""

    path: Path | None
    sha256: str  # of the present bytes; empty where they were not read
    verdict: Verdict
    link: Link
    reading: Reading | None  # None where it was read before, or leads no further


class Chain:
    """Walks from one file to all that it was made from, each file once."""

    def __init__(self, *, with_bulk: bool = True) -> None:
        """`with_bulk`: read shards and videos, too."""
        self.with_bulk = with_bulk
        self._hashes: dict[Path, str] = {}
        self.counts: Counter[Verdict] = Counter()

    def steps(self, start: Path) -> Iterator[Step]:
        """Yield the files from `start` on, a file before those that it was made from.

        Raises:
            UserError: where `start` is not there, or none of the pipeline's.
        """
        if not start.is_file():
            raise UserError("there is no such file", place=str(start))
        if read(start) is None:
            raise UserError(
                "nothing is known of where this file is from",
                place=str(start),
                remedy="name a result: evaluation.json, model.safetensors, features.npz, a "
                "checkpoint, a shard's index.json, a chunk's manifest ...",
            )
        queue = deque([Link(start, None, "")])
        visited: set[Path] = set()
        compared: set[tuple[Path, str | None]] = set()
        while queue:
            link = queue.popleft()
            path = link.path
            if path is not None and (path, link.sha256) in compared:
                continue
            step = self._step(link, is_first=not visited, is_new=path not in visited)
            self.counts[step.verdict] += step.verdict is not Verdict.START
            if path is not None:
                compared.add((path, link.sha256))
                if path in visited and step.verdict in (Verdict.FITS, Verdict.NO_HASH):
                    continue
                visited.add(path)
            yield step
            if step.reading:
                queue.extend(step.reading.links)

    def _step(self, link: Link, *, is_first: bool, is_new: bool) -> Step:
        path = link.path
        if path is None and not link.drawn:
            return Step(path, "", Verdict.UNKNOWN, link, None)
        if path is None or not path.is_file():
            return Step(path, "", Verdict.ABSENT, link, None)
        if link.bulk and not self.with_bulk:
            return Step(path, "", Verdict.NOT_READ, link, None)
        digest = self._sha256(path)
        verdict = Verdict.START if is_first else Verdict.NO_HASH
        if link.sha256 is not None:
            verdict = Verdict.FITS if digest == link.sha256 else Verdict.DIFFERS
        reading = read(path) if is_new and not link.bulk else None
        return Step(path, digest, verdict, link, reading)

    def _sha256(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = sha256_file(path)
        return self._hashes[path]


def problems(start: Path) -> list[str]:
    """Return a line for each file on the way back from `start` that has changed since.

    Shards and videos are not read. What is not here, or is drawn anew, is no problem; a data set
    that is here with another content is one.
    """
    lines = []
    for step in Chain(with_bulk=False).steps(start):
        link, was = step.link, (step.link.sha256 or "")[:12]
        if step.verdict is Verdict.DIFFERS:
            lines.append(f"{step.path} ({link.what}): is {step.sha256[:12]}, was {was}")
        elif step.verdict is Verdict.UNKNOWN:
            lines.append(f"no data set is here with the {link.what} {was}")
    return lines
