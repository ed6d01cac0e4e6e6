"""Splits of a clean copy: as they were where they are whole, drawn where one is missing or a recording is in two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.splits import VAL_SHARE, draw_split
from .classes import label_counts
from .examine import Examination
from .meaning import Meaning
from .near_duplicates import recordings
from .pairing import printable
from .probe import Facts


def splits_of_copy(examination: Examination, kept: Sequence[Facts], meaning: Meaning) -> list[str]:
    """Return the split of each pair that is kept: ``train``, ``val``, or another name as it is.

    Training and validation pairs are drawn again where one of the two has none, and where frames of one recording are
    on both sides: then whole recordings stay together. A recording that is more than can be trained on is cut once.
    """
    layout = examination.layout
    renamed = {layout.val_split: "val", layout.train_split: "train"}
    splits = [renamed.get(f.pair.split, printable(f.pair.split)) for f in kept]
    torn = any(finding.id == "same-recording" for finding in examination.findings)
    pool = [i for i, split in enumerate(splits) if split in ("train", "val")]
    if len(pool) < 2 or ({"train", "val"} <= set(splits) and not torn):
        return splits
    classes = len(meaning.classes)
    present = [np.flatnonzero(label_counts(kept[i].mask, meaning)[:classes]).tolist() for i in pool]
    names = [f"{kept[i].pair.split}/{kept[i].pair.image.stem}" if torn else kept[i].pair.image.stem for i in pool]
    groups = _groups([kept[i] for i in pool], names) if torn else None
    drawn = draw_split(names, classes=classes, contents=present.__getitem__, groups=groups)
    for split, places in zip(("train", "val"), drawn, strict=True):
        for place in places:
            splits[pool[place]] = split
    return splits


def _groups(pool: Sequence[Facts], names: Sequence[str]) -> list[str]:
    """Return what each pair stays together with: its recording, or nothing but itself."""
    groups = [*names]
    looks = np.array([f.image.look for f in pool], np.uint64)
    for run in recordings([f.pair.image.stem for f in pool], looks):
        tail = len(run) - round(len(run) * VAL_SHARE) if len(run) > (1 - VAL_SHARE) * len(pool) else len(run)
        for at, place in enumerate(run):
            groups[place] = f"recording of {names[run[0]]}{', its end' if at >= tail else ''}"
    return groups
