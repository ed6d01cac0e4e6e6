"""CVAT's XML for images 1.1: polygons, masks as run lengths in their boxes, boxes and ellipses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.errors import DataError, first_line
from ...core.images import MAX_PIXELS
from ...core.text_files import shortened
from ...core.types import MaskArray
from ..annotations import Labels, Sample, name_classes
from ..listing import Pictures, settle_splits, split_word
from ..outlines import ellipse_ring, number, turned
from ..shapes import MAX_WORK, Bitmap, Polygons, Region, Shape, blamed, box_ring, check_size, paint, ring_of
from ..xml_files import Element, read_xml

HEAD = 4096
"""Bytes in which CVAT's XML is known."""
MAX_LAYER = 1 << 30
AREAS = ("polygon", "mask", "box", "ellipse")
NO_AREAS = ("polyline", "points", "cuboid", "skeleton", "tag")


@dataclass(frozen=True, eq=False)
class CvatDrawing:
    """The shapes of an ``<image>``.

    Args:
        file: the XML.
        element: the image's.
        labels: class ids by the labels' names.
        base: id of pixels that no shape covers.
    """

    file: Path
    element: Element
    labels: dict[str, int]
    base: int

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W), of the image as it is shown upright.

        Raises:
            DataError: a shape is damaged.
        """
        about = self.element.attributes
        try:
            size = _whole(about, "height"), _whole(about, "width")
            check_size(size)
            return paint(size, self._shapes(), self.base, smaller_on_top=False)
        except ValueError as error:
            raise blamed(error, self.file, shortened(repr(about.get("name", "?")))) from error

    def _shapes(self) -> Iterator[Shape]:
        pixels = 0
        for child in self.element.children:
            if child.tag == "mask":
                pixels += abs(_whole(child.attributes, "height") * _whole(child.attributes, "width"))
                if pixels > MAX_WORK:
                    raise ValueError(f"its masks have over {MAX_WORK:,} pixels together")
            if child.tag in AREAS:
                yield Shape(region_of(child), self.labels[child.attributes.get("label", "")], _layer(child))


def find_xml(root: Path) -> Path | None:
    """Return the file in a folder that is CVAT's XML, by its first bytes; ``annotations.xml`` before others."""
    for file in sorted(root.glob("*.xml"), key=lambda path: (path.name != "annotations.xml", path.name))[:20]:
        try:
            with file.open("rb") as stream:
                head = stream.read(HEAD)
        except OSError:
            continue
        if b"<annotations" in head and (b"<version>1" in head or b"<meta>" in head):
            return file
    return None


def xml_labels(root: Path, file: Path, images: Path | None, val_share: float, seed: int) -> Labels:
    """Read an export "CVAT for images 1.1".

    Raises:
        DataError: it is damaged or of a video, or none of its images is there.
    """
    try:
        top = read_xml(file)
    except ValueError as error:
        raise DataError(f"{file} cannot be read as XML ({error}); export again") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its rights") from error
    if any(child.tag == "track" for child in top.children):
        raise DataError(f"{file} holds tracks of a video; export the task as CVAT for images 1.1")
    entries = [child for child in top.children if child.tag == "image"]
    names, colors = _declared(top)
    used = {child.attributes.get("label", "") for entry in entries for child in entry.children if child.tag in AREAS}
    classes, labels, base = name_classes([*names, *sorted(used - set(names))], colors, background=True, where=file)

    pictures, bare, unread = Pictures(images or root), 0, Counter[str]()
    samples: dict[str | None, dict[Path, Sample]] = defaultdict(dict)
    missing: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        unread.update(child.tag for child in entry.children if child.tag in NO_AREAS)
        if not any(child.tag in AREAS for child in entry.children):
            bare += 1
            continue
        name = entry.attributes.get("name", "")
        split = split_word(entry.attributes.get("subset", ""))
        image = pictures.find(name, near=[split] if split else [])
        if image is None:
            missing[split or "train"].append(name)
        else:
            samples[split][image] = Sample(image, CvatDrawing(file, entry, labels, base))
    if not samples:
        what = f"holds {len(entries)} images without shapes" if not missing else "names images that are not there"
        raise DataError(f'{file} {what}; export again with "Save images", or name their folder: data.options.images')
    notes = [
        f"classes from {file.name}; what no shape covers is the class {classes.names[base]}; nothing is ignored",
        "where shapes overlap, the higher z_order lies on top, then the later one",
    ]
    if bare:
        notes.append(f"{bare} images have no shapes and are left out: nothing says that they are finished")
    if unread:
        counts = ", ".join(f"{count} {tag}" for tag, count in sorted(unread.items()))
        notes.append(f"not read, as they have no area: {counts}")
    samples_of = {split: [*part.values()] for split, part in samples.items()}
    splits, drawn = settle_splits(samples_of, val_share, seed, len(classes))
    return Labels("cvat", classes, splits, (*notes, *drawn), {name: tuple(part) for name, part in missing.items()})


