"""The small value types that every layer shares. No torch here: they travel inside exported files."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, did_you_mean
from .text_files import shortened

IGNORE_INDEX = 255
"""Mask value of pixels that are neither trained on nor counted (VOC's border, CamVid's unlabelled)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB statistics of ImageNet on [0, 1], as torchvision and timm weights were trained with."""

MAX_LONG_SIDE = 1 << 14
"""Of what a network sees of a frame; a file that asks for more is damaged."""
MIN_SIZE = 64
"""Smallest height or width a network sees. Smaller images are edge-padded at the right and bottom, so
that the deepest (stride 32) maps keep 2×2 values and batch norm works with a batch of one."""

LEFTOVERS = frozenset({"background", "other", "void", "unlabeled", "unlabelled"})
"""Names of classes that say nothing about what a picture shows, in lower case."""

ImageArray = NDArray[np.uint8]
"""RGB image, uint8 (H, W, 3)."""
MaskArray = NDArray[np.uint8]
"""Class ids, uint8 (H, W); 255 is ignored."""


def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` RGB colours (0–255) that are easy to tell apart: golden-ratio steps round the hues."""
    colors = []
    for i in range(count):
        hue, shade = (i * 0.618034) % 1.0, i % 3
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.75, 0.5, 0.9)[shade], (0.95, 0.85, 0.65)[shade])
        colors.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colors)


@dataclass(frozen=True)
class ClassSet:
    """Names and colours of the classes; a class's id is its place.

    Args:
        names: one distinct name per class.
        colors: one RGB triple (0–255) per class; made up where none are given.
        ignore_index: mask value (0–255) that stands for no class.

    Raises:
        ConfigError: no, too many (masks are uint8) or double names; colours or `ignore_index` out of range.

    Example:
        >>> classes = featherseg.ClassSet(("road", "sky", "car"))
        >>> classes.index("car"), classes.ignore_index
        (2, 255)
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] = ()
    ignore_index: int = IGNORE_INDEX

    def __post_init__(self) -> None:
        names: Any = self.names  # class files may hold anything
        if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(f'class names are {names!r}; give a list of texts such as ["road", "sky"]')
        object.__setattr__(self, "names", tuple(self.names))
        colors = tuple((int(r), int(g), int(b)) for r, g, b in self.colors) or distinct_colors(len(self.names))
        object.__setattr__(self, "colors", colors)
        if not self.names:
            raise ConfigError("a class set needs at least one class; got none")
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ConfigError(f"class name {twice!r} occurs twice; give each class its own name")
        if len(self.colors) != len(self.names):
            raise ConfigError(f"{len(self.names)} class names but {len(self.colors)} colours; give one per class")
        if wrong := next((color for color in self.colors if not all(0 <= part <= 255 for part in color)), None):
            raise ConfigError(f"class colour {wrong} is out of range; give red, green and blue of 0 to 255")
        if not 0 <= self.ignore_index <= 255:
            raise ConfigError(f"ignore_index is {self.ignore_index}; masks are uint8, so give 0 to 255")
        if self.ignore_index < len(self.names):
            raise ConfigError(
                f"ignore_index {self.ignore_index} is the id of class {self.names[self.ignore_index]!r}; "
                f"{len(self.names)} classes leave {len(self.names)} to 255 for it (255 classes at most)"
            )
        if len(self.names) > self.ignore_index:
            raise ConfigError(f"{len(self.names)} classes; at most {self.ignore_index} fit beside the ignored id")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the id of class `name`."""
        if name not in self.names:
            raise ConfigError(f"unknown class {name!r}; {did_you_mean(name, self.names)}")
        return self.names.index(name)

    @property
    def background(self) -> int | None:
        """Id of the class of whatever is nothing else: the first, if it is called so; None where there is none.

        Tools put it first, and so do PASCAL VOC and masks of one thing. A leftover class among others, as in street
        sets, is a class like them.

        >>> ClassSet(("background", "cat")).background, ClassSet(("road", "void")).background
        (0, None)
        """
        return 0 if self.names[0].strip(" _").casefold() in LEFTOVERS else None

    def palette(self) -> NDArray[np.uint8]:
        """Return colours by mask value, uint8 (256, 3); ignored and unused values are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads, of JSON types only."""
        colors = [list(color) for color in self.colors]
        return {"names": list(self.names), "colors": colors, "ignore_index": self.ignore_index}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClassSet:
        """Rebuild a class set from what :meth:`to_dict` gave, or from a file that says so.

        Raises:
            ConfigError: as the class itself.
            KeyError, TypeError, ValueError: it is no such thing at all, or too large; the caller says in which file.
        """
        if (count := len(data["names"])) > IGNORE_INDEX:  # before a million names are compared with each other
            raise ValueError(f"{count} classes; at most {IGNORE_INDEX} fit beside the ignored id")
        colors = tuple((int(r), int(g), int(b)) for r, g, b in data.get("colors", ()))
        return cls(data["names"], colors, int(data.get("ignore_index", IGNORE_INDEX)))


