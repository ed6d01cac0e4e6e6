"""Any folder with ``images/`` and ``masks/``: classes from a small file, or inferred and said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError, DataError
from ...core.files import FileMemo
from ...core.images import open_image, read_ids
from ...core.types import IGNORE_INDEX, ClassSet
from ..class_files import read_class_file
from ..class_maps import ClassMap
from ..datasets import FileDataset, datasets, require_folder
from ..folder_files import folder_files
from ..groups import group_note
from ..labels import LabelTable
from ..splits import VAL_SHARE, made_split, mask_contents
from ..storage import WHITE, WHITE_NOTE, Storage, colors_of_votes, look_at, unpack
from .public import CITYSCAPES_CLASSES, CITYSCAPES_IDS, CITYSCAPES_TRAIN_IDS

MAX_INFERRED = 64
"""More distinct values than this are not taken for classes: the masks are photographs or were anti-aliased."""


@datasets.register("folder")
def folder(
    root: Path,
    split: str = "train",
    *,
    images: str = "",
    masks: str = "",
    classes: str | None = None,
    val_share: float = VAL_SHARE,
    seed: int = 0,
    group: str = "",
    class_map: ClassMap | None = None,
) -> FileDataset:
    """Open a folder of images and masks that are matched by name.

    They lie in ``images/`` and ``masks/``, called alike but for the suffix; or wherever they are found, as long as
    names match one to one and there is one set of masks, see :mod:`featherseg.data.folder_pairs`. With
    ``images/train`` and ``masks/train`` (and so on) the splits are those folders; hidden ones do not count, and those
    without masks only matter when asked for. Otherwise ``train`` and ``val`` are drawn by
    :func:`featherseg.data.splits.draw_split`: every class is on both sides wherever possible, and neither the machine
    nor the order of files matters. ``all`` is every sample.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``all`` or a subfolder's name.
        images: images' folder, or a pattern of their names, such as ``*.jpg``; empty: ``images/``, or what is found.
        masks: masks' folder or pattern: index, grey or palette PNGs of class ids, or RGB in the classes' colours.
        classes: file with names and optionally colours, ids (mask value per class) and ``ignore_index``, see
            :mod:`featherseg.data.class_files`; by default ``classes.toml`` or ``classes.json`` in `root`, else they are
            inferred.
        val_share: share of the drawn validation split, over 0 and under 1.
        seed: of the drawn split.
        group: regular expression that finds in a name what stays together in a drawn split, such as a recording.
        class_map: what is made of the classes, by ``[data.classes]``.
    """
    require_folder(root, "dataset folder")
    if not 0 < val_share < 1:
        raise ConfigError(f"data.options.val_share is {val_share}; it must be over 0 and under 1")
    files = folder_files(root, split, images, masks)
    every, pairs = files.every, files.parts
    if group and not files.drawn:
        raise ConfigError(f"data.options.group is for splits that are drawn; {files.home} has its own")
    if files.drawn and len(every) == 1 and split in ("train", "val"):
        raise DataError(f'{files.home} holds one image, which makes no split; add images, or use split "all"')
    if split not in pairs:
        raise DataError(f"split {split!r} not found under {files.home}; splits there: {', '.join(sorted(pairs))}")

    before = 0
    file = root / classes if classes else next((f for f in _class_files(root) if f.is_file()), None)
    if file is not None:
        found, storage = read_class_file(file, class_map), look_at([mask for _, mask in every])
        if not found.states_ids and len(found.classes) == 2 and found.classes.ignore_index == WHITE:
            storage = replace(storage, white=storage.white or hold_white([mask for _, mask in every]))
        class_set, table, notes = found.classes, found.table(storage), _storage_notes(storage)
    elif class_map is not None and class_map.of_values:
        class_set, table = class_map.alone()
        notes = ()
    else:
        masks_of_all = [mask for _, mask in every]
        if (city := cityscapes_of_names(masks_of_all)) is not None:
            class_set, (table, note) = CITYSCAPES_CLASSES, city
            notes = (note,)
        else:
            class_set, table, notes = infer_classes(masks_of_all)
        if class_map is not None:
            before = len(class_set)
            class_set, table = class_map.over_table(class_set, table)
    notes = (
        *([files.note] if files.note else []),
        *notes,
        *(() if class_map is None else class_map.notes(None, before, len(class_set))),
    )
    if files.drawn and split in ("train", "val"):
        contents, names = mask_contents([mask for _, mask in every], table, len(class_set)), files.names()
        pairs = pairs | made_split(
            every, val_share, seed, group=group, classes=len(class_set), contents=contents, names=names
        )
        notes += group_note(names, group) if group else ()
    return FileDataset("folder", split, class_set, tuple(pairs[split]), table, notes)


def cityscapes_of_names(masks: Sequence[Path]) -> tuple[LabelTable, str] | None:
    """Return how masks are read whose names say that they are Cityscapes', in whatever folders, and a note of it."""
    for ending, ids in (("_gtFine_labelIds", CITYSCAPES_IDS), ("_gtFine_labelTrainIds", CITYSCAPES_TRAIN_IDS)):
        if masks and all(mask.stem.endswith(ending) for mask in masks):
            return LabelTable(ids), f"masks end in {ending}: read as Cityscapes' 19 classes, its other ids are ignored"
    return None


