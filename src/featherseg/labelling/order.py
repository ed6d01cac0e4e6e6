"""The order in which labelling images would teach a network most: what it is unsure of, and no street twice.

Frames of which a network is unsure are often frames of one place, and one of them teaches what all of them do. So each
next image is the one whose uncertainty times its distance to the nearest image that comes before, or is labelled
already, is largest: k-centre greedy (Sener and Savarese, arXiv 1708.00489, algorithm 1) weighed by uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .look import FloatArray, Look

GREEDY = 2000
"""So many images are chosen one by one; those that come after them, by what they would have been chosen by then."""


def teaching_order(scores: Sequence[float], features: FloatArray, labelled: Sequence[int] = ()) -> list[int]:
    """Return the places of images, what would teach most first; those that are labelled are left out.

    Args:
        scores: how unsure the network is of each, ≥ 0.
        features: a vector for each, float32 (N, F); alike images have near ones.
        labelled: places of images that need no labels any more.
    """
    unsure = np.maximum(np.asarray(scores, np.float64), 1e-9)
    squares = np.square(features, dtype=np.float64).sum(axis=1)
    nearest = np.full(len(unsure), np.inf)
    free = np.ones(len(unsure), np.bool_)
    for place in labelled:
        nearest = np.minimum(nearest, _distances(features, squares, place))
        free[place] = False
    found: list[int] = []
    while free.any() and len(found) < GREEDY:
        gain = np.where(free, unsure * np.where(np.isinf(nearest), 1.0, nearest), -1.0)
        place = int(gain.argmax())
        found.append(place)
        free[place] = False
        nearest = np.minimum(nearest, _distances(features, squares, place))
    rest = np.flatnonzero(free)
    gain = unsure[rest] * nearest[rest]
    return [*found, *rest[np.argsort(-gain, kind="stable")].tolist()]


def features_of(looks: Sequence[Look]) -> FloatArray:
    """Return a vector for each image, float32 (N, F): layout and colours, which weigh as much as each other."""
    blocks = []
    for block in (np.stack([look.layout for look in looks]), np.stack([look.colors for look in looks])):
        spread = float(np.sqrt(np.square(block - block.mean(axis=0)).sum(axis=1).mean()))
        blocks.append(block / max(spread, 1e-6))
    features: FloatArray = np.concatenate(blocks, axis=1).astype(np.float32)
    return features


def _distances(features: FloatArray, squares: NDArray[np.float64], place: int) -> NDArray[np.float64]:
    """Return how far all images are from one."""
    products = features @ features[place]
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares + squares[place] - 2 * products, 0.0))
    distances[place] = 0.0
    return distances
