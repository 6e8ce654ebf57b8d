"""Fetching from addresses of all kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.configuration.schema import Download
from pipeline.data.fetch.fetched import Fetched
from pipeline.data.manifest import addresses
from pipeline.data.manifest.addresses import WEB, scheme_of
from pipeline.data.records import Outcome

if TYPE_CHECKING:
    from pipeline.data.fetch.request import Request


def fetch(
    requests: Sequence[Request], settings: Download, take: Callable[[Path, Fetched], None]
) -> None:
    """Fetch files from the web and from stores; call `take(target, what became of it)` as they end.

    Wherever an address comes from (a row, the pattern of an archive's parts), only those that a
    list may hold are asked for.

    Raises:
        UserError: this project's package for a scheme is not installed, or the disk is full.
    """
    good: list[Request] = []
    for request in requests:
        if fault := addresses.fault(request.url):
            reason = f"bad address: {fault.removeprefix('is a bad address: ')}"
            take(request.target, Fetched(Outcome.FAILED, reason[:200]))
        else:
            good.append(request)
    web = [request for request in good if scheme_of(request.url) in WEB]
    if web:
        asyncio.run(_from_web(web, settings, take))
    stored = [request for request in good if scheme_of(request.url) not in WEB]
    if stored:
        from pipeline.data.fetch import remote

        for request, fetched in remote.fetch_all(stored, settings):
            take(request.target, fetched)


async def _from_web(
    requests: Sequence[Request], settings: Download, take: Callable[[Path, Fetched], None]
) -> None:
    from pipeline.data.fetch import web  # httpx takes a while to import

    async for request, fetched in web.fetch_all(requests, settings):
        take(request.target, fetched)
