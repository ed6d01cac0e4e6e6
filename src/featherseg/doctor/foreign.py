"""Pairs of kinds whose labels are no mask files, through the readers of :mod:`featherseg.data.readers`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError, DataError
from ..core.images import IMAGE_SUFFIXES
from ..data.annotations import recognise, recognisers
from ..data.listing import walk
from .meaning import Meaning
from .pairing import Pair, printable

if TYPE_CHECKING:
    from .layout import Layout

MASK_DEPTH = 2
"""Folders below a folder of masks in which masks are looked for."""


def list_annotated(layout: Layout, meaning: Meaning | None) -> None:
    """Fill a layout with what the reader of its kind finds.

    Raises:
        ConfigError: the user names classes, which the labels do themselves.
        DataError: the folder holds no such labels, or damaged ones.
    """
    if meaning is not None:
        raise ConfigError(f"--classes is for masks; labels of kind {layout.kind} name their classes: leave it out")
    evidence = recognisers.get(layout.kind)(layout.root)
    if evidence is None:
        raise DataError(
            f"{layout.root} holds no labels of kind {layout.kind}; check the folder, or let the kind be inferred"
        )
    labels = evidence.labels()
    layout.given, layout.notes = Meaning.certain(labels.classes), labels.notes
    samples = [(split, sample) for split, part in labels.splits.items() for sample in part]
    uses = Counter(sample.annotation.file for _, sample in samples)
    for split, sample in samples:
        file = sample.annotation.file
        name = file if uses[file] == 1 else file.with_name(f"{file.name} ({printable(sample.image.name)})")
        layout.pairs.append(Pair(split, sample.image, name, sample.annotation))
    for split, gone in labels.missing.items():
        for image in gone:
            layout.findings.add("listed-missing", f"{split}: {printable(image)}")


def kinds_seen(root: Path, own: str | None) -> dict[str, str]:
    """Return every kind that a folder may be, with what speaks for it.

    Args:
        root: the folder.
        own: kind of masks that it is laid out as.
    """
    found = recognise(root)
    kinds = {kind: evidence.seen for kind, evidence in found.items()}
    if own is None or any(own in evidence.instead_of for evidence in found.values()):
        return kinds
    seen = "images and masks" if own == "folder" else f"folders named as those of {own}"
    return {own: f"it has {seen}"} | kinds


def holds_pictures(folder: Path) -> bool:
    """Return whether there are pictures in a folder that is called as those of masks are: JSON lies in such, too."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path, _ in walk(folder, MASK_DEPTH))
