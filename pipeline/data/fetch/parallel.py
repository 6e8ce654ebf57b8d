"""Calls that wait for others, such as servers, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_as_completed(
    call: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what `call` made of it, in the order in which the calls end.

    Where the caller stops, or a call raises, those that have not begun are given up.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(call, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            for future in futures:
                future.cancel()
