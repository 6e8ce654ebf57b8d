"""YouTube: the wanted part, the right outcome, and an end of asking. yt-dlp asks a local server."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.configuration.schema import Decode, Download
from pipeline.data.decode.transcode import Segment, transcode
from pipeline.data.fetch import youtube
from pipeline.data.fetch.fetched import Fetched
from pipeline.data.fetch.youtube import YoutubeRequest
from pipeline.data.records import Outcome
from pipeline.runtime import ffmpeg
from tests.data.videos.conftest import MakeVideo, number_of
from tests.data.videos.server import SETTINGS, YOUTUBE, BadServer, Handler

yt_dlp = pytest.importorskip("yt_dlp")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    with BadServer() as running:
        yield running


def settings(server: BadServer, **changes: object) -> Download:
    asked = YOUTUBE.model_copy(update={"address": server.url("/"), **changes})
    return SETTINGS.model_copy(update={"youtube": asked, "retries": 0, "timeout_s": 5})


def fetch(given: Download, folder: Path, *wanted: YoutubeRequest) -> dict[str, Fetched]:
    ended = youtube.fetch_all(wanted, given, folder / "refused.json")
    return {each.target.stem: fetched for each, fetched in ended}


def numbers(path: Path, segment: Segment, decode: Decode, folder: Path) -> list[int]:
    """Decode a part of a video of numbered frames; return their numbers."""
    made = folder / "made.mp4"
    assert transcode(path, made, segment, decode).outcome is Outcome.OK
    command = ["-i", str(made), "-f", "rawvideo", "-pix_fmt", "rgb24", "-fps_mode", "passthrough"]
    raw = subprocess.run(
        [ffmpeg.executable(), "-v", "error", *command, "-"], capture_output=True, check=True
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 64, 64, 3)
    return [number_of(frame) for frame in frames]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("long-gop.mp4", ["-c:v", "libx264", "-g", "60", "-bf", "3", "-pix_fmt", "yuv420p"]),
        ("vp9.webm", ["-c:v", "libvpx-vp9", "-g", "60", "-pix_fmt", "yuv420p"]),
    ],
)
def test_a_part_begins_and_ends_where_it_is_asked_for(
    name: str, options: list[str], make_video: MakeVideo, decode: Decode, server: BadServer,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Would catch a part that begins at the keyframe before, seconds too early; and one that needs
    an ffmpeg of the system."""
    monkeypatch.setenv("PATH", "")
    body = make_video(name, 300, *options, "-movflags", "+faststart").read_bytes()
    given = settings(server)
    kind = f"video/{Path(name).suffix[1:]}"

    def answer(handler: Handler, number: int) -> None:
        handler.file(body, kind=kind)

    server.answers["/abc"] = answer
    part = YoutubeRequest("abc", tmp_path / "part.video", 5.0, 7.0)
    whole = YoutubeRequest("abc", tmp_path / "whole.video")
    got = fetch(given, tmp_path, part, whole)
    assert {fetched.outcome for fetched in got.values()} == {Outcome.OK}, got
    assert (got["part"].cut, got["whole"].cut) == (True, False)
    assert (tmp_path / "whole.video").read_bytes() == body
    assert len((tmp_path / "part.video").read_bytes()) < len(body)
    # What the download stage says of a part: all of it from its beginning, for two seconds.
    cut = numbers(tmp_path / "part.video", Segment(None, 2.0), decode, tmp_path)
    assert cut == numbers(tmp_path / "whole.video", Segment(5.0, 7.0), decode, tmp_path)
    assert cut == list(range(125, 175))
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".video", ".mp4")]
    requests = server.requests.total()
    assert fetch(given, tmp_path, part)["part"] == got["part"]
    assert server.requests.total() == requests


