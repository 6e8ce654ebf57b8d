"""Fetching files from web servers: many at a time, few per server, each until it is whole."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx

from pipeline.configuration.schema import Download
from pipeline.files import disk_full
from pipeline.records import Outcome
from pipeline.videos import claims
from pipeline.videos.claims import Claim
from pipeline.videos.download import Fetched, inspect, present
from pipeline.videos.partial import Partial

SLOWEST = 1024  # bytes a second; slower than this over `timeout_s` counts as no answer
FIRST_WAIT_S = 1.0  # before the second attempt; doubled before each further one
LONGEST_WAIT_S = 120.0  # a server that asks for more is left alone
PAGES = ("text/", "application/json", "application/xml", "application/xhtml")
REFUSALS = {401: Outcome.FORBIDDEN, 403: Outcome.FORBIDDEN, 451: Outcome.FORBIDDEN}
GONE = {404: Outcome.MISSING, 410: Outcome.MISSING}
PASSING = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524}


@dataclass(frozen=True)
class Request:
    """A file to fetch, and where to put it."""

    url: str
    target: Path
    sha256s: Collection[str] = ()  # a file with another hash is fetched again; none: with any
    inspect: Callable[[Path], Fetched] = inspect  # looks at what came


class _Again(Exception):  # noqa: N818 - not an error: another attempt may succeed
    """This attempt failed in a way that may pass; `wait_s` is what the server asked for."""

    def __init__(self, outcome: Outcome, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.outcome, self.reason, self.wait_s = outcome, reason, wait_s


class _Lost(Exception):  # noqa: N818 - not an error of ours
    """No further attempt would help."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome, self.reason = outcome, reason


async def fetch_all(
    requests: Iterable[Request], settings: Download
) -> AsyncIterator[tuple[Request, Fetched]]:
    """Yield each request with what became of it, as they end."""
    limits = httpx.Limits(max_connections=settings.connections)
    timeout = httpx.Timeout(settings.timeout_s, pool=None)
    async with httpx.AsyncClient(
        limits=limits, timeout=timeout, follow_redirects=True, headers=_headers()
    ) as client:
        fetcher = _Fetcher(client, settings)
        tasks = [asyncio.create_task(fetcher.fetch(request)) for request in requests]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()


def _headers() -> dict[str, str]:
    # Videos are compressed already, and a range of a compressed answer means something else.
    return {"Accept-Encoding": "identity", "User-Agent": "sigma-pipeline (httpx)"}


class _Fetcher:
    """Fetches with one client, within the limits on connections."""

    def __init__(self, client: httpx.AsyncClient, settings: Download) -> None:
        self.client, self.settings = client, settings
        self.everywhere = asyncio.Semaphore(settings.connections)
        self.per_host: dict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.per_host)
        )

    async def fetch(self, request: Request) -> tuple[Request, Fetched]:
        """Fetch the file, unless another job does; then wait for that one."""
        host = urlsplit(request.url).netloc
        claim = Claim(request.target)
        while True:
            async with self.per_host[host]:
                if await asyncio.to_thread(claim.take):
                    try:
                        found = await asyncio.to_thread(
                            present, request.target, request.sha256s, request.inspect
                        )
                        return request, found or await self._try(request, claim.token)
                    finally:
                        claim.release()
            await asyncio.sleep(claims.POLL_S)

    async def _try(self, request: Request, token: str) -> Fetched:
        """Try until the file is there, the retries are used up, or there is no hope."""
        attempts = self.settings.retries + 1
        for attempt in range(1, attempts + 1):
            try:
                async with self.everywhere:
                    return await self._attempt(request, token)
            except _Lost as lost:
                return Fetched(lost.outcome, lost.reason)
            except _Again as again:
                wait = _wait(again, attempt)
                if attempt == attempts or wait > LONGEST_WAIT_S:
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''}"
                    return Fetched(again.outcome, f"{again.reason} ({tried})")
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _attempt(self, request: Request, token: str) -> Fetched:
        """Fetch the file, or the rest of it, once."""
        part = _Part(request.url, request.target, token)
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                headers = await asyncio.to_thread(part.headers)  # copying would keep others waiting
                sent = self.client.build_request("GET", request.url, headers=headers)
                response = await self.client.send(sent, stream=True)
            try:
                part.check(response)
                with part.open(response) as handle:
                    await self._copy(response, handle)
            finally:
                await response.aclose()
            part.check_length()
        except (TimeoutError, httpx.TimeoutException):
            raise _Again(
                Outcome.UNREACHABLE, f"no answer within {self.settings.timeout_s:g} s"
            ) from None
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise _Lost(Outcome.FAILED, f"bad address: {error}") from None
        except httpx.TransportError as error:
            raise _Again(Outcome.UNREACHABLE, _said(error)) from None
        except OSError as error:
            if full := disk_full(error, request.target.parent):
                raise full from None
            raise _Lost(Outcome.FAILED, f"cannot be written: {error.strerror}") from None
        return await asyncio.to_thread(
            part.finish, request.inspect
        )  # hashing would keep the others waiting

    async def _copy(self, response: httpx.Response, handle: IO[bytes]) -> None:
        """Write the answer to the file while it comes; give up on a trickle."""
        began, count = time.monotonic(), 0
        async for block in response.aiter_raw():
            handle.write(block)
            count += len(block)
            elapsed = time.monotonic() - began
            if elapsed > self.settings.timeout_s:
                if count < SLOWEST * elapsed:
                    reason = f"the server sends less than {SLOWEST} bytes/s"
                    raise _Again(Outcome.UNREACHABLE, reason)
                began, count = time.monotonic(), 0


