"""A web server on loopback that answers well, or badly on purpose."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from benchmarks.loopback_server import LoopbackServer
from pipeline.configuration.schema import Download, YouTube

# A client in a hurry, which asks this server where it would ask YouTube: a test gives the address.
YOUTUBE = YouTube(
    format="b/bv*",
    whole=False,
    connections=1,
    pause_s=(0, 0),
    refusals=3,
    rest_s=60,
    address="http://127.0.0.1/",
)
SETTINGS = Download(
    retries=2,
    timeout_s=30.0,  # no test waits for it; a busy machine answers late, and tests count requests
    connections=6,
    per_host=3,
    unpack_ratio=10,
    storage={},
    youtube=YOUTUBE,
)

Answer = Callable[["Handler", int], None]  # gets the number of the request for this path, from 1


class Handler(BaseHTTPRequestHandler):
    """Calls the server's answer for the path, and counts."""

    server: BadServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests[self.path] += 1
            server.ranges.setdefault(self.path, []).append(self.headers.get("Range", ""))
            number = server.requests[self.path]
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
        try:
            server.answers[self.path](self, number)
        finally:
            with server.lock:
                server.busy -= 1

    do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def reply(
        self, status: int, body: bytes = b"", *, send: int | None = None, **headers: str
    ) -> None:
        """Answer; of the body only the first `send` bytes, after which the connection ends."""
        self.send_response(status)
        named = {name.replace("_", "-").title(): value for name, value in headers.items()}
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:send])
        if send is not None and send < len(body):
            self.close_connection = True

    def file(
        self,
        body: bytes,
        *,
        send: int | None = None,
        etag: str = '"v1"',
        kind: str = "video/mp4",
    ) -> None:
        """Answer as a good server does: with the asked range, if the file is still the same."""
        asked, same = self.headers.get("Range"), self.headers.get("If-Range", etag) == etag
        headers = {"content_type": kind, "etag": etag, "accept_ranges": "bytes"}
        if not asked or not same:
            self.reply(200, body, send=send, **headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        rest = body[int(first) : int(last) + 1 if last else None]
        if not rest:
            self.reply(416, content_range=f"bytes */{len(body)}")
            return
        span = f"bytes {first}-{int(first) + len(rest) - 1}/{len(body)}"
        self.reply(206, rest, send=send, content_range=span, **headers)


class BadServer(LoopbackServer):
    """Serves `answers` by path, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: dict[str, list[str]] = {}
        self.busy = self.most_busy = 0

    def url(self, path: str) -> str:
        return f"{self.address}{path}"


def trickle(handler: Handler, body: bytes, pause_s: float) -> None:
    """Send a byte at a time, slowly, until the client has had enough."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    for byte in body:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(pause_s)
