"""Mapillary Vistas: street scenes of the whole world, 66 or 124 classes, palette PNGs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ...core.errors import ConfigError, DataError, first_line
from ...core.images import list_images
from ...core.text_files import parse_json, read_text, shortened
from ...core.types import IGNORE_INDEX, ClassSet
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets
from ..labels import LabelTable
from ..listing import settle_splits, split_word
from ..mask_annotations import IndexMask
from .coco import check_share

# fmt: off
VISTAS_NAMES = (
    "Bird", "Ground Animal", "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bike Lane", "Crosswalk - Plain",
    "Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road", "Service Lane", "Sidewalk", "Bridge", "Building",
    "Tunnel", "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Crosswalk",
    "Lane Marking - General", "Mountain", "Sand", "Sky", "Snow", "Terrain", "Vegetation", "Water", "Banner", "Bench",
    "Bike Rack", "Billboard", "Catch Basin", "CCTV Camera", "Fire Hydrant", "Junction Box", "Mailbox", "Manhole",
    "Phone Booth", "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole", "Traffic Light",
    "Traffic Sign (Back)", "Traffic Sign (Front)", "Trash Can", "Bicycle", "Boat", "Bus", "Car", "Caravan",
    "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck", "Wheeled Slow", "Car Mount", "Ego Vehicle",
)
# fmt: on
"""Of version 1.2 in the order of their ids, as config_v1.2.json calls them; 65 is "Unlabeled"."""
LAYOUTS = {
    "2.0": ("v2.0/labels", "config_v2.0.json"),
    "1.2": ("v1.2/labels", "config_v1.2.json"),
    "1.1": ("labels", "config.json"),
}
"""Folders of masks within a split, and files of classes, the newest first."""
HEAD = 1 << 16


@datasets.register("vistas")
def vistas(
    root: Path, split: str = "train", *, version: str | float | None = None, val_share: float = 0.2, seed: int = 0
) -> AnnotatedDataset:
    """Open Mapillary Vistas.

    Read are ``training/``, ``validation/`` and ``testing/``, each with ``images/`` and ``v2.0/labels/``,
    ``v1.2/labels/`` or ``labels/``, and names and colours in ``config_v2.0.json``, ``config_v1.2.json`` or
    ``config.json``; where that of 1.2 is missing, the usual names. Masks are palette PNGs of ids; the 16-bit pictures
    of instances, panoptic ones and polygons are not read.

    Overlaps: the masks have none. Background: none. Ignored: the labels that the file marks ``"evaluate": false``,
    "Unlabeled" among them. Images without a mask, such as those of ``testing``, are left out.

    Args:
        root: the folder.
        split: ``train``, ``val`` or ``all``.
        version: ``"2.0"``, ``"1.2"`` or ``"1.1"``; by default the newest whose masks are there.
        val_share: share of ``train`` that is drawn for ``val`` where there is no ``validation``, over 0 and under 1.
        seed: of the draw.
    """
    return vistas_labels(root, None if version is None else str(version), val_share, seed).dataset(split)


@recognisers.register("vistas")
def recognise_vistas(root: Path) -> Evidence | None:
    """Know Vistas by its folders, together with its file of classes or the folder of version 1.2."""
    version = _newest(root)
    if version is None or not (root / "training" / "images").is_dir():
        return None
    seen = f"training/{LAYOUTS[version][0]} is of Mapillary Vistas"
    return Evidence(seen, lambda: vistas_labels(root), instead_of=("folder",))


def _newest(root: Path) -> str | None:
    for version, (labels, config) in LAYOUTS.items():
        if any((root / place / labels).is_dir() for place in ("training", "validation")):
            try:
                with (root / config).open("rb") as stream:
                    known = b'"readable"' in stream.read(HEAD)
            except OSError:
                known = version == "1.2"  # its names are well known
            if known:
                return version
    return None


def vistas_labels(root: Path, version: str | None = None, val_share: float = 0.2, seed: int = 0) -> Labels:
    """Read all splits; see :func:`vistas`.

    Raises:
        ConfigError: no such version.
        DataError: its folders are missing, or the file of classes is damaged.
    """
    check_share(val_share)
    if version is not None and version not in LAYOUTS:
        raise ConfigError(f"data.options.version is {shortened(version)}; Vistas has {', '.join(LAYOUTS)}")
    version = version or _newest(root)
    if version is None:
        raise DataError(
            f"{root} is not Mapillary Vistas: it needs training/images, training/v2.0/labels and config_v2.0.json, or "
            "those of 1.2 or 1.1; check the folder"
        )
    folder, config = LAYOUTS[version]
    classes, table, source = _classes(root / config, version)
    samples: dict[str | None, list[Sample]] = {}
    bare = 0
    for place in ("training", "validation", "testing"):
        if not (root / place / "images").is_dir():
            continue
        masks = root / place / folder
        by_stem = {path.stem: path for path in list_images(masks)} if masks.is_dir() else {}
        images = list_images(root / place / "images")
        bare += sum(image.stem not in by_stem for image in images)
        samples[split_word(place)] = [
            Sample(image, IndexMask(by_stem[image.stem], table)) for image in images if image.stem in by_stem
        ]
    if not any(samples.values()):
        raise DataError(f"{root} holds no image of Vistas {version} with a mask; check the folder")
    notes = [f"Mapillary Vistas {version}: {len(classes)} classes from {source}; those not evaluated are ignored"]
    if bare:
        notes.append(f"{bare} images have no mask and are left out")
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    return Labels("vistas", classes, splits, (*notes, *drawn))


def _classes(file: Path, version: str) -> tuple[ClassSet, LabelTable, str]:
    if not file.is_file() and version == "1.2":
        classes, _, _ = name_classes(VISTAS_NAMES, background=False, where=file)
        table = {place: place for place in range(len(classes))} | {len(classes): IGNORE_INDEX}
        return classes, LabelTable(table), "the list of version 1.2"
    try:
        tree: Any = parse_json(read_text(file))
        labels = [(str(entry["readable"]), str(entry["name"]), _color(entry), entry) for entry in tree["labels"]]
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); restore it") from error
    except (ValueError, KeyError, TypeError) as error:
        reason = shortened(first_line(error), 200)
        raise DataError(f"{file} is no file of Vistas' classes ({reason}); restore it") from error
    if len(labels) > IGNORE_INDEX:
        raise DataError(f"{file} has {len(labels)} labels; masks of 8 bits hold {IGNORE_INDEX} at most")
    counts = Counter(readable for readable, *_ in labels)
    kept, ids = dict[str, tuple[int, int, int]](), {IGNORE_INDEX: IGNORE_INDEX}
    for value, (readable, name, color, entry) in enumerate(labels):
        short = readable if counts[readable] == 1 else name
        if entry.get("evaluate") is False:
            ids[value] = IGNORE_INDEX
        elif short in kept:
            raise DataError(f"{file} has the label {shortened(repr(short))} twice; restore it")
        else:
            ids[value] = len(kept)
            kept[short] = color
    classes, _, _ = name_classes([*kept], kept, background=False, where=file)
    if len(classes) != len(kept):
        raise DataError(f"{file} has labels that differ in spaces alone; restore it")
    return classes, LabelTable(ids), file.name


def _color(entry: Any) -> tuple[int, int, int]:
    red, green, blue = (int(part) for part in entry["color"])
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(f"a colour is {red}, {green}, {blue}")
    return red, green, blue
