"""Files at addresses of the stores that fsspec reads: `s3://`, `gs://`, `sftp://`, `hf://`, ..."""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import IO, Any

from pipeline.configuration.schema import Download
from pipeline.data.fetch.fetched import Fetched, describe_error, failed, find_existing
from pipeline.data.fetch.parallel import map_as_completed
from pipeline.data.fetch.partial import Partial
from pipeline.data.fetch.request import Allowance, Request, TooLarge
from pipeline.data.fetch.step_timeout import StepTimeout, call_with_step_timeout
from pipeline.data.fetch.web import FIRST_WAIT_S
from pipeline.data.manifest.addresses import scheme_of
from pipeline.data.records import Outcome
from pipeline.errors import UserError, how_to_install
from pipeline.runtime import claims
from pipeline.runtime.files import disk_full

BLOCK = 2**20
SLOWEST = 2**16  # bytes a second; a block that comes more slowly counts as no answer
READ_AHEAD = 6 * 2**20  # bytes that fsspec may fetch before it gives us a block
START_S = 10.0  # that a store's client may take by itself, as it starts on a busy machine
# Of this project. Videos at web addresses are fetched by `fetch.web`, without fsspec.
EXTRAS = dict.fromkeys(("s3", "s3a", "gs", "gcs", "http", "https"), "cloud")


def fetch_all(requests: Iterable[Request], settings: Download) -> Iterator[tuple[Request, Fetched]]:
    """Yield each request with what became of it, as they end.

    Raises:
        UserError: the package for a scheme that is an extra of this project is not installed, or
            the disk is full.
    """
    start_stores()
    yield from map_as_completed(
        functools.partial(_fetch, settings=settings), requests, settings.connections
    )


def _fetch(request: Request, settings: Download) -> Fetched:
    """Fetch the file, unless another job does; then wait for that one."""
    try:
        store = _store(scheme_of(request.url))
        if isinstance(store, Fetched):
            return store
        with claims.held(request.target):
            return find_existing(
                request.target, request.sha256s, request.inspect, request.cut_short
            ) or _try(request, settings, store)
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        return failed(error)


def start_stores() -> None:
    """Start the thread that fsspec's stores read in.

    Where several threads are the first to ask for it, each may start one, and what is read in all
    but the last never comes (fsspec, issue 1783).
    """
    from fsspec.asyn import get_loop

    get_loop()


def store_class(scheme: str) -> Any:
    """Return fsspec's class for a scheme; it follows no `::` to another, as `url_to_fs` would.

    Raises:
        UserError: its package is an extra of this project and is not installed.
        ImportError: it is another package that is not installed.
    """
    from fsspec import get_filesystem_class

    try:
        return get_filesystem_class(scheme)
    except ImportError:
        if extra := EXTRAS.get(scheme):
            raise UserError(
                f"the package that reads {scheme}:// addresses is not installed",
                place=f"{scheme}://",
                remedy=how_to_install(extra),
            ) from None
        raise


def _store(scheme: str) -> Any | Fetched:
    try:
        return store_class(scheme)
    except ImportError as error:
        problem = f"the package that reads {scheme}:// addresses is not installed: {error}"
        return Fetched(Outcome.FAILED, problem[:200])


def _try(request: Request, settings: Download, store: Any) -> Fetched:
    """Try until the file is there, the retries are used up, or there is no hope."""
    for attempt in range(1, settings.retries + 2):
        fetched = _attempt(request, settings, store)
        if fetched.outcome is not Outcome.UNREACHABLE or attempt > settings.retries:
            return fetched
        # What is open to the store may be what is broken.
        store.clear_instance_cache()
        time.sleep(FIRST_WAIT_S * 2.0 ** (attempt - 1))
    raise AssertionError("unreachable")