@dataclass(frozen=True)
class InputSpec:
    """How a network wants its images: at a size, and RGB on [0, 1], minus `mean`, over `std`, per channel.

    Args:
        mean: subtracted, per channel.
        std: divided by.
        long_side: pixels of the longer side, to which frames are resized with their shape kept; None takes them as
            they are. A network that was trained on small pictures enlarged, or on large ones made smaller, wants others
            alike.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    long_side: int | None = None

    def scale(self, frame: tuple[int, int]) -> float:
        """Return by how much frames of a (height, width) are magnified for the network."""
        return self.long_side / max(frame) if self.long_side else 1.0

    def size(self, frame: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
        """Return the (height, width) at which the network sees frames of a (height, width), `scale` times as large."""
        factor = scale * self.scale(frame)
        return max(round(frame[0] * factor), 1), max(round(frame[1] * factor), 1)

    def normalize(self, image: ImageArray) -> NDArray[np.float32]:
        """Return uint8 RGB (H, W, 3) as normalised float32 (3, H, W)."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        scaled = (image.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` reads, of JSON types only."""
        said: dict[str, Any] = {"mean": list(self.mean), "std": list(self.std)}
        return said | {"long_side": self.long_side} if self.long_side else said

    @classmethod
    def from_dict(cls, data: Any) -> InputSpec:
        """Rebuild it from what :meth:`to_dict` gave, or from a file that says so.

        Raises:
            ValueError: `data` does not hold three usable numbers each, or no usable side; the caller says in which
                file.
        """
        triples = []
        for key in ("mean", "std"):
            values = data.get(key) if isinstance(data, Mapping) else None
            numbers = values if isinstance(values, list) and all(map(_is_modest, values)) else []
            if len(numbers) != 3 or (key == "std" and min(numbers) <= 0):
                raise ValueError(f"{key} = {shortened(repr(values))}, not three usable numbers")
            triples.append((float(numbers[0]), float(numbers[1]), float(numbers[2])))
        side = data.get("long_side")
        if side is not None and not (type(side) is int and 1 <= side <= MAX_LONG_SIDE):
            raise ValueError(f"long_side = {shortened(repr(side))}, not an integer from 1 to {MAX_LONG_SIDE}")
        return cls(triples[0], triples[1], side)


def _is_modest(value: Any) -> bool:
    """Whether `value` is a number that statistics of pixels on [0, 1] can be; NaN and huge integers are not."""
    return type(value) in (int, float) and abs(value) < 1e6


@dataclass(frozen=True)
class Latency:
    """Milliseconds of each stage over `runs` measured runs, after `warmup` that are not counted."""

    stages: dict[str, tuple[float, ...]]
    warmup: int
    device: str

    @property
    def runs(self) -> int:
        """Number of measured runs."""
        return len(next(iter(self.stages.values())))

    def percentile(self, q: float, stage: str | None = None) -> float:
        """Return the `q`-th percentile (0–100) in ms of one stage, or of the runs' sums."""
        rows = [self.stages[stage]] if stage else list(self.stages.values())
        return float(np.percentile(np.sum(np.asarray(rows), axis=0), q))

    def to_dict(self) -> dict[str, Any]:
        """Return p50/p90/p99/min of each stage and of their sum, with the protocol."""

        def summary(stage: str | None) -> dict[str, float]:
            return {f"p{q}" if q else "min": round(self.percentile(q, stage), 3) for q in (50, 90, 99, 0)}

        table = {stage: summary(stage) for stage in self.stages} | {"sum": summary(None)}
        return {"ms": table, "runs": self.runs, "warmup": self.warmup, "device": self.device}
