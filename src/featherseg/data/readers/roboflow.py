"""Roboflow's semantic segmentation masks: ``x.jpg`` and ``x_mask.png`` side by side, classes in a CSV."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from ...core.errors import DataError, first_line
from ...core.images import list_images
from ...core.text_files import read_text, shortened
from ...core.types import ClassSet
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets
from ..labels import LabelTable
from ..listing import settle_splits, split_word
from ..mask_annotations import IndexMask
from .coco import check_share

CLASS_FILE = "_classes.csv"
MASK_ENDING = "_mask"
MAX_CLASSES = 255


@datasets.register("roboflow")
def roboflow(root: Path, split: str = "train", *, val_share: float = 0.2, seed: int = 0) -> AnnotatedDataset:
    """Open a "Semantic Segmentation Masks" export of Roboflow.

    Read are ``train/``, ``valid/`` and ``test/``, each with ``x.jpg``, ``x_mask.png`` and ``_classes.csv``, whose lines
    are ``pixel value, class``. Classes come in the order of their pixel values.

    Overlaps: the masks have none; Roboflow resolved them. Background: the class of that name, which Roboflow gives the
    value 0. Ignored: nothing; a pixel value that the CSV does not list is an error. Images without a mask are left out.

    Args:
        root: folder of the export.
        split: ``train``, ``val`` (Roboflow's ``valid``), ``test`` or ``all``.
        val_share: share of ``train`` that is drawn for ``val`` where no other part is there, over 0 and under 1.
        seed: of the draw.
    """
    return roboflow_labels(root, val_share, seed).dataset(split)


@recognisers.register("roboflow")
def recognise_roboflow(root: Path) -> Evidence | None:
    """Know a Roboflow export by its class file."""
    places = _places(root)
    if not places:
        return None
    return Evidence(
        f"{places[0].name}/{CLASS_FILE} is Roboflow's", lambda: roboflow_labels(root), instead_of=("folder",)
    )


def _places(root: Path) -> list[Path]:
    return [file.parent for file in sorted(root.glob(f"*/{CLASS_FILE}")) if split_word(file.parent.name)]


def roboflow_labels(root: Path, val_share: float = 0.2, seed: int = 0) -> Labels:
    """Read all that an export holds.

    Raises:
        DataError: it is no export of Roboflow, or its class files are damaged or differ.
    """
    check_share(val_share)
    places = _places(root)
    if not places:
        raise DataError(f"{root} is no Roboflow export: no train/{CLASS_FILE}; export Semantic Segmentation Masks")
    values: dict[int, str] = {}
    for place in places:
        for value, name in read_class_file(place / CLASS_FILE).items():
            if values.setdefault(value, name) != name:
                raise DataError(
                    f"{place / CLASS_FILE} gives value {value} to {shortened(repr(name))}, another split to "
                    f"{shortened(repr(values[value]))}; export all splits together"
                )
    classes, table = _classes(values, places[0] / CLASS_FILE)
    parts: dict[str | None, list[Sample]] = {}
    alone = 0
    for place in places:
        files = {path.stem: path for path in list_images(place)}
        masks = {stem.removesuffix(MASK_ENDING): path for stem, path in files.items() if stem.endswith(MASK_ENDING)}
        images = {stem: path for stem, path in files.items() if path not in masks.values()}
        alone += len(images.keys() ^ masks.keys())
        parts[split_word(place.name)] = [
            Sample(path, IndexMask(masks[stem], table)) for stem, path in images.items() if stem in masks
        ]
    notes: tuple[str, ...] = (f"classes from {CLASS_FILE}, in the order of their pixel values; nothing is ignored",)
    if alone:
        notes = (*notes, f"{alone} files are an image without {MASK_ENDING}.png, or the reverse: left out")
    splits, drawn = settle_splits(parts, val_share, seed, len(classes))
    return Labels("roboflow", classes, splits, notes + drawn)


def read_class_file(file: Path) -> dict[int, str]:
    """Return class names by pixel value.

    Raises:
        DataError: it cannot be read, or a line is no value and name.
    """
    try:
        rows = list(csv.reader(read_text(file).splitlines(), skipinitialspace=True))
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file} is no table of classes ({first_line(error)}); export again") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its rights") from error
    found: dict[int, str] = {}
    for number, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row) or (number == 1 and not row[0].strip().isdecimal()):
            continue  # the line of titles
        value = row[0].strip()
        if len(row) != 2 or not (value.isascii() and value.isdecimal()) or len(value) > 5 or not row[1].strip():
            raise DataError(
                f"{file}, line {number}: {shortened(repr(', '.join(row)))} is no pixel value and class; correct it"
            )
        if int(value) in found:
            raise DataError(f"{file}, line {number}: value {value} stands there twice; give each class its own")
        found[int(value)] = row[1].strip()
    return found


def _classes(values: dict[int, str], file: Path) -> tuple[ClassSet, LabelTable]:
    if wrong := [value for value in values if value > MAX_CLASSES]:
        raise DataError(f"{file} has the pixel value {wrong[0]}; masks of 8 bits hold {MAX_CLASSES} at most")
    twice = [name for name, count in Counter(values.values()).items() if count > 1]
    if twice:
        raise DataError(f"{file} has the class {shortened(repr(twice[0]))} twice; give each value its own")
    classes, ids, _ = name_classes([values[value] for value in sorted(values)], background=False, where=file)
    return classes, LabelTable({value: ids[name] for value, name in values.items()})