def _attempt(request: Request, settings: Download, store: Any) -> Fetched:
    """Fetch the file, or the rest of it, once."""
    # A name of its own: a call that was given up may still be writing.
    part = Partial(request.url, request.target, uuid.uuid4().hex[:12])
    transfer = _Transfer(request, settings, store, part)
    try:
        call_with_step_timeout(transfer.run, settings.timeout_s + START_S)
    except FileNotFoundError:
        return Fetched(Outcome.MISSING, "the store has no such file")
    except PermissionError as error:
        return Fetched(Outcome.FORBIDDEN, describe_error(error, "the store refuses: "))
    except TooLarge as error:
        part.discard()
        return Fetched(Outcome.FAILED, str(error))
    except TimeoutError:
        reason = f"the store cannot be read: no answer within {settings.timeout_s:g} s"
        return Fetched(Outcome.UNREACHABLE, reason)
    except Exception as error:  # noqa: BLE001 - each store has exceptions of its own
        if full := disk_full(error, request.target.parent):
            raise full from None
        return Fetched(_outcome(error), describe_error(error, "the store cannot be read: "))
    if transfer.problem:
        return transfer.problem
    known = transfer.length_known or bool(request.sha256s)
    return part.finish(request.inspect, length_known=known)


def _outcome(error: Exception) -> Outcome:
    text = repr(error)
    if "redentials" in text or text.startswith("error_perm('530"):  # FTP: not logged in
        return Outcome.FORBIDDEN
    if text.startswith("error_perm('550"):
        return Outcome.MISSING
    return Outcome.UNREACHABLE


class _Transfer:
    """One attempt: all that a store's own code does."""

    def __init__(self, request: Request, settings: Download, store: Any, part: Partial) -> None:
        self.request, self.settings, self.store, self.part = request, settings, store, part
        self.allowance = request.allowance or Allowance(settings.max_bytes)
        self.problem: Fetched | None = None  # why the part is not the file
        self.length_known = False

    def run(self, timeout: StepTimeout) -> None:
        """Make the part whole, or say what the problem is; `timeout` limits each step."""
        system = self._system()
        if system is None:
            return
        path = system._strip_protocol(self.request.url)
        info = system.info(path)
        if info["type"] != "file":
            self.problem = Fetched(Outcome.NOT_A_VIDEO, "a folder, not a video")
            return
        size, version = info.get("size"), {"ukey": str(system.ukey(path))}
        self.length_known = size is not None
        self.allowance.check(self.request.target, size or 0)
        timeout.next(self.settings.timeout_s + START_S)
        done, begun = self.part.begun()
        with system.open(path, "rb") as source:
            if done and begun == version:
                source.seek(done)
                handle = self.part.resume()
            else:
                done, handle = 0, self.part.restart(version)
            block_s = self.settings.timeout_s + READ_AHEAD / SLOWEST
            with handle:
                timeout.next(block_s)  # the first block may take as long as any
                for block in _blocks(source):
                    timeout.next(block_s)
                    done += len(block)
                    self.allowance.check(self.request.target, done)
                    handle.write(block)
        if size is not None and done != size:
            if done > size:
                self.part.discard()
            reason = f"the store promised {size:,} bytes and sent {done:,}"
            self.problem = Fetched(Outcome.UNREACHABLE, reason)

    def _system(self) -> Any:
        scheme = scheme_of(self.request.url)
        try:
            options = self.store._get_kwargs_from_urls(self.request.url)
            given = self.settings.storage.get(scheme, {})
            return self.store(**_limits(scheme, self.settings.timeout_s) | options | given)
        except (ValueError, TypeError) as error:
            text = describe_error(error, f"{scheme}:// addresses cannot be read: ")
            self.problem = Fetched(Outcome.FAILED, f"{text} (see data.download.storage.{scheme})")
            return None


def _limits(scheme: str, seconds: float) -> dict[str, Any]:
    """Return the options by which a store's own client gives up a silent server."""
    if scheme == "ftp":
        return {"timeout": seconds}
    if scheme in ("sftp", "ssh"):
        return {"timeout": seconds, "banner_timeout": seconds, "auth_timeout": seconds}
    return {}


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: source.read(BLOCK), b"")
