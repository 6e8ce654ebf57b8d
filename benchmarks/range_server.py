"""A web server of files, on loopback, that answers ranges, late, and badly where it is told to."""

from __future__ import annotations

import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from benchmarks.loopback_server import LoopbackServer


class RangeServer(LoopbackServer):
    """Serves the files of a folder."""

    def __init__(self, folder: Path, delay_s: float = 0.0) -> None:
        super().__init__(_Handler)
        self.folder, self.delay_s = folder, delay_s
        self.ranges = True
        self.failures = 0  # so many requests fail first
        self.requests: Counter[str] = Counter()
        self.sent = 0  # bytes of files
        self.under_way = self.most_under_way = 0


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.requests[self.path] += 1
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
            fails = server.failures > 0
            server.failures -= fails
        try:
            time.sleep(server.delay_s)
            self._answer(500 if fails else 200)
        finally:
            with server.lock:
                server.under_way -= 1

    def _answer(self, status: int) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if status == 200 and not path.is_file():
            status = 404
        asked = self.headers.get("Range") if self.server.ranges else None
        data = b""
        if status == 200 and asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            with path.open("rb") as file:
                file.seek(int(first))
                data = file.read(int(last) + 1 - int(first))
            status = 206
        elif status == 200:
            data = path.read_bytes()
        with self.server.lock:
            self.server.sent += len(data)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
