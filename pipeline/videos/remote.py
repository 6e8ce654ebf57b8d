"""Files at addresses that fsspec knows: `s3://`, `gs://`, `sftp://`, `hf://`, `file://`, ..."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

from pipeline.configuration.schema import Download
from pipeline.errors import UserError
from pipeline.files import disk_full
from pipeline.records import Outcome
from pipeline.videos.addresses import scheme_of
from pipeline.videos.claims import Claim
from pipeline.videos.download import Fetched, present
from pipeline.videos.parallel import as_they_end
from pipeline.videos.partial import Partial
from pipeline.videos.web import FIRST_WAIT_S, Request

BLOCK = 2**20
EXTRAS = {"s3": "cloud", "s3a": "cloud", "gs": "cloud", "gcs": "cloud"}  # of this project


def fetch_all(requests: Iterable[Request], settings: Download) -> Iterator[tuple[Request, Fetched]]:
    """Yield each request with what became of it, as they end.

    Raises:
        UserError: the package for a scheme is not installed, or the disk is full.
    """
    yield from as_they_end(
        functools.partial(_fetch, settings=settings), requests, settings.connections
    )


def _fetch(request: Request, settings: Download) -> Fetched:
    """Fetch the file, unless another job does; then wait for that one."""
    system, path = _system(request.url, settings)
    claim = Claim(request.target)
    claim.wait()
    try:
        if found := present(request.target, request.sha256s, request.inspect):
            return found
        for attempt in range(1, settings.retries + 2):
            fetched = _attempt(request, system, path, claim.token)
            if fetched.outcome is not Outcome.UNREACHABLE or attempt > settings.retries:
                return fetched
            time.sleep(FIRST_WAIT_S * 2.0 ** (attempt - 1))
        raise AssertionError("unreachable")
    finally:
        claim.release()


def _system(url: str, settings: Download) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    scheme = scheme_of(url)
    try:
        system, path = url_to_fs(url, **settings.storage.get(scheme, {}))
    except ImportError as error:
        extra = EXTRAS.get(scheme)
        remedy = f"pip install 'sigma-pipeline[{extra}]'" if extra else str(error)
        raise UserError(
            f"the package that reads {scheme}:// addresses is not installed",
            place=url,
            remedy=remedy,
        ) from None
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{scheme}:// addresses cannot be read: {error}"[:300],
            place=url,
            remedy=f"see data.download.storage.{scheme}",
        ) from None
    return system, path


def _attempt(request: Request, system: Any, path: str, token: str) -> Fetched:
    part = Partial(request.url, request.target, token)
    try:
        info = system.info(path)
        if info["type"] != "file":
            return Fetched(Outcome.NOT_A_VIDEO, "a folder, not a video")
        size, version = info.get("size"), str(system.ukey(path))
        done, begun = part.begun()
        with system.open(path, "rb") as source:
            if done and begun == version:
                source.seek(done)
                handle = part.resume()
            else:
                done, handle = 0, part.restart(version)
            with handle:
                done += _copy(source, handle)
        if size is not None and done != size:
            if done > size:
                part.discard()
            reason = f"the store promised {size:,} bytes and sent {done:,}"
            return Fetched(Outcome.UNREACHABLE, reason)
        return part.finish(request.inspect)
    except FileNotFoundError:
        return Fetched(Outcome.MISSING, "the store has no such file")
    except PermissionError as error:
        return Fetched(Outcome.FORBIDDEN, f"the store refuses: {error}"[:200])
    except OSError as error:
        if full := disk_full(error, request.target.parent):
            raise full from None
        return Fetched(Outcome.UNREACHABLE, _said(error))
    except Exception as error:  # noqa: BLE001 - each store has exceptions of its own
        outcome = Outcome.FORBIDDEN if "redentials" in repr(error) else Outcome.UNREACHABLE
        return Fetched(outcome, _said(error))


def _copy(source: IO[bytes], target: IO[bytes]) -> int:
    count = 0
    while block := source.read(BLOCK):
        target.write(block)
        count += len(block)
    return count


def _said(error: Exception) -> str:
    return f"the store cannot be read: {type(error).__name__}: {error}"[:200]