class _Part(Partial):
    """The part of a file that is here already, and what a server's answer adds to it."""

    total: int | None = None  # bytes of the whole file, where the server says so

    def headers(self) -> dict[str, str]:
        """Ask for the rest only, if the file is still the one that the part is of."""
        size, validator = self.begun()
        return {"Range": f"bytes={size}-", "If-Range": validator} if size else {}

    def check(self, response: httpx.Response) -> None:
        """Raise unless the answer is the file, or the rest of it."""
        status = response.status_code
        if status in REFUSALS:
            raise _Lost(REFUSALS[status], f"the server refuses (HTTP {status})")
        if status in GONE:
            raise _Lost(GONE[status], f"the server has no such file (HTTP {status})")
        if status == 416:  # the part is longer than the file: it is of another one
            self.discard()
            raise _Again(Outcome.FAILED, "the server refuses to send the rest (HTTP 416)", 0.0)
        if status in PASSING:
            throttled = status == 429 or "retry-after" in response.headers
            outcome = Outcome.THROTTLED if throttled else Outcome.UNREACHABLE
            raise _Again(outcome, f"the server answers HTTP {status}", _retry_after(response))
        if status not in (200, 206):
            raise _Lost(Outcome.FAILED, f"the server answers HTTP {status}")
        kind = response.headers.get("content-type", "").lower().strip()
        if kind.startswith(PAGES):
            kind = kind.split(";")[0]
            raise _Lost(Outcome.NOT_A_VIDEO, f"the server sends a page, not a video ({kind})")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _Lost(Outcome.FAILED, "the server sends it compressed, though asked not to")

    def open(self, response: httpx.Response) -> IO[bytes]:
        """Open the part for the answer: at its end for the rest, else from the beginning."""
        if response.status_code == 206:
            first, self.total = _content_range(response)
            if first != (self.path.stat().st_size if self.path.exists() else 0):
                self.discard()
                raise _Again(Outcome.FAILED, "the server sends another range than asked", 0.0)
            return self.resume()
        length = response.headers.get("content-length", "")
        self.total = int(length) if length.isdecimal() else None
        validator = response.headers.get("etag", "")
        if not validator or validator.startswith("W/"):
            validator = response.headers.get("last-modified", "")
        return self.restart(validator)

    def check_length(self) -> None:
        """Raise unless the part is the whole file, as far as the server said its length."""
        size = self.path.stat().st_size
        if self.total is not None and size != self.total:
            if size > self.total:
                self.discard()
            reason = f"the server promised {self.total:,} bytes and sent {size:,}"
            raise _Again(Outcome.UNREACHABLE, reason)


def _content_range(response: httpx.Response) -> tuple[int, int | None]:
    """Return the first byte of the answer, and the length of the whole file where it is said."""
    value = response.headers.get("content-range", "").removeprefix("bytes ")
    span, _, total = value.partition("/")
    first = span.partition("-")[0]
    return int(first) if first.isdecimal() else -1, int(total) if total.isdecimal() else None


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that the server asks to wait; it may give a date instead."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _wait(again: _Again, attempt: int) -> float:
    """Return the seconds until the next attempt, spread so that jobs do not come together."""
    if again.wait_s is not None:
        return again.wait_s
    longest = min(FIRST_WAIT_S * 2.0 ** (attempt - 1), LONGEST_WAIT_S)
    return longest * random.uniform(0.5, 1.0)


def _said(error: httpx.TransportError) -> str:
    text = str(error).strip() or type(error).__name__
    return f"the connection failed: {text}"[:200]
