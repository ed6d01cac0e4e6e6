"""Pictures that look alike: a 64-bit difference hash and a thumbnail of each, compared without the pictures.

The hash says whether each cell of a 9x8 picture is darker than its right neighbour (dHash, N. Krawetz, "Kind of like
that", 2013). Scaling, compression and brightness hardly change it; the thumbnail rejects chance hits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.types import ImageArray

HASH_DISTANCE = 10
"""Bits of 64 in which two near duplicates may differ. Unlike photographs differ in about 28, the most alike of
VOC2012's 60,000 train-val pairs in 11."""
THUMB_DISTANCE = 12.0
"""Mean difference of two near duplicates' thumbnails, in grey levels."""
UNUSUAL = 3.5
"""Deviations below the middle of the logarithms of unlike pictures' distances at which two are unusually alike; so few
of unrelated pairs lie there that it is not chance in sets of a thousand pictures."""
FEWEST_PAIRS = 10
"""Pairs of unrelated pictures from which it is known how alike a set is in itself."""
MOST_PAIRS = 20_000
SMALLEST = 0.25
"""Grey levels below which distances of thumbnails are rounding."""
APART_RATIO = 0.8
"""Part of the distance of any two frames that neighbouring frames of a recording have at most."""
RECORDING_DISTANCE = 20
"""Bits in which half of the neighbouring frames of a recording differ at most: 12 in CamVid, 30 in VOC2012, whose
files are numbered too."""
SOME_FRAMES = 64
"""Frames of a recording, spread evenly, of which any two are compared."""
RECORDING_FRAMES = 8
"""Fewest frames that are taken for a recording."""
THUMB = 8
ROWS = 512
"""Hashes compared with all others at a time."""
CANDIDATES = 64
"""Pictures of a close hash whose thumbnails are looked at: in a long recording there are many."""

_NUMBERED = re.compile(r"^(.*?)(\d+)\D*$")


def difference_hash(image: ImageArray) -> int:
    """Return the 64-bit difference hash of an RGB image, uint8 (H, W, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = np.asarray(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def thumbnail(image: ImageArray) -> NDArray[np.uint8]:
    """Return an RGB image as uint8 (8, 8, 3)."""
    return np.asarray(cv2.resize(image, (THUMB, THUMB), interpolation=cv2.INTER_AREA), np.uint8)


def near(
    hashes: NDArray[np.uint64],
    thumbs: NDArray[np.uint8],
    other_hashes: NDArray[np.uint64],
    other_thumbs: NDArray[np.uint8],
    *,
    earlier: bool = False,
    limit: float = THUMB_DISTANCE,
) -> dict[int, int]:
    """Find a near duplicate of each picture among others, in rows of ``ROWS``: memory does not grow with their square.

    Args:
        hashes: of the pictures, (N,).
        thumbs: uint8 (N, 8, 8, 3).
        other_hashes: of the others, (M,).
        other_thumbs: uint8 (M, 8, 8, 3).
        earlier: the others are the pictures themselves, and only those before a picture count.
        limit: largest distance of two near duplicates' thumbnails, see :func:`unusual_distance`.

    Returns:
        place of a near duplicate by place of the picture; pictures without one are not in it.
    """
    found: dict[int, int] = {}
    others = np.arange(len(other_hashes))
    for start in range(0, len(hashes), ROWS):
        part = hashes[start : start + ROWS]
        close = np.bitwise_count(part[:, None] ^ other_hashes[None]) <= HASH_DISTANCE
        if earlier:
            close &= others[None] < np.arange(start, start + len(part))[:, None]
        for row in np.flatnonzero(close.any(axis=1)):
            index, some = start + int(row), np.flatnonzero(close[row])[:CANDIDATES]
            apart = np.abs(other_thumbs[some].astype(np.int16) - thumbs[index]).mean(axis=(1, 2, 3))
            if apart.min() <= limit:
                found[index] = int(some[apart.argmin()])
    return found


def unusual_distance(thumbs: NDArray[np.uint8], groups: Sequence[str]) -> float:
    """Return the distance of thumbnails below which two pictures are unusually alike for their set.

    Retinas, X-rays and slices of a volume all look alike: only what lies far below the distances of unrelated pictures
    of the same set is a near duplicate there.

    Args:
        thumbs: uint8 (N, 8, 8, 3).
        groups: what each picture is known to belong to; those of one group are not unrelated.

    Returns:
        grey levels, ``THUMB_DISTANCE`` at most, which it is where the set is too small to tell.
    """
    count = len(thumbs)
    if count * (count - 1) // 2 <= MOST_PAIRS:
        one, two = np.triu_indices(count, 1)
    else:
        one, two = np.random.default_rng(0).integers(0, count, (2, MOST_PAIRS))
    names = np.unique(np.array(groups), return_inverse=True)[1] if count else np.zeros(0, np.intp)
    unlike = names[one] != names[two]
    one, two = one[unlike], two[unlike]
    if len(one) < FEWEST_PAIRS:
        return THUMB_DISTANCE
    wide = thumbs.astype(np.int16)
    apart = np.concatenate(
        [
            np.abs(wide[one[i : i + ROWS]] - wide[two[i : i + ROWS]]).mean(axis=(1, 2, 3))
            for i in range(0, len(one), ROWS)
        ]
    )
    logs = np.log(np.maximum(apart, SMALLEST))
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))  # of a normal distribution, its standard deviation
    return min(THUMB_DISTANCE, float(np.exp(middle - UNUSUAL * spread)))


def recordings(names: Sequence[str], hashes: NDArray[np.uint64]) -> list[tuple[int, ...]]:
    """Find runs of frames: names that differ in a last number, and neighbours by that number that look alike.

    More alike than any two of them: in a set of retinas, all are.

    Args:
        names: of the pictures, without suffix.
        hashes: their difference hashes, (N,).

    Returns:
        the places of each recording's frames, in the order of their numbers.
    """
    groups: dict[str, list[tuple[int, int]]] = {}
    for place, name in enumerate(names):
        if parts := _NUMBERED.match(name):
            groups.setdefault(parts[1], []).append((int(parts[2]), place))
    found = []
    for group in groups.values():
        order = [place for _, place in sorted(group)]
        apart = np.bitwise_count(hashes[order[1:]] ^ hashes[order[:-1]])
        if len(order) >= RECORDING_FRAMES and np.median(apart) <= RECORDING_DISTANCE:
            some = np.array(order)[np.linspace(0, len(order) - 1, min(len(order), SOME_FRAMES)).round().astype(int)]
            one, two = np.triu_indices(len(some), 1)
            usual = np.median(np.bitwise_count(hashes[some[one]] ^ hashes[some[two]]))
            if np.median(apart) <= APART_RATIO * usual:
                found.append(tuple(order))
    return found
