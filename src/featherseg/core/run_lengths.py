"""COCO's run lengths: how many pixels in turn are outside and inside, down the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_lengths(inside: NDArray[np.bool_]) -> dict[str, Any]:
    """Return a bitmap, bool (H, W), as COCO's run lengths."""
    flat = inside.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]]))
    counts = np.concatenate([[0], runs]) if flat[0] else runs
    return {"size": list(inside.shape), "counts": encode_counts(counts)}


def encode_counts(counts: NDArray[np.int64]) -> str:
    """Return run lengths as COCO's text; see :func:`featherseg.data.shapes.decode_counts` for the format."""
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    letters = bytearray()
    for number in numbers.tolist():
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            letters.append((bits | 32 if more else bits) + 48)
    return letters.decode("ascii")
