"""What became of a frame: its mask, how sure that is, and what people do with both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ConfigError
from ..core.images import write_mask
from ..core.types import ClassSet, ImageArray, MaskArray
from .confidence import Temperature, logits_at, upsample_confidence, upsample_probabilities
from .draw import ALPHA, colorize, overlay
from .fitting import Piece
from .regions import (
    Affine,
    Instance,
    Polygon,
    checked_tolerance,
    coco_annotations,
    described,
    feature_collection,
    instances,
)


def coverage(mask: MaskArray, classes: ClassSet) -> dict[str, float]:
    """Return each class's share of a mask's pixels, 0–1, by name."""
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    return {name: float(counts[i] / mask.size) for i, name in enumerate(classes.names)}


_UNASKED = "how sure the mask is was not computed; open the segmenter with confidence=True"


def thresholds(given: float | Mapping[str, float], classes: ClassSet) -> NDArray[np.float32]:
    """Return the least probability with which a pixel keeps its class, by mask value (256,); 0 where none is given.

    Raises:
        ConfigError: one is no probability, or of a class that is not there.
    """
    least = np.zeros(256, np.float32)
    for name, value in given.items() if isinstance(given, Mapping) else [(None, given)]:
        if not 0 <= value <= 1:
            raise ConfigError(f"threshold {value}{f' for {name}' if name else ''} is no probability; give 0 to 1")
        if name is None:
            least[:] = value
        else:
            least[classes.index(name)] = value
    return least


@dataclass(frozen=True, eq=False)
class Parts:
    """The logits that a mask came from, tile by tile.

    Args:
        logits: float32 (C, h, w) of each piece of the frame.
        temperature: what they are divided by; see :mod:`.confidence`.
    """

    logits: tuple[tuple[Piece, NDArray[np.float32]], ...]
    temperature: Temperature

    def probabilities(self, size: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the probability of each class (C, H, W) in a frame of (height, width) `size`."""
        found = np.empty((len(self.logits[0][1]), *size), np.float32)
        for piece, logits in self.logits:
            extent = piece.extent((logits.shape[1], logits.shape[2]))
            shares = upsample_probabilities(logits, piece.seen, temperature=self.temperature, extent=extent)
            rows, columns = piece.kept
            found[:, rows, columns] = shares[:, *piece.inner()]
        return found

    def confidence(self, size: tuple[int, ...], temperature: Temperature) -> NDArray[np.float32]:
        """Return the probability of each pixel's class (H, W) at another temperature."""
        found = np.empty(size, np.float32)
        for piece, logits in self.logits:
            extent = piece.extent((logits.shape[1], logits.shape[2]))
            _, shares = upsample_confidence(logits, piece.seen, temperature=temperature, extent=extent)
            found[piece.kept] = shares[piece.inner()]
        return found

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the upsampled logits of a few pixels of the frame, float32 (n, C)."""
        found = np.empty((len(rows), len(self.logits[0][1])), np.float32)
        for piece, logits in self.logits:
            kept = piece.kept
            here = (kept[0].start <= rows) & (rows < kept[0].stop)
            here &= (kept[1].start <= columns) & (columns < kept[1].stop)
            extent = piece.extent((logits.shape[1], logits.shape[2]))
            y, x = rows[here] - piece.top, columns[here] - piece.left
            found[here] = logits_at(logits, piece.seen, y, x, extent=extent)
        return found


@dataclass(frozen=True, eq=False)
class Prediction:
    """The classes of a frame's pixels.

    Args:
        mask: class ids, uint8 (H, W), at the frame's own size.
        classes: what the ids stand for.
        image: the frame itself, not a copy: a buffer that is filled again changes it here too.
        confidence: probability of each pixel's class, float32 (H, W) from 0 to 1; None where the segmenter was not
            asked for it.
        parts: logits that :meth:`probabilities` are computed from, or None likewise.

    Example:
        >>> prediction = featherseg.Segmenter("street.onnx")(np.zeros((64, 96, 3), np.uint8))
        >>> prediction.overlay().shape, round(sum(prediction.coverage().values()), 6)
        ((64, 96, 3), 1.0)
    """

    mask: MaskArray
    classes: ClassSet
    image: ImageArray
    confidence: NDArray[np.float32] | None = None
    parts: Parts | None = None

    def probabilities(self) -> NDArray[np.float32]:
        """Return the probability of each class at each pixel, float32 (C, H, W); they sum to 1.

        Their largest is :attr:`confidence`. They are computed here, and take C times as much memory as that.

        Raises:
            ConfigError: the segmenter was not asked for confidence.
        """
        if self.parts is None:
            raise ConfigError(_UNASKED)
        return self.parts.probabilities(self.mask.shape)

    def masked(self, threshold: float | Mapping[str, float]) -> MaskArray:
        """Return the mask with the ignored id (255) where it is unsure, uint8 (H, W), a new array.

        Args:
            threshold: probability, 0–1, that a pixel needs at least to keep its class; or one for each of some
                classes by name, while pixels of the others stay as they are.

        Raises:
            ConfigError: the segmenter was not asked for confidence, a threshold is no probability, or there is no class
                of that name.
        """
        if self.confidence is None:
            raise ConfigError(_UNASKED)
        least = thresholds(threshold, self.classes)
        kept = self.confidence >= (least[0] if (least == least[0]).all() else least[self.mask])
        return np.where(kept, self.mask, np.uint8(self.classes.ignore_index))

    def instances(self, min_area: int = 1, background: bool = False) -> list[Instance]:
        """Return the connected pieces of each class, with area, box and mean confidence.

        Args:
            min_area: pixels of the smallest piece that counts.
            background: whether the background counts too, if there is such a class; see :meth:`overlay`.

        Raises:
            ConfigError: `min_area` is below 1.
        """
        return instances(self.mask, self.classes, self.confidence, min_area=min_area, background=background)

    def polygons(self, tolerance: float = 1.0, min_area: int = 1, background: bool = False) -> list[Polygon]:
        """Return the outline of each connected piece, with its holes.

        Args:
            tolerance: by how many pixels it may be off, with so many fewer points. 0 keeps it exact: it encloses the
                centres of just the piece's pixels. Outlines of neighbours are made simpler each by itself, so that
                they may overlap, or leave gaps, by as much.
            min_area: see :meth:`instances`; so is `background`.
            background: whether the background counts too.

        Raises:
            ConfigError: `tolerance` is below 0, or `min_area` below 1.
        """
        checked_tolerance(tolerance)
        return [each.polygon(tolerance) for each in self.instances(min_area, background)]

    def to_json(
        self, polygons: bool = False, tolerance: float = 1.0, min_area: int = 1, background: bool = False
    ) -> str:
        """Return all of it as one line of JSON: size, share of each class, mean confidence, and the connected pieces.

        Args:
            polygons: whether the pieces have their outlines, too: the outer ring first, then those of holes.
            tolerance: of these; see :meth:`polygons`.
            min_area: see :meth:`instances`; so is `background`.
            background: whether the background counts too.
        """
        return json.dumps(self.to_dict(polygons, tolerance, min_area, background), ensure_ascii=False)

    def to_dict(
        self, polygons: bool = False, tolerance: float = 1.0, min_area: int = 1, background: bool = False
    ) -> dict[str, Any]:
        """Return what :meth:`to_json` writes, of JSON types only."""
        outlined = checked_tolerance(tolerance) if polygons else None
        said: dict[str, Any] = {"size": list(self.mask.shape)}
        said["coverage"] = {name: round(share, 6) for name, share in self.coverage().items()}
        if self.confidence is not None:
            said["confidence"] = round(float(self.confidence.mean()), 4)
        said["instances"] = [described(each, outlined) for each in self.instances(min_area, background)]
        return said

    def coco(self, image_id: int = 1, min_area: int = 1, background: bool = False) -> list[dict[str, Any]]:
        """Return the connected pieces as COCO's annotations, with run lengths, which are exact.

        Categories count from 1; with a background, which is 0, a category is the class's id.

        Args:
            image_id: what COCO calls the image.
            min_area: see :meth:`instances`; so is `background`.
            background: whether the background counts too.
        """
        pieces = self.instances(min_area, background)
        return coco_annotations(pieces, self.mask.shape, self.classes, image_id)

    def geojson(
        self,
        tolerance: float = 1.0,
        transform: Affine | None = None,
        min_area: int = 1,
        background: bool = False,
    ) -> dict[str, Any]:
        """Return the outlines as a GeoJSON FeatureCollection.

        Args:
            tolerance: see :meth:`polygons`.
            transform: a, b, c, d, e, f of x = a·column + b·row + c and y = d·column + e·row + f, from pixels to the
                map; pixels themselves where left out.
            min_area: see :meth:`instances`; so is `background`.
            background: whether the background counts too.

        Raises:
            ConfigError: an argument is out of range.
        """
        return feature_collection(self.polygons(tolerance, min_area, background), transform)

    def overlay(
        self,
        frame: ImageArray | None = None,
        alpha: float = ALPHA,
        legend: bool = True,
        background: bool = False,
        fade: bool = False,
    ) -> ImageArray:
        """Return the mask's colours over `frame` (by default the segmented one), RGB uint8 (H, W, 3).

        Args:
            frame: RGB uint8 image of the mask's size.
            alpha: share of the colours, 0–1.
            legend: whether to name the classes in a corner.
            background: whether to colour the background too, where the first class is called so, or void, other or
                unlabelled; it stays as it is in `frame` otherwise.
            fade: whether colours fade where the mask is unsure, down to none where it is no better than a guess.

        Raises:
            ConfigError: `frame` or `alpha` is none of these; or `fade`, and the segmenter was not asked for confidence.
        """
        if fade and self.confidence is None:
            raise ConfigError(_UNASKED)
        return overlay(
            self.image if frame is None else frame,
            self.mask,
            self.classes,
            alpha=alpha,
            legend=legend,
            background=background,
            confidence=self.confidence if fade else None,
        )

    def colors(self) -> ImageArray:
        """Return the mask in its classes' colours, RGB uint8 (H, W, 3)."""
        return colorize(self.mask, self.classes)

    def coverage(self) -> dict[str, float]:
        """Return each class's share of the pixels, 0–1, by name."""
        return coverage(self.mask, self.classes)

    def save(self, path: str | Path) -> Path:
        """Write the mask as a palette PNG: class ids as values, class colours for the eye; whole or not at all.

        Raises:
            ConfigError: `path` does not end in ``.png``, the one format here that keeps ids as they are.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ConfigError(f"{path}: other formats can change class ids; save the mask as a .png")
        return write_mask(path, self.mask, self.classes)
