"""What writes labels in another program's format: a file for each format in :mod:`featherseg.data.writers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..core.errors import ConfigError, DataError
from ..core.registry import Registry
from ..core.text_files import shortened
from ..core.types import ClassSet, MaskArray
from .annotations import BACKGROUND


@dataclass(frozen=True)
class Picture:
    """An image in the new folder.

    Args:
        split: ``train``, ``val`` or another; empty where the images are in no split.
        name: of the file, with its suffix, and with its folders where there are any, between slashes; without the
            suffix it is no other picture's in any split.
        size: height and width.
        sure: how sure a network is of the labels, 0–1, where it made them; None where a person did.
        made_by: name of that network.
    """

    split: str
    name: str
    size: tuple[int, int]
    sure: float | None = None
    made_by: str = ""

    @property
    def stem(self) -> str:
        """The file's name without suffix."""
        return PurePosixPath(self.name).with_suffix("").as_posix()


@dataclass(frozen=True)
class ConvertTarget:
    """Where labels are to be written, and how.

    Args:
        root: the new folder, which is there.
        classes: of the source.
        splits: names in order; one empty name where there are none.
        polygons: outlines are wanted where the format could hold masks.
    """

    root: Path
    classes: ClassSet
    splits: tuple[str, ...]
    polygons: bool = False

    @property
    def background(self) -> int | None:
        """Id of the class that is called background; None where there is none."""
        return next((i for i, name in enumerate(self.classes.names) if clean_name(name).lower() in BACKGROUND), None)


class LabelWriter:
    """Writes the labels of one picture after the other.

    Args:
        target: where to.

    Attributes:
        names: what featherseg's reader of the format will call the classes, in the order of the source's ids.
        options: what that reader has to be told.
    """

    def __init__(self, target: ConvertTarget) -> None:
        self.target = target
        self.names: tuple[str, ...] = read_names(target.classes.names)
        self.options: dict[str, Any] = {}

    def image_folder(self, split: str) -> Path:
        """Return the folder for the images of a split."""
        return self.target.root / "images" / split

    def kept(self, mask: MaskArray) -> MaskArray:
        """Return what the format can say of a mask: class ids, uint8 (H, W)."""
        return mask

    def add(self, picture: Picture, mask: MaskArray) -> None:
        """Write, or keep for :meth:`finish`, the labels of a picture: class ids or the ignored id, uint8 (H, W)."""
        raise NotImplementedError

    def finish(self) -> Sequence[str]:
        """Write the rest; return what a user should know of the format, a sentence each."""
        raise NotImplementedError


writers: Registry[Callable[[ConvertTarget], LabelWriter]] = Registry("format", home="featherseg.data.writers")


def clean_name(name: str) -> str:
    """Return a class's name as the readers of labels take it: see :func:`featherseg.data.annotations.name_classes`."""
    return "background" if name.strip("_") == "background" else " ".join(name.split())


def read_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes as they are written and read.

    Raises:
        DataError: a name cannot be written, or two would become the same.
    """
    clean = tuple(map(clean_name, names))
    if wrong := [name for name, text in zip(names, clean, strict=True) if not text or not text.isprintable()]:
        raise DataError(f"class name {shortened(repr(wrong[0]))} cannot be written in a text file; rename the class")
    if twice := [name for name, text in zip(names, clean, strict=True) if clean.count(text) > 1]:
        raise DataError(f"classes {twice[0]!r} and {twice[1]!r} would have the same name; rename one of them")
    return clean


def with_background(names: tuple[str, ...], background: int | None) -> tuple[str, ...]:
    """Return names in which the class of what nothing covers has the name that readers give it."""
    return tuple("background" if i == background else name for i, name in enumerate(names))


def need_a_class(target: ConvertTarget, kind: str) -> None:
    """Refuse labels of background alone where the format says nothing of background."""
    if target.background is not None and len(target.classes) == 1:
        name = target.classes.names[0]
        raise DataError(f"the source has one class, {name}, of which {kind} says nothing; convert it to folder or cvat")


def masks_only(target: ConvertTarget, kind: str) -> None:
    """Refuse outlines where the format takes masks alone."""
    if target.polygons:
        raise ConfigError(f"polygons are wanted, but {kind} takes masks alone; leave --polygons out")


def regions(mask: MaskArray, classes: ClassSet, background: int | None) -> list[int]:
    """Return the ids of the classes in a mask that a region has to be written for, in order."""
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[: len(classes)])
    return [int(i) for i in found if i != background]


def without_background(background: int | None) -> dict[str, Any]:
    """Return the option that keeps readers from adding a class, where every pixel has one of its own or is ignored."""
    return {} if background is not None else {"background": False}
