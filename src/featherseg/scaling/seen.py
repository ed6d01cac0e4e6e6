"""Which of millions of texts were there before, in eight bytes each."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

RUN = 1 << 16
"""Digests that are held as Python's numbers, of some 70 bytes, before they become an array."""


class Seen:
    """A set of texts that can only grow.

    It holds 64 bits of each text's BLAKE2b digest: of a million texts, two are taken for one with a probability of
    3 in 10^8. The digests lie in sorted arrays each at least twice as long as the next, so that a text is looked for in
    a few of them, and each digest is sorted again only as often as the number of digests doubles.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[np.uint64]] = []
        self._recent: set[int] = set()

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._arrays))

    def __contains__(self, text: str) -> bool:
        return self._has(_digest(text))

    def add(self, text: str) -> bool:
        """Add a text, and return whether it is new."""
        digest = _digest(text)
        if self._has(digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= RUN:
            self._arrays.append(np.sort(np.fromiter(self._recent, np.uint64, len(self._recent))))
            self._recent.clear()
            while len(self._arrays) > 1 and len(self._arrays[-2]) < 2 * len(self._arrays[-1]):
                last, before = self._arrays.pop(), self._arrays.pop()
                self._arrays.append(np.sort(np.concatenate([before, last])))
        return True

    def _has(self, digest: int) -> bool:
        if digest in self._recent:
            return True
        wanted = np.uint64(digest)
        for array in self._arrays:
            place = int(np.searchsorted(array, wanted))
            if place < len(array) and array[place] == wanted:
                return True
        return False


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
