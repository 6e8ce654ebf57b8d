"""Fetching files from web servers: many at a time, few per server, each until it is whole."""

from __future__ import annotations

import asyncio
import functools
import random
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from typing import IO

import httpx

from pipeline.configuration.schema import Download
from pipeline.data.fetch.fetched import Fetched, failed, find_existing
from pipeline.data.fetch.http_response import GivenUp, HttpDownload, RetryLater
from pipeline.data.fetch.redirects import HOPS, PrivateRedirect, refuse_private
from pipeline.data.fetch.request import Allowance, Request, TooLarge
from pipeline.data.records import Outcome
from pipeline.runtime import claims
from pipeline.runtime.claims import Claim
from pipeline.runtime.files import disk_full

SLOWEST = 1024  # bytes a second; slower than this over `timeout_s` counts as no answer
FIRST_WAIT_S = 1.0  # before the second attempt; doubled before each further one
LONGEST_WAIT_S = 120.0  # a server that asks for more is left alone


async def fetch_all(
    requests: Iterable[Request], settings: Download
) -> AsyncIterator[tuple[Request, Fetched]]:
    """Yield each request with what became of it, as they end."""
    limits = httpx.Limits(max_connections=settings.connections)
    timeout = httpx.Timeout(settings.timeout_s, pool=None)
    hooks = [] if settings.private_redirects else [refuse_private]
    async with httpx.AsyncClient(
        verify=_certificates(),
        limits=limits,
        timeout=timeout,
        follow_redirects=True,
        headers=_headers(),
        event_hooks={"request": hooks},
    ) as client:
        fetcher = _Fetcher(client, settings)
        tasks = [asyncio.create_task(fetcher.fetch(request)) for request in requests]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return what servers are known by; reading it takes longer than a small file."""
    return httpx.create_ssl_context()


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
        try:
            return request, await self._fetch(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return request, failed(error)

    async def _fetch(self, request: Request) -> Fetched:
        host = httpx.URL(request.url).host
        claim = Claim(request.target)
        while True:
            async with self.per_host[host]:
                if await asyncio.to_thread(claim.take):
                    try:
                        existing = await asyncio.to_thread(
                            find_existing,
                            request.target,
                            request.sha256s,
                            request.inspect,
                            request.cut_short,
                        )
                        return existing or await self._try(request, claim.token)
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
            except GivenUp as given_up:
                return Fetched(given_up.outcome, given_up.reason)
            except RetryLater as retry:
                wait = _wait(retry, attempt)
                if attempt == attempts or wait > LONGEST_WAIT_S:
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''}"
                    return Fetched(retry.outcome, f"{retry.reason} ({tried})")
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    async def _attempt(self, request: Request, token: str) -> Fetched:
        """Fetch the file, or the rest of it, once."""
        part = HttpDownload(request, token, request.allowance or Allowance(self.settings.max_bytes))
        try:
            await self._receive(request, part)
        except (TimeoutError, httpx.TimeoutException):
            reason = f"no answer within {self.settings.timeout_s:g} s"
            raise RetryLater(Outcome.UNREACHABLE, reason) from None
        except (httpx.TooManyRedirects, httpx.UnsupportedProtocol) as error:
            raise GivenUp(Outcome.FAILED, f"bad address: {error}") from None
        except httpx.TransportError as error:
            raise RetryLater(Outcome.UNREACHABLE, _said(error)) from None
        except (TooLarge, PrivateRedirect) as error:
            part.discard()
            raise GivenUp(Outcome.FAILED, str(error)) from None
        except GivenUp:
            part.discard()
            raise
        except OSError as error:
            if full := disk_full(error, request.target.parent):
                raise full from None
            raise GivenUp(Outcome.FAILED, f"cannot be written: {error.strerror}") from None
        known = part.total is not None or bool(request.sha256s)
        finish = functools.partial(part.finish, request.inspect, length_known=known)
        return await asyncio.to_thread(finish)  # hashing would keep the others waiting

    async def _receive(self, request: Request, part: HttpDownload) -> None:
        """Ask, and write what the server sends; raise where that is not the file."""
        async with asyncio.timeout(self.settings.timeout_s):
            headers = await asyncio.to_thread(part.headers)  # copying would keep others waiting
            sent = self.client.build_request(
                "GET", request.url, headers=headers, extensions={HOPS: []}
            )
            response = await self.client.send(sent, stream=True)
        try:
            part.check(response)
            with part.open(response) as handle:
                await self._copy(response, part, handle)
        finally:
            await response.aclose()
        part.check_length()

    async def _copy(self, response: httpx.Response, part: HttpDownload, handle: IO[bytes]) -> None:
        """Write the answer to the file while it comes; give up on a trickle."""
        began, count = time.monotonic(), 0
        async for block in response.aiter_raw():
            part.take(block)
            handle.write(block)
            count += len(block)
            elapsed = time.monotonic() - began
            if elapsed > self.settings.timeout_s:
                if count < SLOWEST * elapsed:
                    reason = f"the server sends less than {SLOWEST} bytes/s"
                    raise RetryLater(Outcome.UNREACHABLE, reason)
                began, count = time.monotonic(), 0


def _wait(retry: RetryLater, attempt: int) -> float:
    """Return the seconds until the next attempt, spread so that jobs do not come together."""
    if retry.wait_s is not None:
        return retry.wait_s
    longest = min(FIRST_WAIT_S * 2.0 ** (attempt - 1), LONGEST_WAIT_S)
    return longest * random.uniform(0.5, 1.0)


def _said(error: httpx.TransportError) -> str:
    text = str(error).strip() or type(error).__name__
    return f"the connection failed: {text}"[:200]
