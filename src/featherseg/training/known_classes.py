"""Which published weights know the classes of a dataset, by their names or by usual other names of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.types import LEFTOVERS, ClassSet
from ..data.readers.public import CITYSCAPES_CLASSES, VOC_CLASSES
from ..models.class_matching import matching_classes, plain_name

CITYSCAPES_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "street": ("road",),
    "lane": ("road",),
    "lanemarking": ("road",),
    "lanemkgsdriv": ("road",),
    "roadmarking": ("road",),
    "crosswalk": ("road",),
    "pavement": ("sidewalk",),
    "footpath": ("sidewalk",),
    "footway": ("sidewalk",),
    "house": ("building",),
    "guardrail": ("fence",),
    "column": ("pole",),
    "columnpole": ("pole",),
    "polegroup": ("pole",),
    "sign": ("traffic sign", "traffic light"),
    "signsymbol": ("traffic sign", "traffic light"),
    "tree": ("vegetation",),
    "bush": ("vegetation",),
    "grass": ("terrain",),
    "pedestrian": ("person",),
    "people": ("person",),
    "human": ("person",),
    "bicyclist": ("rider", "bicycle"),
    "cyclist": ("rider", "bicycle"),
    "motorcyclist": ("rider", "motorcycle"),
    "vehicle": ("car",),
    "van": ("car",),
    "suvpickuptruck": ("car",),
    "lorry": ("truck",),
    "tram": ("train",),
    "bike": ("bicycle",),
    "motorbike": ("motorcycle",),
    "motorcyclescooter": ("motorcycle",),
}
"""What Cityscapes counts as which of its classes (its class definitions), under the names that CamVid and others use;
spelt as :func:`plain_name` does, and without a plural's s."""
VOC_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "airplane": ("aeroplane",),
    "plane": ("aeroplane",),
    "bike": ("bicycle",),
    "motorcycle": ("motorbike",),
    "human": ("person",),
    "pedestrian": ("person",),
    "people": ("person",),
    "couch": ("sofa",),
    "table": ("diningtable",),
    "plant": ("pottedplant",),
    "television": ("tvmonitor",),
    "tv": ("tvmonitor",),
    "monitor": ("tvmonitor",),
}
"""Likewise for PASCAL VOC; most are COCO's names."""


@dataclass(frozen=True)
class Known:
    """Data that weights are published of.

    Args:
        data: how the weights are asked for.
        title: as people call it.
        classes: in the order of the weights' channels.
        synonyms: classes by other names of theirs.
        least: so many of a dataset's classes it must know, leftovers not counted. One or two classes such as road and
            car are in pictures from the air as well.
    """

    data: str
    title: str
    classes: ClassSet
    synonyms: Mapping[str, tuple[str, ...]]
    least: int


KNOWN = (
    Known("cityscapes", "Cityscapes", CITYSCAPES_CLASSES, CITYSCAPES_SYNONYMS, 3),
    Known("voc", "PASCAL VOC", VOC_CLASSES, VOC_SYNONYMS, 1),
)


@dataclass(frozen=True)
class Match:
    """A dataset's classes that published weights know.

    Args:
        known: the weights' data.
        table: the weights' classes by those of the dataset that are called otherwise, as ``model.init_classes`` is.
        matched: how many of the dataset's classes the weights know.
        telling: how many of them are no leftovers.
        total: how many classes the dataset has.
    """

    known: Known
    table: Mapping[str, str | list[str]]
    matched: int
    telling: int
    total: int

    def __str__(self) -> str:
        return f"{self.matched} of {self.total} classes are in {self.known.title}"


def best_match(classes: ClassSet) -> Match | None:
    """Return whose classes a dataset's are, or None where that is so of less than half of them.

    Of several the one that knows the larger share wins, then the one that knows more that is no leftover, then the
    first.
    """
    things = sum(plain_name(name) not in LEFTOVERS for name in classes.names)
    matches = [match_classes(classes, known) for known in KNOWN]
    fitting = [each for each in matches if each.telling >= max(each.known.least, things / 2)]
    return max(fitting, key=lambda each: (each.matched, each.telling), default=None)


def match_classes(classes: ClassSet, known: Known) -> Match:
    """Compare a dataset's classes with those of published weights."""
    by_name = matching_classes(classes, known.classes)
    taken = {known.classes.names[i] for others in by_name.values() for i in others}
    table: dict[str, str | list[str]] = {}
    for i, name in enumerate(classes.names):
        if i not in by_name and (others := _others(plain_name(name), known)):
            # Where "bicycle" is a class of its own, a "bicyclist" is the rider alone.
            left = [other for other in others if other not in taken] or list(others)
            table[name] = left[0] if len(left) == 1 else left
    matched = [classes.names[i] for i in by_name] + list(table)
    telling = sum(plain_name(name) not in LEFTOVERS for name in matched)
    return Match(known, table, len(matched), telling, len(classes))


def _others(name: str, known: Known) -> Sequence[str]:
    """Return what `known` calls a class of a plain name, which may be a plural; nothing where it has none."""
    names = {plain_name(each): (each,) for each in known.classes.names} | dict(known.synonyms)
    return names.get(name) or names.get(name.removesuffix("s")) or ()
