"""Nearest neighbours by cosine, exactly: equally similar rows keep their order.

Shapes: n queries, m rows that are searched, D their width, k neighbours, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256  # queries compared at a time


def unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Bring vectors (n, D) to length 1; zeros stay zeros."""
    exact = vectors.astype(np.float64)
    lengths: NDArray[np.float64] = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.maximum(lengths, 1e-12)


def largest(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return the places of the `count` largest values of the last axis, the largest first."""
    return np.argsort(-values, axis=-1, kind="stable")[..., :count]


def nearest(
    queries: NDArray[Any], rows: NDArray[Any], count: int, digits: int | None = None
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return places in `rows` (n, count) of each query's nearest, nearest first, and their cosines.

    Both are unit vectors, (n, D) and (m, D); of fewer than `count` rows all are returned. Cosines
    are rounded to `digits` where given: then rows that are equal but for the order in which a
    product was summed up are equally similar.
    """
    places, cosines = [], []
    for begin in range(0, len(queries), BLOCK):
        similarity = queries[begin : begin + BLOCK] @ rows.T
        if digits is not None:
            similarity = similarity.round(digits)
        order = largest(similarity, count)
        places.append(order)
        cosines.append(np.take_along_axis(similarity, order, axis=1))
    return np.concatenate(places), np.concatenate(cosines)


def vote_shares(
    classes: NDArray[np.integer[Any]],
    similarities: NDArray[Any],
    count: int,
    temperature: float,
) -> NDArray[np.float64]:
    """Return each class's share of the votes (n, C) of the nearest neighbours.

    A neighbour votes with exp(similarity / T) (Wu et al. 2018, section 3.4).

    Args:
        classes: numbers from 0 of the neighbours' classes, (n, k), nearest first.
        similarities: of the neighbours, (n, k).
        count: C.
        temperature: T.
    """
    weights = np.exp((similarities - similarities[:, :1]) / temperature)  # the nearest has 1
    shares = np.zeros((len(classes), count))
    np.add.at(shares, (np.arange(len(classes))[:, None], classes), weights)
    share: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return share
