"""What a web server's answer means: the file, the rest of it, or a reason why there is none."""

from __future__ import annotations

import email.utils
import re
import time
from typing import IO

import httpx

from pipeline.data.decode import file_type
from pipeline.data.fetch.partial import Partial, Version
from pipeline.data.fetch.request import Allowance, Request
from pipeline.data.records import Outcome

LOOK = 1024  # first bytes by which a page is known
# What error pages are called. It is believed of a text alone: servers call videos by any name.
PAGES = ("text/html", "text/xml", "application/json", "application/xml", "application/xhtml")
# What changes the bytes; other values of the header are mistakes of the server.
CODINGS = {"gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd"}
REFUSALS = {401: Outcome.FORBIDDEN, 403: Outcome.FORBIDDEN, 451: Outcome.FORBIDDEN}
GONE = {404: Outcome.MISSING, 410: Outcome.MISSING}
PASSING = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524}


class RetryLater(Exception):  # noqa: N818 - not an error: another attempt may succeed
    """This attempt failed in a way that may pass; `wait_s` is what the server asked for."""

    def __init__(self, outcome: Outcome, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.wait_s = outcome, reason, wait_s


class GivenUp(Exception):  # noqa: N818 - not an error of ours
    """No further attempt would help."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


class HttpDownload(Partial):
    """The part of a file that is here already, and what a server's answer adds to it."""

    def __init__(self, request: Request, token: str, allowance: Allowance) -> None:
        super().__init__(request.url, request.target, token)
        self.request, self.allowance = request, allowance
        self.size, self.version = 0, Version()  # bytes that are here, and of which file
        self.total: int | None = None  # bytes of the whole file, where the server says so
        self.start, self.kind = b"", ""  # first bytes, and what the server calls them

    def headers(self) -> dict[str, str]:
        """Ask for the rest only, if the file is still the one that the part is of."""
        self.size, self.version = self.begun()
        etag = self.version.get("etag", "")
        strong = etag if not etag.startswith("W/") else ""
        validator = strong or self.version.get("modified", "")
        if self.size and validator:
            return {"Range": f"bytes={self.size}-", "If-Range": validator}
        self.size, self.version = 0, {}
        return {}

    def check(self, response: httpx.Response) -> None:
        """Raise unless the answer is the file, or the rest of it."""
        status = response.status_code
        if status in REFUSALS:
            raise GivenUp(REFUSALS[status], f"the server refuses (HTTP {status})")
        if status in GONE:
            raise GivenUp(GONE[status], f"the server has no such file (HTTP {status})")
        if status == 416:  # the part is longer than the file: it is of another one
            self.discard()
            raise RetryLater(Outcome.FAILED, "the server refuses to send the rest (HTTP 416)", 0.0)
        if status in PASSING:
            throttled = status == 429 or "retry-after" in response.headers
            outcome = Outcome.THROTTLED if throttled else Outcome.UNREACHABLE
            raise RetryLater(outcome, f"the server answers HTTP {status}", _retry_after(response))
        if status not in (200, 206):
            raise GivenUp(Outcome.FAILED, f"the server answers HTTP {status}")
        self.kind = response.headers.get("content-type", "").lower().strip()
        coding = response.headers.get("content-encoding", "").lower()
        known = CODINGS.intersection(re.split(r"[\s,]+", coding))
        # What an archive is compressed with is found out when it is unpacked.
        if known and not (self.request.is_archive and known <= {"gzip", "x-gzip"}):
            raise GivenUp(Outcome.FAILED, "the server sends it compressed, though asked not to")

    def open(self, response: httpx.Response) -> IO[bytes]:
        """Open the part for the answer: at its end for the rest, else from the beginning."""
        headers = {"etag": "etag", "modified": "last-modified"}
        version = {name: response.headers.get(header, "") for name, header in headers.items()}
        if response.status_code == 206:
            first, total = _content_range(response)
            if first != self.size:
                self.discard()
                raise RetryLater(Outcome.FAILED, "the server sends another range than asked", 0.0)
        else:
            self.size, first, total = 0, 0, _decimal(response.headers.get("content-length", ""))
        version["total"] = "" if total is None else str(total)
        version = {name: value for name, value in version.items() if value}
        if first:
            self._compare(version)
            version = self.version | version
        self.total = int(version["total"]) if "total" in version else None
        self.allowance.check(self.target, max(self.size, self.total or 0))
        return self.resume() if first else self.restart(version)

    def _compare(self, version: Version) -> None:
        """Raise where the rest is of another version of the file than what is here."""
        if any(version.get(name, value) != value for name, value in self.version.items()):
            self.discard()
            raise RetryLater(Outcome.FAILED, "the file on the server changed meanwhile", 0.0)

    def take(self, block: bytes) -> None:
        """Look at what is to be written next: it may be too much, or a page."""
        if self.size == len(self.start) < LOOK:
            self.start += block[:LOOK]
            if len(self.start) >= LOOK:
                self._refuse_page()
        self.size += len(block)
        self.allowance.check(self.target, self.size)

    def _refuse_page(self) -> None:
        start = self.start[:LOOK]
        called_page = self.kind.startswith(PAGES) and file_type.is_text(start)
        if start and (called_page or file_type.is_page(start)):
            kind = self.kind.partition(";")[0] or "of no type"
            raise GivenUp(Outcome.NOT_A_VIDEO, f"the server sends a page, not a video ({kind})")

    def check_length(self) -> None:
        """Raise unless the part is the whole file, as far as the server said its length."""
        if len(self.start) < LOOK:
            self._refuse_page()
        size = self.path.stat().st_size
        if self.total is not None and size != self.total:
            if size > self.total:
                self.discard()
            reason = f"the server promised {self.total:,} bytes and sent {size:,}"
            raise RetryLater(Outcome.UNREACHABLE, reason)


def _content_range(response: httpx.Response) -> tuple[int, int | None]:
    """Return the first byte of the answer, and the length of the whole file where it is said."""
    value = response.headers.get("content-range", "").removeprefix("bytes ")
    span, _, total = value.partition("/")
    first = span.partition("-")[0]
    place = _decimal(first)
    return -1 if place is None else place, _decimal(total)


def _decimal(text: str) -> int | None:
    """Return the number that a header gives; None for anything that no file's size can be."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait; it may give a date instead."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
