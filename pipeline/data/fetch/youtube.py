"""Videos from YouTube through yt-dlp: the requested part alone, and not while YouTube blocks us.

YouTube tells a guest who asks too often to go away, in many words, and answers nothing for a while;
a video that is gone is gone for good. The two must not be confused: the one is asked for again
another day, the other never.
"""

from __future__ import annotations

import errno
import functools
import random
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.configuration.schema import Download
from pipeline.data.fetch.fetched import Fetched, failed, find_existing, inspect
from pipeline.data.fetch.parallel import map_as_completed
from pipeline.data.fetch.request import Allowance, TooLarge
from pipeline.data.records import Outcome
from pipeline.errors import UserError
from pipeline.runtime import claims, ffmpeg
from pipeline.runtime.files import read_json, write_json

FINAL = {Outcome.MISSING, Outcome.FORBIDDEN}  # not asked for again
TAIL_S = 1.0  # more than is asked for at the end, since a copied stream ends at a packet

# What yt-dlp says, from its YouTube extractor and from what YouTube writes on the page; the first
# that occurs counts. "This content isn't available, try again later" is the rate limit.
_SAID: tuple[tuple[Outcome, str], ...] = (
    (
        Outcome.THROTTLED,
        r"not a bot|try again later|rate.limit|too many requests|captcha|HTTP Error (429|402)"
        r"|IP is likely being blocked|unusual traffic|Failed to extract any player response",
    ),
    (
        Outcome.FORBIDDEN,
        r"private video|video is private|confirm your age|age.restricted|members.only|members on"
        r"|join this channel|not made this video available in your country|geo.?restrict"
        r"|not available (in|from) your (country|location|region)|blocked it (in|on)"
        r"|requires payment|purchase|DRM protected|login required|sign in",
    ),
    (
        Outcome.MISSING,
        r"video unavailable|has been removed|no longer available|account .* terminated"
        r"|been terminated|does not exist|video is not available|is unavailable"
        r"|violat|copyright|HTTP Error (404|410)|Incomplete YouTube ID|deleted",
    ),
    (
        Outcome.UNREACHABLE,
        r"timed out|timeout|connection|name resolution|getaddrinfo|unreachable|HTTP Error 5\d\d"
        r"|IncompleteRead|bytes read|Got error|SSL|ffmpeg exited|Remote end closed",
    ),
)


@dataclass(frozen=True)
class YoutubeRequest:
    """A video, or the part of it from `start` to `end` (seconds), and where to put it."""

    youtube_id: str
    target: Path
    start: float | None = None
    end: float | None = None

    @property
    def is_part(self) -> bool:
        """Whether only a part of the video is asked for."""
        return self.start is not None or self.end is not None


def classify(message: str) -> Outcome:
    """Return what an error message of yt-dlp means.

    403 for the video itself is a sign of throttling, too: the page was given before.
    """
    for outcome, pattern in _SAID:
        if re.search(pattern, message, re.IGNORECASE):
            return outcome
    return Outcome.THROTTLED if "HTTP Error 403" in message else Outcome.FAILED


def fetch_all(
    requests: Iterable[YoutubeRequest], settings: Download, rest: Path
) -> Iterator[tuple[YoutubeRequest, Fetched]]:
    """Yield each with what became of it, as they end.

    After `refusals` in a row none is asked for: the others end as throttled, here and in every job
    that sees the file `rest` within `rest_s` seconds.

    Raises:
        UserError: the cookies file is not there.
    """
    cookies = settings.youtube.cookies
    if cookies and not Path(cookies).is_file():
        raise UserError(
            "there is no such file of cookies",
            place=f"data.download.youtube.cookies: {cookies}",
            remedy="export one in Netscape's format, or set it to null",
        )
    fetcher = _Fetcher(settings, RateLimitGuard(settings, rest))
    yield from map_as_completed(fetcher.fetch, requests, settings.youtube.connections)


class RateLimitGuard:
    """Counts refusals in a row; too many of them block the requests of all jobs for a while."""

    def __init__(self, settings: Download, rest: Path) -> None:
        self.settings, self.rest = settings.youtube, rest
        self.lock = threading.Lock()
        self.refused = 0

    def blocked_reason(self) -> str:
        """Return why nothing may be asked for now; empty where it may."""
        try:
            until = float(read_json(self.rest)["until"])
        except (OSError, ValueError, LookupError, TypeError):
            return ""
        if until <= time.time():
            return ""
        return f"not asked: YouTube refused {self.settings.refusals} in a row"

    def record(self, outcome: Outcome) -> None:
        """Count how a request ended."""
        with self.lock:
            if outcome is Outcome.OK or outcome in FINAL:
                self.refused = 0
            if outcome is not Outcome.THROTTLED:
                return
            self.refused += 1
            if self.refused < self.settings.refusals or self.blocked_reason():
                return
            write_json(self.rest, {"until": time.time() + self.settings.rest_s})
            minutes = self.settings.rest_s / 60
            print(
                f"YouTube refused {self.refused} videos in a row: none is asked for in the next "
                f"{minutes:.0f} minutes (remove {self.rest} to ask before). The others are "
                "recorded as throttled, and asked for when the download stage runs again.",
                flush=True,
            )


