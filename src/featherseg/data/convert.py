"""Labels of one format as those of another: written, read back, and compared before the new folder appears."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError, DataError
from ..core.files import TEMPORARY
from ..core.formatting import percent
from ..core.images import open_image, write_image
from ..core.progress import OnProgress, no_progress
from ..core.types import ClassSet, ImageArray, MaskArray
from .annotations import AnnotatedDataset
from .datasets import FileDataset, SegmentationDataset, create_dataset
from .listing import split_word
from .shares import Account, check_shares, count_classes
from .writing import ConvertTarget, LabelWriter, Picture, clean_name, writers

COPIED = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Images that every program reads; others become PNGs, and so do those that EXIF turns."""
ORIENTATION = 0x0112
"""EXIF's tag; 1 is upright."""
BAD_IN_NAMES = frozenset('/\\:*?"<>|')
"""What a file's name cannot hold on some disks, and lists of names neither."""


@dataclass(frozen=True)
class ConvertResult:
    """A folder of labels in another format.

    Args:
        root: the folder.
        kind: the format, as in the registry of datasets.
        options: what its reader has to be told, so that it reads the same labels.
        splits: pictures by split; one empty name where there are none.
        classes: names, as they are read from the folder.
        before: share of all pixels that each class has in the source.
        after: the same, read back.
        ignored: share of all pixels that is ignored in the source, and read back.
        changed: pixels that the format cannot say, and that are read back as background.
        pixels: of all pictures.
        files: number of files written.
        notes: what a user should know, a sentence each: what the format cannot say, what was changed.
    """

    root: Path
    kind: str
    options: Mapping[str, Any]
    splits: Mapping[str, int]
    classes: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    ignored: tuple[float, float]
    changed: int
    pixels: int
    files: int
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Return one line: what was written, and what is different."""
        parts = ", ".join(f"{count} {split}".strip() for split, count in self.splits.items())
        same = "every pixel is read back as it was"
        if self.changed:
            same = f"{self.changed:,} of {self.pixels:,} pixels, which were ignored, are read back as background"
        return f"{self.kind} in {self.root}: {parts} pictures, {self.files} files; {same}"

    def to_dict(self) -> dict[str, Any]:
        """Return it, of JSON types only."""
        rows = zip(self.classes, self.before, self.after, strict=True)
        return {
            "root": str(self.root),
            "kind": self.kind,
            "options": dict(self.options),
            "splits": dict(self.splits),
            "shares": {name: {"before": before, "after": after} for name, before, after in rows},
            "ignored": {"before": self.ignored[0], "after": self.ignored[1]},
            "changed_pixels": self.changed,
            "pixels": self.pixels,
            "files": self.files,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Item:
    """A picture on its way, and where it comes from."""

    dataset: SegmentationDataset
    place: int
    split: str
    stem: str
    image: Path | None


@dataclass(frozen=True)
class _Counted:
    """What a picture's labels were: the pixels of each class as far as the format can say it, and in the source."""

    item: _Item
    counts: NDArray[np.int64]
    source: NDArray[np.int64]
    changed: int
    digest: bytes
    size: tuple[int, int]


def require_new(out: str | Path, source: str | Path | None = None) -> Path:
    """Return the folder for labels in another format, if it may be made.

    Raises:
        ConfigError: something is there, or it is the source or in it.
    """
    out = Path(out).expanduser()
    if source is not None:
        home = Path(source).expanduser().resolve()
        if out.resolve() == home or out.resolve().is_relative_to(home):
            raise ConfigError(f"{out} lies in the source {source}, which is never changed; name another folder")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ConfigError(f"{out} is there and no folder; name a new folder")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise ConfigError(f"{out} is not empty, and nothing in it is replaced; name a new folder")
    return out


