"""Label Studio's exports: JSON and JSON_MIN with brush strokes and shapes, and PNG files of one class each."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ...core.errors import DataError, first_line
from ...core.text_files import parse_json, read_text, shortened
from ...core.types import IGNORE_INDEX
from ..annotations import IGNORED, AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets
from ..image_names import find_bare, find_uploaded, path_in
from ..listing import Pictures, files_of, settle_splits
from .coco import check_share
from .labelstudio_tasks import Result, Task, TaskDrawing, tasks_of
from .per_class import Found, layered_labels

HEAD = 1 << 16
"""Bytes in which an export is known: names and sizes come before the long run lengths."""
MAX_JSON_BYTES = 512 << 20
"""Largest export that is read; brush strokes take about 30 kB each."""
TOKENS = (b'"brushlabels"', b'"polygonlabels"', b'"rectanglelabels"', b'"ellipselabels"', b'"from_name"')
TAG_FILE = re.compile(r"task-(\d+)-annotation-(\d+)-by-(.*)-tag-(.+)-(\d+)")


@datasets.register("labelstudio")
def labelstudio(
    root: Path,
    split: str = "train",
    *,
    images: str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
    predictions: bool = False,
) -> AnnotatedDataset:
    """Open an export of Label Studio: a JSON or JSON-MIN file in the folder, or one PNG per annotation and class.

    Read are brush strokes (Label Studio's own run lengths), polygons, rectangles and ellipses, turned or not. Images
    are looked for in the folder and below it by the names in the file; addresses and the paths of uploads and local
    files are reduced to names. PNG files (``task-1-annotation-2-by-3-tag-road-0.png``) say a task's number alone: the
    JSON export beside them, or an image that is called by the number, says which image that is.

    Overlaps: of regions, the later one in the file lies on top; of PNG files, the class with fewer pixels in that
    image. Background: what no region covers is the class of that name, or a class "background" that is put before the
    labels; where there are PNG files of a class "background", it is ignored instead. Ignored: regions that are called
    ``__ignore__``, as in LabelMe. Classes are in alphabetical order, since exports do not hold the project's. Of
    several annotations of a task the one that is marked as ground truth is read, else the last; tasks that nobody
    labelled, and cancelled annotations, are left out; so are predictions, unless they are asked for.

    Args:
        root: folder of the export.
        split: ``train``, ``val`` or ``all``; Label Studio has no splits.
        images: folder of the images where it is another; relative to `root`, or not.
        val_share: share of the images that is drawn for ``val``, over 0 and under 1.
        seed: of the draw.
        predictions: read what a network labelled in tasks that no person did, too.
    """
    home = root / Path(images).expanduser() if images else None
    return labelstudio_labels(root, home, val_share, seed, predictions=predictions).dataset(split)


@recognisers.register("labelstudio")
def recognise_labelstudio(root: Path) -> Evidence | None:
    """Know an export by the first bytes of a JSON file in the folder, or by the PNG files' names."""
    if tags := tag_files(root):
        seen = f"{tags[0].name} is called as in Label Studio's exports"
        return Evidence(seen, lambda: labelstudio_labels(root), instead_of=("per_class", "folder"))
    if file := find_json(root):
        return Evidence(f"{file.name} is Label Studio's", lambda: labelstudio_labels(root))
    return None


def find_json(root: Path) -> Path | None:
    """Return the file in a folder that is Label Studio's JSON, by its first bytes."""
    for file in sorted(root.glob("*.json"))[:50]:
        try:
            with file.open("rb") as stream:
                head = stream.read(HEAD)
        except OSError:
            continue
        if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[") and any(token in head for token in TOKENS):
            return file
    return None


def tag_files(root: Path) -> list[Path]:
    """Return the PNG files of one annotation and class each, in the folder or the ones in it."""
    return [file for file in files_of(root, [".png"], depth=1) if TAG_FILE.fullmatch(file.stem)]


def labelstudio_labels(
    root: Path, images: Path | None = None, val_share: float = 0.2, seed: int = 0, *, predictions: bool = False
) -> Labels:
    """Read all that an export holds; see :func:`labelstudio`.

    Raises:
        DataError: it is no export of Label Studio, it is damaged, or none of its images is there.
    """
    check_share(val_share)
    pictures, file, tags = Pictures(images or root), find_json(root), tag_files(root)
    tasks = tasks_of(_read(file), file, predictions=predictions) if file else []
    if tags:
        return _of_tags(root, tags, tasks, pictures, val_share, seed)
    if file is None:
        raise DataError(f"{root} is no export of Label Studio: no JSON of it, and no task-…-tag-….png; export again")
    return _of_tasks(tasks, file, pictures, val_share, seed)


def _read(file: Path) -> Any:
    def packed(entry: dict[str, Any]) -> dict[str, Any]:
        if isinstance(entry.get("rle"), list):  # a fortieth of the memory
            try:
                entry["rle"] = bytes(entry["rle"])
            except (TypeError, ValueError) as error:
                raise ValueError("a brush's rle is no list of bytes") from error
        return entry

    try:
        return parse_json(read_text(file, MAX_JSON_BYTES), packed)
    except ValueError as error:
        reason = shortened(first_line(error), 200)
        raise DataError(f"Label Studio export {file} cannot be read: {reason}; export again") from error
    except OSError as error:
        raise DataError(f"Label Studio export {file} cannot be read ({error.strerror}); check its rights") from error


def _of_tasks(tasks: list[Task], file: Path, pictures: Pictures, val_share: float, seed: int) -> Labels:
    results = [result for task in tasks for result in task.results]
    names = sorted({result.label for result in results if result.label and result.has_area} - {IGNORED})
    if not names:
        raise DataError(f"Label Studio export {file} holds no region with a label; label the images, then export")
    classes, ids, base = name_classes(names, background=True, where=file)
    ids |= {IGNORED: IGNORE_INDEX}
    ignored = sum(result.has_area and result.label == IGNORED for result in results)
    samples, missing = dict[Path, Sample](), list[str]()
    for task in tasks:
        if not task.labelled:
            continue
        image = next((found for name in task.images if (found := find_uploaded(pictures, name))), None)
        if image is None:
            missing.append(task.images[0] if task.images else f"task {task.number}")
        else:
            samples[image] = Sample(image, TaskDrawing(file, image, task, ids, base))
    if not samples:
        raise DataError(
            f"{len(missing)} labelled images are not in {pictures.root}, such as "
            f"{shortened(repr(path_in(missing[0])), 200)}; put them there, or name their folder: data.options.images"
            if missing
            else f"Label Studio export {file} holds no finished task; label the images, then export"
        )
    notes = [
        f"classes from {file.name}, in alphabetical order; what no region covers is the class {classes.names[base]}; "
        + (f"{ignored} regions called {IGNORED} are ignored" if ignored else "nothing is ignored"),
        "where regions overlap, the later one in the file lies on top",
        *_left_out(tasks, results),
    ]
    splits, drawn = settle_splits({None: [*samples.values()]}, val_share, seed, len(classes))
    return Labels("labelstudio", classes, splits, (*notes, *drawn), {"train": tuple(missing)} if missing else {})


def _left_out(tasks: list[Task], results: list[Result]) -> list[str]:
    """Return sentences about what was not read."""
    notes = []
    if count := sum(not task.labelled for task in tasks):
        notes.append(f"{count} tasks have no finished annotation and are left out")
    if count := sum(task.annotations > 1 for task in tasks):
        notes.append(f"{count} tasks have several annotations: the ground truth is read, else the last")
    if count := sum(result.has_area and not result.label for result in results):
        notes.append(f"{count} regions have no label and are not read")
    if count := sum(result.labels > 1 for result in results):
        notes.append(f"{count} regions have several labels: the first is read")
    if other := Counter(result.kind for result in results if not result.has_area):
        notes.append(f"not read: {', '.join(f'{count} {shortened(kind)}' for kind, count in sorted(other.items()))}")
    return notes


def _of_tags(
    root: Path, tags: list[Path], tasks: list[Task], pictures: Pictures, val_share: float, seed: int
) -> Labels:
    """Read the PNG files of each task's last annotation."""
    files: dict[int, dict[int, list[tuple[str, Path]]]] = defaultdict(lambda: defaultdict(list))
    for path in tags:
        match = TAG_FILE.fullmatch(path.stem)
        if match is None or max(len(match[1]), len(match[2])) > 18:
            raise DataError(f"{path} has a number that no task of Label Studio has; rename it")
        files[int(match[1])][int(match[2])].append((match[4], path))
    named = {task.number: task.images for task in tasks if task.number is not None}
    found: dict[Path, list[tuple[str, Path]]] = {}
    lost = []
    for number, versions in sorted(files.items()):
        names = named.get(number, ())
        image = next((file for name in names if (file := find_uploaded(pictures, name))), None)
        if image is None and not names:
            image = find_bare(pictures, str(number))
        if image is None:
            lost.append(number)
        else:
            found[image] = versions[max(versions)]
    if lost:
        raise DataError(
            f"{len(lost)} tasks have PNG files but no image, such as task {lost[0]}; put the images into {root}, and "
            "the JSON export beside them, which says their names"
        )
    labels: Found = {"": found}
    result = layered_labels("labelstudio", root, labels, val_share, seed)
    several = sum(len(versions) > 1 for versions in files.values())
    note = (f"{several} tasks have several annotations: the last is read",) if several else ()
    return Labels(result.kind, result.classes, result.splits, result.notes + note)
