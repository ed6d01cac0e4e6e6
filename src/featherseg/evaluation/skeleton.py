"""Centre lines of masks: exact thinning to lines one pixel wide that have the shape's parts and holes. No torch.

Z. Guo and R. W. Hall, Parallel thinning with two-subiteration algorithms (CACM 1989), by the conditions G1 to G3 of
L. Lam, S.-W. Lee and C. Y. Suen, Thinning methodologies: a comprehensive survey (TPAMI 1992). No part vanishes, as
squares of 2x2 do with Zhang and Suen's conditions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""(down, right) of the neighbours x1 to x8: from the right one on, counterclockwise; bit k - 1 of a code is xk."""


def _tables() -> NDArray[np.bool_]:
    """Return whether a pixel goes in the first and in the second half of a pass, by its neighbours' code (2, 256)."""
    x = (np.arange(256)[:, None] >> np.arange(8) & 1).astype(bool)
    straight, diagonal, after = x[:, ::2], x[:, 1::2], np.roll(x[:, ::2], -1, axis=1)
    one_crossing = (~straight & (diagonal | after)).sum(1) == 1
    fewest = np.minimum((straight | diagonal).sum(1), (diagonal | after).sum(1))
    inside = one_crossing & (fewest >= 2) & (fewest <= 3)
    x1, x2, x3, x4, x5, x6, x7, x8 = x.T
    return np.stack([inside & ~((x2 | x3 | ~x8) & x1), inside & ~((x6 | x7 | ~x4) & x5)])


_GOES = _tables()


def skeleton(shape: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the centre lines of a shape.

    Time goes with the shape's area, not with area times width: a pixel is looked at again only after a neighbour went.

    Args:
        shape: bool (H, W); what lies outside is no part of it.

    Returns:
        bool (H, W), a part of the shape. Each of its connected parts (by eight neighbours) leaves one.
    """
    width = shape.shape[1] + 2
    on = np.pad(shape, 1).astype(np.uint8).ravel()
    steps = np.array([down * width + right for down, right in _AROUND])
    bits = (1 << np.arange(8)).astype(np.uint8)
    filled = np.flatnonzero(on)
    pending = [filled[~on[filled[:, None] + steps].all(1)] if filled.size else filled] * 2
    half = 0
    while pending[0].size or pending[1].size:
        seen = pending[half]
        pending[half] = seen[:0]
        gone = seen[_GOES[half][on[seen[:, None] + steps] @ bits]]
        if gone.size:
            on[gone] = 0
            near = (gone[:, None] + steps).ravel()
            for k in (0, 1):
                both = np.sort(np.concatenate([pending[k], near]))
                both = both[on[both] > 0]
                pending[k] = both[np.flatnonzero(np.diff(both, prepend=-1))]
        half = 1 - half
    return on.reshape(-1, width)[1:-1, 1:-1].astype(bool)