def infer_classes(masks: list[Path]) -> tuple[ClassSet, LabelTable, tuple[str, ...]]:
    """Look through all masks for the values they hold, and make classes of them.

    Ids are classes 0 to the largest; 255 is ignored, except where masks hold only 0 and 255, which is how
    drawing programs save a foreground. Colours are classes in sorted order.

    Returns:
        the classes, the table, and sentences that say what was inferred.
    """
    storage = look_at(masks)
    if storage.votes:
        by_color = {unpack(color): i for color, i in colors_of_votes(storage.votes).items()}
        classes = ClassSet(tuple(f"class_{i}" for i in range(len(by_color))), tuple(by_color))
        note = f"inferred {len(classes)} classes from the palettes' colours; give them names in classes.toml"
        return classes, LabelTable({}, by_color, by_palette=True), (*_storage_notes(storage), note)
    ids: set[int] = set()
    colors: set[tuple[int, int, int]] = set()
    for path in masks:
        values = _distinct_values(path)
        if values.ndim == 2:
            colors.update((int(r), int(g), int(b)) for r, g, b in values)
        else:
            ids.update(map(int, values))
        if max(len(colors), len(ids - {IGNORE_INDEX})) > MAX_INFERRED:
            raise DataError(
                f"mask {path} brings the distinct values to over {MAX_INFERRED}, too many to be classes; "
                "describe the classes in classes.toml"
            )
    if colors and all(red == green == blue for red, green, blue in colors):  # ids in all three channels
        ids, colors = ids | {red for red, _, _ in colors}, set()
    if ids and colors:
        raise DataError(f"some masks beside {masks[0]} hold ids and others colours; save all of them one way")
    if colors:
        ordered = tuple(sorted(colors))
        names = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in ordered)
        classes = ClassSet(names, ordered)
        table = LabelTable({}, {color: i for i, color in enumerate(ordered)})
        note = f"inferred {len(names)} classes from the masks' colours: {', '.join(names)}"
        return classes, table, (note, "give them names in classes.toml")
    if ids == {IGNORE_INDEX}:
        raise DataError(
            f"masks beside {masks[0]} hold only 255, which is ignored; describe the classes in classes.toml"
        )
    if ids <= {0, 1, 255} and storage.white:
        classes = ClassSet(("background", "foreground"))
        return classes, LabelTable({0: 0, 1: 1, 255: 1}), (WHITE_NOTE,)
    if ids == {0, 255}:
        classes = ClassSet(("background", "foreground"))
        return classes, LabelTable({0: 0, 255: 1}), (WHITE_NOTE,)
    count = max(ids - {IGNORE_INDEX}, default=0) + 1
    if count > MAX_INFERRED:
        raise DataError(f"masks hold ids up to {count - 1}; list those that are classes as ids = […] in classes.toml")
    classes = ClassSet(tuple(f"class_{i}" for i in range(count)), _palette(masks[0], count))
    missing = sorted(set(range(count)) - ids)
    notes = [f"inferred {count} classes from the masks' ids 0 to {count - 1}; give them names in classes.toml"]
    if missing:
        notes.append(f"no mask holds id {', '.join(map(str, missing))}")
    return classes, LabelTable.identity(classes), tuple(notes)


def hold_white(masks: list[Path]) -> bool:
    """Return whether masks hold 0 and 255 and nothing else, and 255 somewhere; looks at no more than that takes."""
    found: set[int] = set()
    for path in masks:
        values = _distinct_values(path)
        if values.ndim == 2 and not (values == values[:, :1]).all():
            return False
        found |= {int(value) for value in values.reshape(len(values), -1)[:, 0]}
        if found - {0, WHITE}:
            return False
    return WHITE in found


def _storage_notes(storage: Storage) -> tuple[str, ...]:
    """Return what was concluded from all masks together, a sentence each."""
    notes = []
    if storage.votes:
        notes.append("palettes give one colour different ids in different masks: they are read by colour")
    if storage.white:
        notes.append(WHITE_NOTE)
    return tuple(notes)


_distinct: FileMemo[NDArray[np.integer]] = FileMemo()


def _distinct_values(mask: Path) -> NDArray[np.integer]:
    """Return the ids (N,) or colours (N, 3) that a mask file holds."""

    def find() -> NDArray[np.integer]:
        values = read_ids(mask)
        found = np.unique(values) if values.ndim == 2 else np.unique(values.reshape(-1, 3), axis=0)
        return found[: MAX_INFERRED + 2]

    return _distinct.get(mask, find)


def _palette(mask: Path, count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first colours of a palette mask, or none where it has no usable palette."""
    with open_image(mask) as image:
        palette = image.getpalette() if image.mode == "P" else None
    if palette is None or len(palette) < 3 * count:
        return ()
    colors = tuple((palette[3 * i], palette[3 * i + 1], palette[3 * i + 2]) for i in range(count))
    return colors if len(set(colors)) == count else ()


def _class_files(root: Path) -> tuple[Path, ...]:
    return root / "classes.toml", root / "classes.json"