def convert(
    splits: Mapping[str, SegmentationDataset],
    out: str | Path,
    to: str,
    *,
    polygons: bool = False,
    progress: OnProgress = no_progress,
) -> ConvertResult:
    """Write labelled images in another format, and read them back.

    Images are copied as they are where every program reads them; those of rarer formats, and those that EXIF turns,
    become upright PNGs. The source is only read. The folder appears when all is written, read back with featherseg's
    own reader, and compared with the source; until then there is nothing.

    Args:
        splits: of one dataset, by name. An image that is in several is written under the first.
        out: folder that is new or empty.
        to: the format, one of :data:`featherseg.data.writing.writers`.
        polygons: outlines are wanted where the format could hold masks, which are exact.
        progress: called with the steps done and all steps: each picture is written, and read back.

    Raises:
        ConfigError: no such format, no polygons in it, or a folder that is not new.
        DataError: the labels cannot be read, or would be read back as others: a class is gone, or a pixel has another.
    """
    build = writers.get(to)
    out = require_new(out)
    if not splits:
        raise DataError("there are no splits to convert; name a folder with labelled images")
    classes = next(iter(splits.values())).classes
    if any(dataset.classes.names != classes.names for dataset in splits.values()):
        raise DataError("the splits have different classes; convert one split at a time with --split")
    named = _named(splits, to)
    items, skipped = _plan(splits, named)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Its name is hidden, and so are those of its like: what is cut short is no dataset that anybody finds.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=TEMPORARY) as folder:
        root = Path(folder, out.name)
        root.mkdir()
        target = ConvertTarget(root, classes, tuple(dict.fromkeys(item.split for item in items)), polygons)
        writer = build(target)
        counted, copied = [], 0
        for done, item in enumerate(items, 1):
            each, as_is = _write(item, writer, target)
            counted.append(each)
            copied += as_is
            progress(done, 2 * len(items))
        notes = [*writer.finish()]
        result = _compared(counted, writer, target, to, progress)
        if turned := len(items) - copied:
            notes.append(f"{turned} images were written as PNG: made here, turned by EXIF, or of a rarer format")
        if skipped:
            notes.append(f"{skipped} images are in several splits and were written under the first")
        files = sum(path.is_file() for path in root.rglob("*"))
        if out.is_dir():  # an empty one
            out.rmdir()
        root.replace(out)
    counts = {name: sum(item.split == name for item in items) for name in target.splits}
    return ConvertResult(out, to, writer.options, counts, *result, files, tuple(notes))


def _named(splits: Mapping[str, SegmentationDataset], to: str) -> dict[str, str]:
    """Return what each split is called in the format; a single one of another name than the usual needs none."""
    words = {name: split_word(name) for name in splits}
    if len(splits) == 1 and not next(iter(words.values())):
        return dict.fromkeys(splits, "")
    if to == "folder":
        return {name: name for name in splits}
    if wrong := [name for name, word in words.items() if word is None]:
        raise DataError(
            f"split {wrong[0]!r} has no place in {to}, which knows train, val and test; convert one split at a time "
            "with --split"
        )
    return {name: word or "" for name, word in words.items()}


def _plan(splits: Mapping[str, SegmentationDataset], named: Mapping[str, str]) -> tuple[list[_Item], int]:
    """Give each picture a name that no other has, in whatever case; return how many were there before, too."""
    items: list[_Item] = []
    taken: set[str] = set()
    seen: set[Path] = set()
    skipped = 0
    for split, dataset in splits.items():
        for place in range(len(dataset)):
            image = _image_file(dataset, place)
            if image is not None and image in seen:
                skipped += 1
                continue
            if image is not None:
                seen.add(image)
            stem = name = _file_stem(dataset.stem(place))
            number = 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name.casefold())
            items.append(_Item(dataset, place, named[split], name, image))
    return items, skipped


def _file_stem(text: str) -> str:
    """Return a name as a file can have it on every disk, and as a line of a list, where ``#`` begins a comment."""
    kept = "".join(c if c.isprintable() and c not in BAD_IN_NAMES else "_" for c in unicodedata.normalize("NFC", text))
    return kept.lstrip("#").strip(" .")[:100] or "image"


def _image_file(dataset: SegmentationDataset, place: int) -> Path | None:
    """Return the file of an image; None where it is made, or lies in a table."""
    if isinstance(dataset, FileDataset):
        return dataset.pairs[place][0]
    return dataset.samples[place].image if isinstance(dataset, AnnotatedDataset) else None


def _write(item: _Item, writer: LabelWriter, target: ConvertTarget) -> tuple[_Counted, bool]:
    """Write one picture; return its labels' counts, and whether the image was copied as it is."""
    image, mask = item.dataset.read(item.place)
    mask = _settled(mask, target.classes)
    home = writer.image_folder(item.split)
    home.mkdir(parents=True, exist_ok=True)
    name, copied = _write_image(item, image, home)
    writer.add(Picture(item.split, name, (mask.shape[0], mask.shape[1])), mask)
    kept, count = writer.kept(mask), len(target.classes)
    size, changed = (mask.shape[0], mask.shape[1]), int(np.count_nonzero(kept != mask))
    return _Counted(item, count_classes(kept, count), count_classes(mask, count), changed, _digest(kept), size), copied


