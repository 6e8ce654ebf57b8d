"""A stand-in for a model hub on this machine: repositories, commits and downloads, in memory.

It speaks as much of the hub's HTTP interface as uploading a folder and fetching a repository need.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`files` of each repository, `created` as the client asked for it, `unknown` requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: dict[str, dict[str, Any]] = {}
        self.unknown: list[str] = []
        self.token = "hf_standin"  # noqa: S105 - of this stand-in

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer({"error": "Invalid username or password."}, 401)
        elif path == "/api/repos/create":
            said = json.loads(body)
            name = (
                f"{said['organization']}/{said['name']}" if "organization" in said else said["name"]
            )
            self.server.created[name] = said
            self.server.files.setdefault(name, {})
            self._answer({"url": f"{self.server.address}/{name}", "name": name, "id": "1"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": file["path"], **mode} for file in files]})
        elif "/commit/" in path:
            name = path.split("/api/models/")[1].split("/commit/")[0]
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files[name][entry["value"]["path"]] = content
            url = f"{self.server.address}/{name}/commit/{REVISION}"
            self._answer({"success": True, "commitUrl": url, "commitOid": REVISION})
        else:
            self._nothing()

    def do_GET(self) -> None:
        self._get(with_body=True)

    def do_HEAD(self) -> None:
        self._get(with_body=False)

    def _get(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            self._answer({"name": "somebody", "type": "user", "orgs": []})
            return
        for name, files in self.server.files.items():
            if path.startswith(f"/api/models/{name}"):
                listed = [
                    {"type": "file", "path": file, "rfilename": file, "size": len(content),
                     "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324 - as git names it
                    for file, content in files.items()
                ]  # fmt: skip
                about = {"id": name, "modelId": name, "sha": REVISION, "siblings": listed}
                self._answer(listed if "/tree/" in path else about)
                return
            file = path.removeprefix(f"/{name}/resolve/").partition("/")[2]
            if path.startswith(f"/{name}/resolve/") and file in files:
                self._file(files[file], with_body)
                return
        self._nothing()

    def _file(self, content: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def _answer(self, value: object, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _nothing(self) -> None:
        self.server.unknown.append(f"{self.command} {self.path}")
        self._answer({"error": "not found"}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers while this is open."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
