"""Datasets of the library ``datasets`` on disk: folders of ``save_to_disk``, and Parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ...core.errors import ConfigError, DataError, first_line, require
from ...core.files import cache_folder, write_atomically
from ...core.text_files import parse_json, read_text, shortened
from ...core.types import IGNORE_INDEX, ClassSet
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets
from ..labels import LabelTable
from ..listing import files_of, settle_splits, split_of
from ..mask_annotations import IndexMask
from .coco import check_share
from .folder import infer_classes

IMAGE_NAMES = ("image", "images", "img", "pixel_values", "photo", "picture")
LABEL_NAMES = (
    "label", "labels", "mask", "masks", "annotation", "annotations", "semantic_mask", "segmentation_mask",
    "semantic_segmentation", "segmentation", "label_mask", "seg_map", "gt",
)  # fmt: skip
"""What people call the two columns, the most common first."""
NAMES_FILE = "id2label.json"
ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\x00": ".tif", b"MM\x00*": ".tif", b"BM": ".bmp"}
"""File endings by first bytes."""
MAX_ROWS = 5_000_000
BATCH = 16
"""Rows that are held in memory at a time."""


@datasets.register("huggingface")
def huggingface(
    root: Path,
    split: str = "train",
    *,
    image: str | None = None,
    label: str | None = None,
    val_share: float = 0.2,
    seed: int = 0,
) -> AnnotatedDataset:
    """Open a dataset that the library ``datasets`` wrote with ``save_to_disk``, or Parquet files as on its hub.

    Read are ``*.arrow`` files with ``dataset_info.json`` or ``dataset_dict.json``, and ``*.parquet`` files, in the
    folder and two levels below it; splits by the names of files and folders (``train-00000-of-00002.parquet``,
    ``validation/``). Needs the extra ``arrow``. The pictures in the files are unpacked once, byte for byte, into the
    user's cache (``~/.cache/featherseg/unpacked``).

    Overlaps: label pictures have none. Background: none but a class of that name. Ignored: 255. Classes are those of
    ``id2label.json`` where it is there; else they are inferred from the values, as in the kind ``folder``. Rows without
    a picture in both columns are left out.

    Args:
        root: the folder.
        split: ``train``, ``val``, ``test`` or ``all``.
        image: column of the images; by default the first that is called so.
        label: column of the label pictures; likewise.
        val_share: share of ``train`` that is drawn for ``val`` where no split is for validation, over 0 and under 1.
        seed: of the draw.
    """
    return huggingface_labels(root, image, label, val_share, seed).dataset(split)


@recognisers.register("huggingface")
def recognise_huggingface(root: Path) -> Evidence | None:
    """Know a saved dataset by its small JSON files, and Parquet files by their ending."""
    usual = ("dataset_dict.json", "dataset_info.json", "state.json")
    named = [root / name for name in usual if (root / name).is_file()]
    if named and files_of(root, [".arrow"], depth=1):
        return Evidence(f"{named[0].name} is of the library datasets", lambda: huggingface_labels(root))
    if parquet := files_of(root, [".parquet"]):
        return Evidence(f"{parquet[0].name} is a Parquet file", lambda: huggingface_labels(root))
    return None


def huggingface_labels(
    root: Path, image: str | None = None, label: str | None = None, val_share: float = 0.2, seed: int = 0
) -> Labels:
    """Read all splits; see :func:`huggingface`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigError: there is no column of that name.
        DataError: no file is there, or one is damaged or has no pictures.
    """
    check_share(val_share)
    arrow = require("pyarrow", "arrow", "Reading Arrow and Parquet files")
    files = files_of(root, [".parquet"]) or [f for f in files_of(root, [".arrow"]) if not f.name.startswith("cache-")]
    if not files:
        raise DataError(f"{root} holds no .arrow and no .parquet file; give the folder that save_to_disk wrote")
    found: dict[str | None, list[tuple[Path, Path]]] = {}
    count = bare = 0
    for file in files:
        for picture, mask in _unpacked(arrow, file, image, label):
            count += 1
            if count > MAX_ROWS:
                raise DataError(f"{root} holds over {MAX_ROWS:,} rows; name a folder with fewer")
            if picture is None or mask is None:
                bare += 1
            else:
                found.setdefault(split_of(file, root), []).append((picture, mask))
    if not found:
        raise DataError(f"{root} has no row with an image and a label picture; check its columns")
    classes, table, notes = _classes(root, [mask for pairs in found.values() for _, mask in pairs])
    samples = {
        split: [Sample(picture, IndexMask(mask, table)) for picture, mask in pairs] for split, pairs in found.items()
    }
    if bare:
        notes = (*notes, f"{bare} rows have no picture in both columns and are left out")
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    return Labels("huggingface", classes, splits, notes + drawn)


def _classes(root: Path, masks: list[Path]) -> tuple[ClassSet, LabelTable, tuple[str, ...]]:
    file = root / NAMES_FILE
    if not file.is_file():
        return infer_classes(masks)
    try:
        tree = parse_json(read_text(file))
        by_id = {int(key): str(name) for key, name in tree.items()}
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its rights") from error
    except (ValueError, AttributeError) as error:
        reason = shortened(first_line(error), 200)
        raise DataError(f"{file} is no table of ids and names ({reason}); correct it") from error
    if wrong := [value for value in by_id if not 0 <= value <= IGNORE_INDEX]:
        raise DataError(f"{file} has the id {wrong[0]}; masks of 8 bits hold 0 to {IGNORE_INDEX}")
    by_id.pop(IGNORE_INDEX, None)
    if len(set(by_id.values())) < len(by_id):
        raise DataError(f"{file} names a class twice; give each id its own")
    classes, ids, _ = name_classes([by_id[value] for value in sorted(by_id)], background=False, where=file)
    table = LabelTable({IGNORE_INDEX: IGNORE_INDEX} | {value: ids[name] for value, name in by_id.items()})
    return classes, table, (f"classes from {NAMES_FILE}; 255 is ignored",)


def _unpacked(
    arrow: ModuleType, file: Path, image: str | None, label: str | None
) -> Iterator[tuple[Path | None, Path | None]]:
    """Give the files that a data file's pictures are unpacked into; those that are there already are left alone."""
    about = file.stat()
    key = hashlib.sha256(f"{file.resolve()}:{about.st_size}:{about.st_mtime_ns}".encode()).hexdigest()[:24]
    cache = cache_folder()
    if cache is None:
        raise DataError(f"{file} holds pictures, which need a place; set XDG_CACHE_HOME to a folder")
    home = cache / "unpacked" / key
    row = 0
    try:
        for batch in _batches(file):
            ours = batch.column(_column(batch.schema, IMAGE_NAMES, image, file)).to_pylist()
            theirs = batch.column(_column(batch.schema, LABEL_NAMES, label, file)).to_pylist()
            for picture, mask in zip(ours, theirs, strict=True):
                yield _write(home / "images", row, picture), _write(home / "masks", row, mask)
                row += 1
    except (arrow.ArrowException, OSError, EOFError) as error:
        reason = shortened(first_line(error), 200)
        raise DataError(f"{file} cannot be read or unpacked into {home} ({reason}); download it again") from error


