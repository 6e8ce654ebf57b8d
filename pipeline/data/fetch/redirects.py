"""Redirects that would lead from the internet into this machine's own network are refused.

A row of a list may name a server that answers "look at http://10.0.0.1/": what is asked for there
then is the row's doing, not the user's. A server that is itself in the network is the user's own.
"""

from __future__ import annotations

import asyncio
import ipaddress

import httpx

HOPS = "pipeline.hops"  # extension of a request: the hosts that it went through, in a list


class PrivateRedirect(Exception):  # noqa: N818 - of the server, not of ours
    """A public server redirects to a private address."""


async def refuse_private(request: httpx.Request) -> None:
    """Look at a request before it is sent; for `httpx.AsyncClient(event_hooks=...)`.

    Raises:
        PrivateRedirect: it is a redirect from a public address to a private one.
    """
    hops: list[str] = request.extensions[HOPS]
    host = request.url.host
    if hops and hops[-1] != host and await is_private(host) and not await is_private(hops[-1]):
        raise PrivateRedirect(
            f"the server redirects to a private address, {host} (data.download.private_redirects)"
        )
    hops.append(host)


async def is_private(host: str) -> bool:
    """Whether a name means, among others, an address that not all of the internet can reach."""
    try:
        resolved = await asyncio.get_running_loop().getaddrinfo(host, None)
    except (OSError, UnicodeError):  # asking for the file will tell
        return False
    return any(_is_private(str(address[0])) for *_, address in resolved)


def _is_private(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global