def test_refusals_and_absence_are_told_apart_and_asking_ends(
    server: BadServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Would catch going on against a closed door, and a gone video counted as a refusal."""
    for name in "abcdefgh":
        server.answers[f"/{name}"] = lambda handler, n: handler.reply(429)
    server.answers["/b"] = lambda handler, n: handler.reply(404)
    given = settings(server)
    got = fetch(given, tmp_path, *(YoutubeRequest(n, tmp_path / f"{n}.video") for n in "abcdefgh"))
    assert got["b"].outcome is Outcome.MISSING
    assert {got[n].outcome for n in "acdefgh"} == {Outcome.THROTTLED}
    # a is refused, b is gone, and c, d, e are three refusals in a row.
    assert {path[1] for path in server.requests} == set("abcde")
    assert all("not asked" in got[n].reason for n in "fgh")
    assert "HTTP Error 429" in got["a"].reason
    said = capsys.readouterr().out
    assert "refused 3 videos in a row" in said
    assert "asked for when the download stage runs again" in said
    # Another job asks nothing in the meantime; when the rest is over, it does.
    requests = server.requests.total()
    assert (
        fetch(given, tmp_path, YoutubeRequest("a", tmp_path / "a.video"))["a"].outcome
        == "throttled"
    )
    assert server.requests.total() == requests
    (tmp_path / "refused.json").write_text('{"until": 5}')
    fetch(given, tmp_path, YoutubeRequest("a", tmp_path / "a.video"))
    assert server.requests.total() > requests
    assert not list(tmp_path.glob(".*claim"))


def test_no_server_is_not_a_missing_video(server: BadServer, tmp_path: Path) -> None:
    """Would catch a video given up for ever because the network was away."""
    given = settings(server)
    server.shutdown()
    server.server_close()
    got = fetch(given, tmp_path, YoutubeRequest("a", tmp_path / "a.video"))["a"]
    assert got.outcome is Outcome.UNREACHABLE


# As yt-dlp 2026.10 words them, or passes on from YouTube's pages.
MESSAGES = {
    Outcome.THROTTLED: [
        "[youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies "
        "for the authentication.",
        "[youtube] x: Sign in to confirm you're not a bot. This helps protect our community.",
        "[youtube] x: Video unavailable. This content isn't available, try again later. The "
        "current session has been rate-limited by YouTube for up to an hour.",
        "[youtube] x: Unable to download API page: HTTP Error 429: Too Many Requests (caused by "
        "<HTTPError 429: Too Many Requests>)",
        "unable to download video data: HTTP Error 403: Forbidden",
        "[youtube] x: All player responses are invalid. Your IP is likely being blocked by Youtube",
        "[youtube] x: Unable to download webpage: HTTP Error 402: Payment Required",
        "[youtube] x: x. YouTube is requiring a captcha challenge before playback",
    ],
    Outcome.MISSING: [
        "[youtube] x: Video unavailable",
        "[youtube] x: Video unavailable. This video has been removed by the uploader",
        "[youtube] x: Video unavailable. This video is no longer available because the YouTube "
        "account associated with this video has been terminated.",
        "[youtube] x: Video unavailable. This video is no longer available due to a copyright "
        "claim by X",
        "[youtube] x: This video has been removed for violating YouTube's Terms of Service",
        "[youtube] x: This video is not available",
        "[youtube:truncated_id] x: Incomplete YouTube ID x. URL https://youtu.be/x is cut.",
    ],
    Outcome.FORBIDDEN: [
        "[youtube] x: Private video. Sign in if you've been granted access to this video. Use "
        "--cookies-from-browser or --cookies for the authentication.",
        "[youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.",
        "[youtube] x: Join this channel to get access to members-only content like this video",
        "[youtube] x: The uploader has not made this video available in your country",
        "[youtube] x: Video unavailable. This video contains content from X, who has blocked it in "
        "your country on copyright grounds",
        "[youtube] x: This video is DRM protected",
        "[youtube] x: This video requires payment to watch",
    ],
    Outcome.UNREACHABLE: [
        "[youtube] x: Unable to download API page: HTTPSConnectionPool(host='www.youtube.com', "
        "port=443): Read timed out. (read timeout=20.0)",
        "[youtube] x: Unable to download webpage: [Errno -3] Temporary failure in name resolution",
        "[youtube] x: Unable to download webpage: HTTP Error 503: Service Unavailable",
        "ffmpeg exited with code 1",
    ],
    Outcome.FAILED: [
        "[youtube] x: Requested format is not available. Use --list-formats for a list",
        "[youtube] x: Unable to extract yt initial data; please report this issue",
    ],
}


@pytest.mark.parametrize(
    ("message", "outcome"), [(text, kind) for kind, texts in MESSAGES.items() for text in texts]
)
def test_each_message_has_its_outcome(message: str, outcome: Outcome) -> None:
    """Would catch a refusal taken for a gone video, which nobody would ask for again."""
    assert youtube.classify(message) is outcome


def test_the_messages_of_refusal_are_still_yt_dlp_s() -> None:
    """Would catch a new yt-dlp that words the rate limit in another way."""
    from yt_dlp.extractor.youtube import _video

    source = inspect.getsource(_video)
    for phrase in ("try again later", "rate-limited by YouTube", "Your IP is likely being blocked",
                   "not made this video available in your country", "captcha"):  # fmt: skip
        assert re.search(phrase, source), phrase


def test_the_cookies_have_to_be_there(server: BadServer, tmp_path: Path) -> None:
    """Would catch asking as a guest where the user believes to be logged in."""
    with pytest.raises(Exception, match="no such file of cookies"):
        fetch(
            settings(server, cookies="no.txt"), tmp_path, YoutubeRequest("a", tmp_path / "a.video")
        )