def _write_image(item: _Item, image: ImageArray, home: Path) -> tuple[str, bool]:
    """Return the name of the written file, and whether it is a copy."""
    suffix = item.image.suffix.lower() if item.image is not None else ""
    if item.image is not None and suffix in COPIED:
        with open_image(item.image) as picture:
            upright = picture.getexif().get(ORIENTATION, 1) in (0, 1)
        if upright:
            shutil.copyfile(item.image, home / f"{item.stem}{suffix}")
            return f"{item.stem}{suffix}", True
    write_image(home / f"{item.stem}.png", image)
    return f"{item.stem}.png", False


def _settled(mask: MaskArray, classes: ClassSet) -> MaskArray:
    """Return a mask that holds class ids and the ignored id alone."""
    return np.where(mask < len(classes), mask, np.uint8(classes.ignore_index))


def _digest(mask: MaskArray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(mask).tobytes()).digest()


def _compared(
    counted: list[_Counted], writer: LabelWriter, target: ConvertTarget, kind: str, progress: OnProgress
) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...], tuple[float, float], int, int]:
    """Read back what was written; return what a :class:`ConvertResult` says of classes and pixels.

    Raises:
        DataError: a picture is missing, or a class has other pixels than in the source.
    """
    names, total = writer.names, len(target.classes)
    back = create_dataset(kind, target.root, "all", **writer.options)
    table = _ids_of(back.classes, writer, target)
    masks = dict(_masks(back))
    if missing := [each.item.stem for each in counted if each.item.stem not in masks]:
        raise DataError(
            f"{len(missing)} pictures cannot be read back from {kind}, such as {missing[0]}; nothing is kept"
        )
    accounts, moved, changed = [], list[str](), 0
    for done, each in enumerate(counted, 1):
        mask = table[masks[each.item.stem]()]
        counts = count_classes(mask, total)
        pixels = each.size[0] * each.size[1]
        accounts.append(Account(each.counts, 0, pixels, counts, mask.size))
        if mask.shape != each.size:
            raise DataError(f"the labels of {each.item.stem} would change their size in {kind}; nothing is kept")
        if _digest(mask) != each.digest:
            moved.append(each.item.stem)
        changed += each.changed
        progress(len(counted) + done, 2 * len(counted))
    try:
        check_shares(accounts, names)
    except DataError as error:
        raise DataError(f"nothing was converted to {kind}, since labels would change: {error}") from error
    if moved:
        raise DataError(f"nothing was converted to {kind}, since the labels of {moved[0]} are read back as others")
    pixels = sum(account.pixels for account in accounts)
    sums = [np.sum(part, axis=0) for part in ([each.source for each in counted], [a.written for a in accounts])]
    before, after = (tuple((part / pixels).tolist()) for part in sums)
    ignored = (pixels - int(sums[0].sum())) / pixels, (pixels - int(sums[1].sum())) / pixels
    return names, before, after, ignored, changed, pixels


def _ids_of(found: ClassSet, writer: LabelWriter, target: ConvertTarget) -> NDArray[np.uint8]:
    """Return the source's class id for each id that is read back, uint8 (256,)."""
    table = np.full(256, target.classes.ignore_index, np.uint8)
    ids = {name: i for i, name in enumerate(writer.names)}
    for i, name in enumerate(found.names):
        if name in ids:
            table[i] = ids[name]
        elif clean_name(name) != "background":
            raise DataError(f"class {name!r} would be read back, which the source does not have; rename its classes")
    return table


def _masks(dataset: SegmentationDataset) -> Iterator[tuple[str, Any]]:
    """Give each picture's stem, and what reads its labels without the image."""
    if isinstance(dataset, FileDataset):
        for image, mask in dataset.pairs:
            yield image.stem, lambda mask=mask: dataset.table.read(mask)
    elif isinstance(dataset, AnnotatedDataset):
        for sample in dataset.samples:
            yield sample.image.stem, sample.annotation.read


def share_rows(result: ConvertResult) -> list[tuple[str, str, str]]:
    """Return the classes' shares of all pixels in percent, before and after, for a table; ignored pixels last."""
    before, after = (*result.before, result.ignored[0]), (*result.after, result.ignored[1])
    rows = zip((*result.classes, "ignored"), before, after, strict=True)
    return [(name, percent(ours, 3), percent(theirs, 3)) for name, ours, theirs in rows]