def _declared(top: Element) -> tuple[list[str], dict[str, tuple[int, int, int]]]:
    """Return the labels of a task, job or project in their order, and the colours that they have."""
    names, colors = list[str](), {}
    meta = top.find("meta")
    for element in meta.walk() if meta else ():
        if element.tag == "label" and (name := element.find("name")) is not None and name.text:
            names.append(name.text)
            color = element.find("color")
            digits = color.text.removeprefix("#") if color else ""
            try:
                value = int(digits, 16) if len(digits) == 6 else -1
            except ValueError:
                value = -1
            if value >= 0:
                colors[name.text] = (value >> 16, value >> 8 & 255, value & 255)
    return names, colors


def region_of(element: Element) -> Region:
    """Return the area of a shape.

    Raises:
        ValueError: it is damaged; one line.
    """
    about = element.attributes
    if element.tag == "polygon":
        pairs = [pair.split(",") for pair in about.get("points", "").split(";") if pair.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("a polygon has a point that is no x,y")
        return Polygons((ring_of([number(part, "a coordinate") for pair in pairs for part in pair]),))
    if element.tag == "mask":
        height, width = _whole(about, "height"), _whole(about, "width")
        inside = decode_runs(about.get("rle", ""), (height, width))
        return Bitmap(inside, _whole(about, "top"), _whole(about, "left"))
    angle = number(about.get("rotation", "0"), "rotation")
    if element.tag == "box":
        left, top, right, bottom = (number(about.get(key), key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return Polygons((turned(box_ring(left, top, right, bottom), angle, ((left + right) / 2, (top + bottom) / 2)),))
    x, y, radius_x, radius_y = (number(about.get(key), key) for key in ("cx", "cy", "rx", "ry"))
    return Polygons((turned(ellipse_ring(x, y, radius_x, radius_y), angle, (x, y)),))


def decode_runs(text: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask, bool (H, W), from CVAT's run lengths: pixels outside, inside, outside, …, row by row of its box.

    Raises:
        ValueError: they are no numbers, or of another number of pixels.
    """
    height, width = size
    if not 0 < height * width <= MAX_PIXELS or height < 0:
        raise ValueError(f"a mask has a box of {height}x{width} pixels")
    try:
        counts = np.array([int(count) for count in text.split(",")], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a mask's run lengths are no numbers ({shortened(first_line(error))})") from error
    if (counts < 0).any() or (counts > height * width).any() or int(counts.sum()) != height * width:
        raise ValueError(f"a mask's run lengths do not make the {height * width} pixels of its box")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def _whole(about: dict[str, str], key: str) -> int:
    value = number(about.get(key), key)
    if value != int(value):
        raise ValueError(f"{key} is {about[key]!r}, which is no whole number")
    return int(value)


def _layer(element: Element) -> int:
    layer = _whole({"z_order": element.attributes.get("z_order") or "0"}, "z_order")
    if abs(layer) > MAX_LAYER:
        raise ValueError(f"z_order is {layer}; CVAT's are small")
    return layer
