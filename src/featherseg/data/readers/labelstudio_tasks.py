"""The tasks in Label Studio's JSON, full or minimal, and the regions that are drawn in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from ...core.images import IMAGE_SUFFIXES, MAX_PIXELS, upright_size
from ...core.text_files import shortened
from ...core.types import MaskArray
from ..brush_rle import decode
from ..image_names import path_in
from ..outlines import ellipse_ring, number, turned
from ..shapes import Bitmap, Polygons, Region, Shape, Size, blamed, box_ring, check_size, paint

MAX_BRUSHED = 1 << 33
"""Pixels of all brush regions of an image together: 700 of a photograph of 12 megapixels."""
LABEL_KEYS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels", "bitmasklabels")


@dataclass(frozen=True, eq=False)
class Result:
    """A region, as the file has it.

    Args:
        value: coordinates in percent of the picture, or run lengths.
        label: its first label; empty where it has none.
        labels: how many it has.
        size: height and width of the picture; None where the file does not say.
        turned: degrees by which the picture was turned while it was labelled.
        other: what the file calls it, where it has no area.
    """

    value: Mapping[str, Any]
    label: str
    labels: int
    size: Size | None
    turned: object
    other: str = "other"

    @property
    def kind(self) -> str:
        """What it is: ``brush``, ``polygon``, ``ellipse``, ``rectangle``, or another thing, which has no area."""
        value = self.value
        if value.get("format") == "rle" or "rle" in value:
            return "brush"
        if "points" in value:
            return "polygon"
        if "radiusX" in value:
            return "ellipse"
        if {"x", "y", "width", "height"} <= value.keys():
            return "rectangle"
        return self.other

    @property
    def has_area(self) -> bool:
        """Whether it is a region of the picture."""
        return self.kind in ("brush", "polygon", "ellipse", "rectangle")

    def region(self, size: Size) -> Region:
        """Return its area in a picture of (height, width).

        Raises:
            ValueError: it is damaged; one line.
        """
        value = self.value
        if self.kind == "brush":
            data = value.get("rle")
            if not isinstance(data, bytes):
                raise ValueError("a brush has no rle")
            return Bitmap(decode(data, size))
        scale = np.array([size[1], size[0]], np.float64) / 100
        if self.kind == "polygon":
            points = value["points"]
            if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
                raise ValueError("a polygon's points are no list of [x, y]")
            corners = [[number(part, "a coordinate") for part in point] for point in points]
            return Polygons((np.array(corners, np.float64).reshape(-1, 2) * scale,))
        x, y = (number(value.get(key), key) * share for key, share in zip("xy", scale.tolist(), strict=True))
        angle = number(value.get("rotation") or 0, "rotation")
        keys = ("radiusX", "radiusY") if self.kind == "ellipse" else ("width", "height")
        across, down = (number(value.get(key), key) * share for key, share in zip(keys, scale.tolist(), strict=True))
        if self.kind == "ellipse":
            return Polygons((turned(ellipse_ring(x, y, across, down), angle, (x, y)),))
        # Rectangles are turned about their first corner, ellipses about their centre.
        return Polygons((turned(box_ring(x, y, x + across, y + down), angle, (x, y)),))


@dataclass(frozen=True, eq=False)
class Task:
    """An image to be labelled, and its regions.

    Args:
        number: in the project.
        images: names that it may have, the likeliest first.
        results: of the annotation that is read.
        labelled: whether somebody finished it.
        annotations: how many it has.
    """

    number: int | None
    images: tuple[str, ...]
    results: tuple[Result, ...]
    labelled: bool
    annotations: int


@dataclass(frozen=True, eq=False)
class TaskDrawing:
    """The regions of a task.

    Args:
        file: the JSON.
        image: the task's.
        task: with its regions.
        labels: class ids by the labels' names.
        base: id of pixels that no region covers.
    """

    file: Path
    image: Path
    task: Task
    labels: Mapping[str, int]
    base: int

    def read(self) -> MaskArray:
        """Return class ids, uint8 (H, W), of the image as a browser shows it: upright.

        Raises:
            DataError: a region is damaged.
        """
        results = [result for result in self.task.results if result.has_area and result.label]
        try:
            size = next((result.size for result in results if result.size), None)
            if size is None:
                size = upright_size(self.image)
            check_size(size)
            return paint(size, self._shapes(results, size), self.base, smaller_on_top=False)
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise blamed(error, self.file, self.image.name) from error

    def _shapes(self, results: list[Result], size: Size) -> Iterator[Shape]:
        brushed = 0
        for result in results:
            if result.size not in (None, size):
                raise ValueError("its regions are of pictures of different sizes")
            if result.turned not in (None, 0, 0.0):
                raise ValueError(
                    f"the image was turned by {shortened(repr(result.turned), 20)} degrees while it was labelled"
                )
            brushed += size[0] * size[1] if result.kind == "brush" else 0
            if brushed > MAX_BRUSHED:
                raise ValueError(f"its brush regions have over {MAX_BRUSHED:,} pixels together")
            yield Shape(result.region(size), self.labels[result.label])


FULL = frozenset({"annotations", "completions", "predictions"})
"""Keys of tasks in the full export."""


def tasks_of(tree: Any, file: Path, *, predictions: bool = False) -> list[Task]:
    """Return the tasks of an export, whose kind each entry shows: ``annotations``, or regions among its own keys.

    Args:
        tree: the JSON.
        file: for messages.
        predictions: take what a network labelled where no person did.

    Raises:
        DataError: it holds something else.
    """
    if not isinstance(tree, list) or not all(isinstance(entry, dict) for entry in tree):
        raise DataError(f"Label Studio export {file} is no list of tasks; export again as JSON")
    return [_full(entry, predictions) if FULL & entry.keys() else _minimal(entry) for entry in tree]


def _full(entry: Mapping[str, Any], predictions: bool) -> Task:
    every = _dictionaries(entry.get("annotations", entry.get("completions")))
    finished = [each for each in every if not each.get("was_cancelled") and isinstance(each.get("result"), list)]
    if predictions and not finished:
        finished = [each for each in _dictionaries(entry.get("predictions")) if isinstance(each.get("result"), list)]
    chosen = next((each for each in finished if each.get("ground_truth") is True), finished[-1] if finished else None)
    data = entry.get("data")
    names = [entry.get("file_upload"), *_image_names(data if isinstance(data, dict) else {})]
    results = _results(_dictionaries(chosen["result"])) if chosen else ()
    return Task(_number(entry), _texts(names), results, chosen is not None, len(finished))


def _minimal(entry: Mapping[str, Any]) -> Task:
    regions = [
        region
        for value in entry.values()
        for region in _dictionaries(value)
        if region.keys() & set(LABEL_KEYS) or "original_width" in region
    ]
    results = tuple(_result(region, region) for region in regions)
    return Task(_number(entry), _texts(_image_names(entry)), results, bool(regions), 1)


def _results(entries: list[Mapping[str, Any]]) -> tuple[Result, ...]:
    """Return the regions of an annotation: entries of one id are one region, since a label may stand apart."""
    groups: dict[object, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for place, entry in enumerate(entries):
        value, own = entry.get("value"), entry.get("id")
        if isinstance(value, dict):
            groups.setdefault(own if isinstance(own, str) else place, []).append((entry, value))
    results = []
    for group in groups.values():
        found = [_result(entry, value) for entry, value in group]
        shape = next((result for result in found if result.has_area), found[0])
        labels = next((result for result in found if result.label), shape)
        results.append(replace(shape, label=labels.label, labels=labels.labels))
    return tuple(results)


def _result(about: Mapping[str, Any], value: Mapping[str, Any]) -> Result:
    labels = _labels_of(value)
    height, width = about.get("original_height"), about.get("original_width")
    size = None
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0 and height * width <= MAX_PIXELS:
        size = height, width
    kind = about.get("type")
    other = kind if isinstance(kind, str) and kind.isprintable() and kind else "other"
    return Result(value, labels[0] if labels else "", len(labels), size, about.get("image_rotation"), other)


def _labels_of(value: Mapping[str, Any]) -> list[str]:
    found = (value.get(key) for key in LABEL_KEYS)
    every = (label for labels in found if isinstance(labels, list) for label in labels)
    return [label for label in every if isinstance(label, str) and label]


def _number(entry: Mapping[str, Any]) -> int | None:
    number = entry.get("id")
    return number if type(number) is int else None


def _dictionaries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _image_names(data: Mapping[str, Any]) -> list[str]:
    """Return the values that name an image, those under ``image`` first."""
    keys = sorted((key for key in data if isinstance(data[key], str)), key=lambda key: key != "image")
    return [data[key] for key in keys if Path(path_in(data[key])).suffix.lower() in IMAGE_SUFFIXES]


def _texts(names: list[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and name))