def _batches(file: Path) -> Iterator[Any]:
    """Give record batches of a few rows."""
    if file.suffix.lower() == ".parquet":
        yield from require("pyarrow.parquet", "arrow", "Reading Parquet files").ParquetFile(file).iter_batches(BATCH)
        return
    ipc = require("pyarrow.ipc", "arrow", "Reading Arrow files")
    with file.open("rb") as stream:
        for batch in ipc.open_stream(stream):
            for start in range(0, batch.num_rows, BATCH):
                yield batch.slice(start, BATCH)


def _column(schema: Any, usual: tuple[str, ...], own: str | None, file: Path) -> str:
    """Return the column of pictures that is called as is usual, or as the user says."""
    pictures = [name for name, kind in zip(schema.names, schema.types, strict=True) if _holds_pictures(kind)]
    if own is not None and own not in pictures:
        raise ConfigError(f"{file.name} has no column {shortened(own)} of pictures; its are {_listed(pictures)}")
    found = [own] if own is not None else [name for name in usual if name in pictures]
    if not found:
        what, option = ("images", "image") if usual is IMAGE_NAMES else ("label pictures", "label")
        raise DataError(
            f"{file} has no column that is called as {what} are; its columns of pictures are {_listed(pictures)}: "
            f"name one with data.options.{option}"
        )
    return found[0]


def _listed(names: list[str]) -> str:
    return shortened(", ".join(names), 200) or "none"


def _holds_pictures(kind: Any) -> bool:
    if str(kind) in ("binary", "large_binary"):
        return True
    return hasattr(kind, "get_field_index") and kind.get_field_index("bytes") >= 0


def _write(home: Path, row: int, content: Any) -> Path | None:
    data = content.get("bytes") if isinstance(content, Mapping) else content
    if not isinstance(data, bytes) or not data:
        return None
    ending = next((ending for head, ending in ENDINGS.items() if data.startswith(head)), ".webp")
    path = home / f"{row:07d}{ending}"
    if not path.is_file() or path.stat().st_size != len(data):
        write_atomically(path, lambda stream: stream.write(data))
    return path
