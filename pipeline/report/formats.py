"""How the report writes numbers and lists, and the environment of its templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from pipeline.report.comparison import p_text
from pipeline.report.tables import probe_name
from pipeline.runtime import pages
from pipeline.runtime.progress import binary_bytes, duration

TEMPLATES = Path(__file__).parent / "templates"
WORDS = ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")


@cache
def environment() -> Environment:
    """Return the environment of the report's templates."""
    return pages.environment(
        TEMPLATES,
        {
            "percent": percent,
            "points": points,
            "bytes": binary_bytes,
            "duration": duration,
            "probe": probe_name,
            "script_json": script_json,
            "listed": listed,
            "count": count,
            "in_words": in_words,
            "p": p_text,
            "census": census_line,
        },
    )


def percent(share: float | None, digits: int = 1) -> str:
    """Write a share from 0 to 1 in per cent, without the sign."""
    return "–" if share is None else f"{100 * share:.{digits}f}"


def points(gain: float | None) -> str:
    """Write a difference of two shares in percentage points, with its sign."""
    return "–" if gain is None else f"{100 * gain:+.1f}".replace("-", "−")


def listed(items: Sequence[object]) -> str:
    """Join with commas and a last `and`."""
    texts = [str(item) for item in items]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def count(number: int, one: str) -> str:
    """Write such as `1 clip`, `2,000 clips`."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def in_words(number: int) -> str:
    """Write a number that begins a sentence, such as `Two`."""
    return WORDS[number - 1] if 1 <= number <= len(WORDS) else f"{number:,}"


def census_line(census: dict[str, int]) -> str:
    """Say what became of the clips: `18 of 25 ok, 7 lost: corrupt 3, too short 2, ...`."""
    total, good = sum(census.values()), census.get("ok", 0)
    if good == total:
        return f"{total:,} ok"
    lost = {name: count for name, count in census.items() if name != "ok"}
    ranked = sorted(lost.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in ranked)
    return f"{good:,} of {total:,} ok, {total - good:,} lost: {named}"


def script_json(text: str) -> Markup:
    """Make JSON safe inside a script element: `<` cannot end it, nor `<!--` begin a comment."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704
