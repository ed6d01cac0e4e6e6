"""A dataset's pairs, its kind, and what was found while looking for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .meaning import Meaning
from .pairing import Pair
from .rules import Findings

TRAIN_NAMES = ("train", "training")


VAL_NAMES = ("val", "valid", "validation", "dev", "test")


UNLABELLED = ("test", "unlabeled", "unlabelled")
"""Splits that rightly have no masks."""


@dataclass
class Layout:
    """A dataset's pairs and what was found while looking for them.

    Args:
        kind: as in the registry of datasets.
        root: the folder.
        pairs: image and mask files, in the splits' order.
        given: what mask values stand for, where the kind or a class file says so.
        options: what the loader has to be told.
        direct: whether the loader reads this layout.
        made_split: whether the loader draws train and val itself.
        notes: what the reader of the labels decided, a sentence each.
        refusal: why the loader does not read a layout that it has to find its way in; empty where it does.
    """

    kind: str
    root: Path
    findings: Findings
    pairs: list[Pair] = field(default_factory=list)
    given: Meaning | None = None
    options: dict[str, Any] = field(default_factory=dict)
    direct: bool = True
    made_split: bool = False
    notes: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have pairs, in order."""
        return tuple(dict.fromkeys(pair.split for pair in self.pairs))

    @property
    def train_split(self) -> str:
        """The split to train on: the first of the usual names, else the first there is."""
        return next((name for name in TRAIN_NAMES if name in self.splits), next(iter(self.splits), "train"))

    @property
    def val_split(self) -> str:
        """The split to validate on; ``"val"`` where there is none."""
        return next((name for name in VAL_NAMES if name in self.splits), "val")


def add_pairs(layout: Layout, split: str, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Add a split's image and mask files."""
    layout.pairs += [Pair(split, image, mask) for image, mask in pairs]
