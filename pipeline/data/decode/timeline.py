"""Which picture of a source each frame of a clip shows, as filters of ffmpeg.

A picture is shown until the next one. Time counts from the beginning of the file, as players count
it; where its sound begins up to `LEAD_S` before its pictures (the run-up of its encoder), from the
first picture.

A segment's first frame is the picture on display at `start`. All frames lie on a grid of 1 / rate
through the time at which that picture appeared, and each shows what is on display in the middle of
its time. So every picture of a source of constant rate is there once, wherever `start` lies between
two of them and however a container rounds times; and nothing after `end` is shown.

What filters remember would be lost where ffmpeg builds them anew, as it does where size or colours
change: it must be run with `-reinit_filter 0`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HIGHEST_RATE = 120  # frames a second; some headers of variable-rate files say 1,000 or 90,000
LEAD_S = 0.1
SLACK_S = 0.001  # Matroska rounds times to milliseconds
# Of a clip without an end: so many frames, and so many for each of its pictures. A GIF of a
# kilobyte can ask for hours.
MOST_FRAMES, MOST_FRAMES_A_PICTURE = 100_000, 1_000
# By how many frames pictures may be off that are counted: of a program stream whose times go back;
# and of a file that says no times of display, where they have to be of constant rate.
MOST_OFF = {"watched": 4.0, "decoding": 0.1}
# What shows that times are not those of display.
_WRONG = {"watched": "lte(pts,prev_pts)", "decoding": "eq(pict_type,B)"}
# What the filters print is known by its log level.
FIRST, BEFORE, STANDS_STILL, GOES_BACK = 40, 32, 24, 16  # verbose, info, warning, error

Times = Literal["told", "watched", "decoding"]


@dataclass(frozen=True)
class TimeRange:
    """What is wanted of a source: seconds from its beginning."""

    start: float | None = None  # None: begin with the first picture, whenever it appears
    end: float | None = None
    longest: float | None = None
    lead: float | None = None  # time of the first picture; None: it will be the first one decoded
    from_first: bool = False  # time counts from the first picture, whenever that comes
    # the times of pictures: as the stream says; so, but watched that none goes back, or that none
    # is a B-frame, as the times are those of decoding
    times: Times = "told"
    counted: bool = False  # at the stream's rate, as it says times that are a few frames off

    @property
    def seconds(self) -> float | None:
        """Length of the clip; None: to the end of the video."""
        lengths = [] if self.end is None else [self.end - (self.start or 0.0)]
        lengths += [] if self.longest is None else [self.longest]
        return min(lengths, default=None)


def reached(part: TimeRange, lead: float, first: float | None) -> bool:
    """Whether the first picture (its time in seconds) is on display at the beginning, or before."""
    return first is not None and first <= (part.start or 0.0) + lead + SLACK_S + 1e-6


def filters(part: TimeRange, fps: float | None, *, midst: bool) -> list[str]:
    """Return the filters.

    They print the time (s) of the first picture (level `FIRST`), of each one up to `start`, and
    when pictures end before it (`BEFORE`); that the clip would be far too long (`STANDS_STILL`);
    that its time is not that of its display (`GOES_BACK`: `TimeRange.times`); and, as pictures are
    counted, that one is more than `MOST_OFF` frames from its time.

    Args:
        midst: reading begins in the midst of the file; what comes before the first keyframe refers
            to pictures that were not read.
    """
    begun = "max(ld(0),key)" if midst else "1"
    told = f"if(ld(0)*not(ld(1)),print(t,{FIRST});st(1,1))"
    if wrong := _WRONG.get(part.times) if not part.counted else None:
        told += f";if({wrong},print(t,{GOES_BACK}))"
    rate = f"min(FR,{HIGHEST_RATE})" if fps is None else f"{fps!r}"
    source = f"min(source_fps\\,{HIGHEST_RATE})" if fps is None else rate
    shift = _whole() if part.start is None else _from(part, rate)
    longest = "1e12" if part.seconds is None else f"{part.seconds!r}"
    most = f"{MOST_FRAMES}+{MOST_FRAMES_A_PICTURE}*N"
    shift += f";if(gt(min(ld(9)*TB,{longest})*({rate}),{most}),print(T,{STANDS_STILL}));ld(9)"
    counted = [f"setpts='{_counted(MOST_OFF[part.times])}'"] if part.counted else []
    chain = [f"select='st(0,{begun});{told};ld(0)'", *counted, f"setpts='{shift}'", f"fps={source}"]
    if part.end is not None:
        chain.append(f"trim=end={max(0.0, part.end - (part.start or 0.0)):.6f}")
    if part.start is not None:
        chain.append("setpts=PTS-STARTPTS")  # after a late beginning
    if part.longest is not None:
        chain.append(f"trim=end={part.longest:.6f}")
    return chain


def _counted(most_off: float) -> str:
    """Return the expression of times that lie 1 / rate apart; it prints where they are far off."""
    off = "abs(PTS-STARTPTS-N/(FR*TB))*TB*FR"
    return f"if(gt({off},{most_off}),print(T,{GOES_BACK}));STARTPTS+N/(FR*TB)"


def _whole() -> str:
    """Return the expression of new times, in register 9: from the first picture on."""
    return "st(9,PTS-STARTPTS)"


def _from(part: TimeRange, rate: str) -> str:
    """Return the expression of new times, in register 9: 0 for all pictures up to the one on
    display at `start`, of which the filter `fps` keeps the last; then since the grid's beginning.

    Registers: 0, the first picture's time where that is the beginning; 1, `start`; 2, time of the
    last picture before it; 3, whether there was one; 4, the grid's beginning; 5, whether it is
    known. Times are in units of TB, which are exact. Where pictures begin later than the segment,
    the grid goes through the first one.
    """
    most = "1e12" if part.from_first else f"{LEAD_S}"
    first = f"if(lte(T,{most}),PTS,0)" if part.lead is None else f"{part.lead!r}/TB"
    start = (part.start or 0.0) + SLACK_S
    slots = f"TB*({rate})"
    on_display = f"ld(2)+floor((ld(1)-ld(2))*{slots})/({slots})"
    late = f"PTS-round((PTS-ld(1))*{slots})/({slots})"
    before = f"st(3,1);st(2,PTS);print(T,{BEFORE});st(9,0)"
    grid = f"if(ld(5),0,st(5,1);st(4,if(ld(3),{on_display},{late})))"
    return (
        f"if(N,0,st(0,{first}));st(1,{start!r}/TB+ld(0));"
        f"if(lte(PTS,ld(1)),{before},{grid};st(9,round(PTS-ld(4))))"
    )
