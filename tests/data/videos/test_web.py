"""Files from a web server that misbehaves on purpose: each ends whole, or with its reason."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.data.fetch import web
from pipeline.data.fetch.fetched import Fetched
from pipeline.data.records import Outcome
from tests.data.videos.server import SETTINGS, BadServer, Handler, trickle

# Looks like a video to whoever reads its first bytes.
BODY = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00" + bytes(range(256)) * 800


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(web, "FIRST_WAIT_S", 0.05)
    with BadServer() as running:
        yield running


def fetch(server: BadServer, folder: Path, *paths: str, **changes: object) -> dict[str, Fetched]:
    async def collect() -> dict[str, Fetched]:
        requests = [web.Request(server.url(p), folder / (p[1:] + ".mp4")) for p in paths]
        ended = web.fetch_all(requests, SETTINGS.model_copy(update=changes))
        return {request.target.stem: fetched async for request, fetched in ended}

    return asyncio.run(collect())


def test_a_file_comes_whole_with_its_hash(server: BadServer, tmp_path: Path) -> None:
    """Would catch a wrong hash or size, and parts that stay behind."""
    server.answers["/a"] = lambda handler, n: handler.file(BODY)
    got = fetch(server, tmp_path, "/a")["a"]
    assert (got.outcome, got.bytes) == (Outcome.OK, len(BODY))
    assert got.sha256 == hashlib.sha256(BODY).hexdigest()
    assert Path(got.file).read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_dropped_connection_goes_on_where_it_was(server: BadServer, tmp_path: Path) -> None:
    """Would catch starting again from nothing, and bytes that are there twice."""
    server.answers["/a"] = lambda handler, n: handler.file(BODY, send=50_000 if n < 3 else None)
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is Outcome.OK
    assert Path(got.file).read_bytes() == BODY
    assert server.ranges["/a"] == ["", "bytes=50000-", "bytes=100000-"]


def test_a_job_that_was_killed_goes_on_too(server: BadServer, tmp_path: Path) -> None:
    """Would catch a part that only the process that began it can use."""
    server.answers["/a"] = lambda handler, n: handler.file(BODY, send=60_000 if n <= 3 else None)
    first = fetch(server, tmp_path, "/a")["a"]
    assert first.outcome is Outcome.UNREACHABLE
    assert not (tmp_path / "a.mp4").exists()
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.OK
    assert (tmp_path / "a.mp4").read_bytes() == BODY
    assert server.ranges["/a"][3] == "bytes=180000-"


def test_a_file_that_changed_meanwhile_is_not_glued(server: BadServer, tmp_path: Path) -> None:
    """Would catch the beginning of one version with the end of the next."""
    newer = BODY[:20] + bytes(100_000)

    def answer(handler: Handler, number: int) -> None:
        if number == 1:
            handler.file(BODY, send=50_000)
        else:
            handler.file(newer, etag='"v2"')

    server.answers["/a"] = answer
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.OK
    assert (tmp_path / "a.mp4").read_bytes() == newer


def test_a_part_that_is_longer_than_the_file_is_thrown_away(
    server: BadServer, tmp_path: Path
) -> None:
    """Would catch asking for the same impossible range again and again."""
    short = BODY[:1000]

    def answer(handler: Handler, number: int) -> None:
        if number == 1:
            handler.file(BODY, send=50_000)
        else:
            handler.file(short)

    server.answers["/a"] = answer
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.OK
    assert (tmp_path / "a.mp4").read_bytes() == short


def test_a_server_without_ranges_or_validators_is_read_from_the_start(
    server: BadServer, tmp_path: Path
) -> None:
    """Would catch appending a whole file to its own beginning."""
    server.answers["/a"] = lambda handler, n: handler.reply(
        200, BODY, send=50_000 if n == 1 else None, content_type="video/mp4"
    )
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.OK
    assert (tmp_path / "a.mp4").read_bytes() == BODY
    assert server.ranges["/a"] == ["", ""]


@pytest.mark.parametrize(
    ("status", "outcome", "requests"),
    [
        (404, Outcome.MISSING, 1),
        (410, Outcome.MISSING, 1),
        (401, Outcome.FORBIDDEN, 1),
        (403, Outcome.FORBIDDEN, 1),
        (451, Outcome.FORBIDDEN, 1),
        (400, Outcome.FAILED, 1),
        (429, Outcome.THROTTLED, 3),
        (500, Outcome.UNREACHABLE, 3),
        (503, Outcome.UNREACHABLE, 3),
    ],
)
def test_each_refusal_has_its_outcome(
    status: int, outcome: Outcome, requests: int, server: BadServer, tmp_path: Path
) -> None:
    """Would catch asking again where there is no hope, and giving up where there is."""
    server.answers["/a"] = lambda handler, n: handler.reply(status, b"<html>no</html>")
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is outcome
    assert str(status) in got.reason
    assert server.requests["/a"] == requests
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_waited_for(dated: bool, server: BadServer, tmp_path: Path) -> None:
    """Would catch a client that knocks again before it may; servers give seconds, or a date."""
    asked: list[float] = []

    def answer(handler: Handler, number: int) -> None:
        asked.append(time.monotonic())
        if number == 1:
            # Whole seconds: two from now is more than one.
            later = email.utils.formatdate(time.time() + 2, usegmt=True) if dated else "1"
            handler.reply(429, retry_after=later)
        else:
            handler.file(BODY)

    server.answers["/a"] = answer
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.OK
    assert asked[1] - asked[0] >= 1.0


def test_a_server_that_asks_for_an_hour_is_left_alone(server: BadServer, tmp_path: Path) -> None:
    """Would catch a job that sleeps for an hour, and one that ignores the request."""
    server.answers["/a"] = lambda handler, n: handler.reply(503, retry_after="3600")
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is Outcome.THROTTLED
    assert server.requests["/a"] == 1


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "video/mp4", ""])
def test_a_page_with_status_200_is_no_video(kind: str, server: BadServer, tmp_path: Path) -> None:
    """Would catch an error page saved as .mp4, whatever the server calls it."""
    server.answers["/a"] = lambda handler, n: handler.reply(
        200, b"<!DOCTYPE html><html>quota</html>", content_type=kind
    )
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is Outcome.NOT_A_VIDEO
    assert "page" in got.reason
    assert list(tmp_path.iterdir()) == []


def test_an_empty_answer_is_no_video(server: BadServer, tmp_path: Path) -> None:
    """Would catch a file of zero bytes that passes."""
    server.answers["/a"] = lambda handler, n: handler.reply(200)
    assert fetch(server, tmp_path, "/a")["a"].outcome is Outcome.NOT_A_VIDEO


def test_a_promised_length_that_never_comes_is_no_file(server: BadServer, tmp_path: Path) -> None:
    """Would catch half a file taken for a whole one."""
    server.answers["/a"] = lambda handler, n: handler.reply(
        200, BODY, send=1000, content_type="video/mp4"
    )
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is Outcome.UNREACHABLE
    assert "3 attempts" in got.reason
    assert not (tmp_path / "a.mp4").exists()


def test_slow_and_silent_servers_do_not_hold_the_job(server: BadServer, tmp_path: Path) -> None:
    """Would catch waiting for ever: for a first byte, or for a byte now and then."""
    server.answers["/silent"] = lambda handler, n: time.sleep(4)
    server.answers["/trickle"] = lambda handler, n: trickle(handler, BODY[:200], 0.05)
    server.answers["/good"] = lambda handler, n: handler.file(BODY)
    got = fetch(server, tmp_path, "/silent", "/trickle", "/good", timeout_s=1.0)
    assert got["good"].outcome is Outcome.OK
    assert got["silent"].outcome is got["trickle"].outcome is Outcome.UNREACHABLE
    assert "no answer within 1 s" in got["silent"].reason
    assert "bytes/s" in got["trickle"].reason


def test_redirects_are_followed_but_not_in_circles(server: BadServer, tmp_path: Path) -> None:
    """Would catch a redirect page saved as a video, an endless round, and a way to local files."""
    server.answers["/moved"] = lambda handler, n: handler.reply(302, location="/a")
    server.answers["/a"] = lambda handler, n: handler.file(BODY)
    server.answers["/circle"] = lambda handler, n: handler.reply(302, location="/circle")
    server.answers["/file"] = lambda handler, n: handler.reply(302, location="file:///etc/hosts")
    got = fetch(server, tmp_path, "/moved", "/circle", "/file")
    assert got["moved"].outcome is Outcome.OK
    assert got["circle"].outcome is got["file"].outcome is Outcome.FAILED
    assert server.requests["/circle"] < 30


def test_no_server_at_all_is_unreachable(server: BadServer, tmp_path: Path) -> None:
    """Would catch a traceback for a name that does not resolve, or a closed port."""
    server.server_close()
    got = fetch(server, tmp_path, "/a")["a"]
    assert got.outcome is Outcome.UNREACHABLE
    assert "3 attempts" in got.reason


def test_few_connections_per_server_and_many_files(server: BadServer, tmp_path: Path) -> None:
    """Would catch an impolite flood, and fetching one after the other."""

    def answer(handler: Handler, number: int) -> None:
        time.sleep(0.05)
        handler.file(BODY)

    paths = [f"/{number}" for number in range(20)]
    server.answers.update(dict.fromkeys(paths, answer))
    got = fetch(server, tmp_path, *paths)
    assert {fetched.outcome for fetched in got.values()} == {Outcome.OK}
    assert 2 <= server.most_busy <= SETTINGS.per_host