class _Fetcher:
    """Fetches one video at a time in each thread."""

    def __init__(self, settings: Download, guard: RateLimitGuard) -> None:
        self.settings, self.guard = settings, guard

    def fetch(self, request: YoutubeRequest) -> Fetched:
        """Fetch the video, unless another job does; then wait for that one."""
        try:
            return self._fetch(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            return failed(error)

    def _fetch(self, request: YoutubeRequest) -> Fetched:
        with claims.held(request.target) as claim:
            if existing := find_existing(request.target, (), inspect):
                return replace(existing, cut=request.is_part)
            for attempt in range(1, self.settings.retries + 2):
                if reason := self.guard.blocked_reason():
                    return Fetched(Outcome.THROTTLED, reason)
                time.sleep(random.uniform(*self.settings.youtube.pause_s))
                fetched = self._attempt(request, claim.token)
                self.guard.record(fetched.outcome)
                if fetched.outcome is not Outcome.UNREACHABLE or attempt > self.settings.retries:
                    return fetched
        raise AssertionError("unreachable")

    def _attempt(self, request: YoutubeRequest, token: str) -> Fetched:
        """Ask once."""
        from yt_dlp.utils import YoutubeDLError

        folder = request.target.parent
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{request.target.stem}.{token}"
        allowance = Allowance(self.settings.max_bytes)
        try:
            path = self._download(request, folder, stem, exact=False)
            if request.is_part and path.suffix != ".mp4":
                # Only mp4 says where in the copied stream the part begins: encode another anew.
                path = self._download(request, folder, stem, exact=True)
            allowance.check(request.target, path.stat().st_size)
            fetched = inspect(path)
            if fetched.outcome is not Outcome.OK:
                return fetched
            path.replace(request.target)
            return replace(fetched, file=request.target.as_posix(), cut=request.is_part)
        except YoutubeDLError as error:
            message = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).removeprefix("ERROR: ")
            _check_space(folder, message)
            return Fetched(classify(message), _short(message))
        except TooLarge as error:
            return Fetched(Outcome.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - yt-dlp runs what is written for a page
            return failed(error)
        finally:
            for left in folder.glob(f"{stem}.*"):
                left.unlink(missing_ok=True)

    def _download(self, request: YoutubeRequest, folder: Path, stem: str, *, exact: bool) -> Path:
        import yt_dlp
        from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor

        # Not as an option: without any, yt-dlp asks whether it can download parts.
        FFmpegPostProcessor._ffmpeg_location.set(ffmpeg.executable())
        options = self._options(request) | {
            "outtmpl": {"default": f"{folder.absolute().as_posix()}/{stem}.%(ext)s"},
            "force_keyframes_at_cuts": exact,
            "overwrites": True,
            "progress_hooks": [functools.partial(_check_size, Allowance(self.settings.max_bytes))],
        }
        with yt_dlp.YoutubeDL(options) as ydl:
            info = ydl.extract_info(self.settings.youtube.address + request.youtube_id)
        if not info or not info.get("requested_downloads"):
            raise yt_dlp.utils.DownloadError("nothing was downloaded")
        return Path(info["requested_downloads"][0]["filepath"])

    def _options(self, request: YoutubeRequest) -> dict[str, Any]:
        """Return what yt-dlp is told for any video."""
        from yt_dlp.utils import download_range_func

        youtube = self.settings.youtube
        microseconds = round(self.settings.timeout_s * 1e6)
        options: dict[str, Any] = {
            "format": youtube.format,
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _Silent(),
            "noplaylist": True,
            "cachedir": False,
            "socket_timeout": self.settings.timeout_s,
            "retries": self.settings.retries,
            "extractor_retries": 0,
            "ratelimit": youtube.bytes_per_s,
            "cookiefile": youtube.cookies,
            "js_runtimes": {name: {} for name in youtube.runtimes},
            "merge_output_format": "mp4/mkv",
            # ffmpeg itself would wait for a silent server for ever.
            "external_downloader_args": {
                "ffmpeg": ["-loglevel", "error", "-nostats"],
                "ffmpeg_i": ["-rw_timeout", str(microseconds)],
                "ffmpeg_o": ["-fs", str(self.settings.max_bytes + 1)],
            },
        }
        if request.is_part:
            end = float("inf") if request.end is None else request.end + TAIL_S
            options["download_ranges"] = download_range_func(None, [(request.start or 0.0, end)])
        return options


class _Silent:
    """yt-dlp's messages come with the exceptions."""

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def _check_size(allowance: Allowance, progress: dict[str, Any]) -> None:
    """Raise TooLarge as soon as too much of a file has come; yt-dlp calls it while it comes."""
    size = max(progress.get("total_bytes") or 0, progress.get("downloaded_bytes") or 0)
    allowance.check(Path(progress.get("filename") or ""), size)


def _check_space(folder: Path, message: str) -> None:
    """Raise where a download failed because the disk is full: yt-dlp says it among other words."""
    full = re.search(r"No space left|[Qq]uota exceeded", message)
    if full or shutil.disk_usage(folder).free < 2**20:
        raise OSError(errno.ENOSPC, message[:200], str(folder))


def _short(message: str) -> str:
    """Return the first sentence or two of what yt-dlp says, on one line."""
    line = " ".join(message.split())
    line = re.split(
        r"(?: \(caused by|; please report| Use --cookies| See +https| It is recommended)", line
    )[0]
    return f"YouTube: {line}"[:200]
