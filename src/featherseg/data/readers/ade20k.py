"""ADE20K as the scene parsing challenge of 2016 has it: 150 classes, and 0 for what nobody labelled."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ...core.errors import DataError, first_line
from ...core.images import list_images
from ...core.text_files import read_text
from ...core.types import IGNORE_INDEX
from ..annotations import AnnotatedDataset, Evidence, Labels, Sample, name_classes, recognisers
from ..datasets import datasets, require_folder
from ..labels import LabelTable
from ..listing import settle_splits, split_word
from ..mask_annotations import IndexMask
from .coco import check_share

# fmt: off
ADE20K_NAMES = (
    "wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "windowpane", "grass", "cabinet", "sidewalk",
    "person", "earth", "door", "table", "mountain", "plant", "curtain", "chair", "car", "water", "painting", "sofa",
    "shelf", "house", "sea", "mirror", "rug", "field", "armchair", "seat", "fence", "desk", "rock", "wardrobe", "lamp",
    "bathtub", "railing", "cushion", "base", "box", "column", "signboard", "chest of drawers", "counter", "sand",
    "sink", "skyscraper", "fireplace", "refrigerator", "grandstand", "path", "stairs", "runway", "case", "pool table",
    "pillow", "screen door", "stairway", "river", "bridge", "bookcase", "blind", "coffee table", "toilet", "flower",
    "book", "hill", "bench", "countertop", "stove", "palm", "kitchen island", "computer", "swivel chair", "boat", "bar",
    "arcade machine", "hovel", "bus", "towel", "light", "truck", "tower", "chandelier", "awning", "streetlight",
    "booth", "television receiver", "airplane", "dirt track", "apparel", "pole", "land", "bannister", "escalator",
    "ottoman", "bottle", "buffet", "poster", "stage", "van", "ship", "fountain", "conveyer belt", "canopy", "washer",
    "plaything", "swimming pool", "stool", "barrel", "basket", "waterfall", "tent", "bag", "minibike", "cradle", "oven",
    "ball", "food", "step", "tank", "trade name", "microwave", "pot", "animal", "bicycle", "lake", "dishwasher",
    "screen", "blanket", "sculpture", "hood", "sconce", "vase", "traffic light", "tray", "ashcan", "fan", "pier",
    "crt screen", "plate", "monitor", "bulletin board", "shower", "radiator", "glass", "clock", "flag",
)
# fmt: on
"""In the order of the mask values 1 to 150, called as by MMSegmentation; objectInfo150.txt has all their synonyms."""
HOME, INFO = "ADEChallengeData2016", "objectInfo150.txt"


@datasets.register("ade20k")
def ade20k(root: Path, split: str = "train", *, val_share: float = 0.2, seed: int = 0) -> AnnotatedDataset:
    """Open ADE20K in the layout of the scene parsing challenge of 2016.

    Read are ``images/training``, ``annotations/training``, the same of ``validation``, and the classes' names in
    ``objectInfo150.txt``, of which the first synonym is taken; where the file is missing, the 150 usual ones.

    Overlaps: the masks have none. Background: none. Ignored: the mask value 0, which is "other or unlabelled", as in
    the challenge; values 1 to n are the n classes. Images without a mask are left out.

    Args:
        root: ``ADEChallengeData2016``, or the folder that holds it.
        split: ``train``, ``val`` or ``all``.
        val_share: share of ``train`` that is drawn for ``val`` where there is no ``validation``, over 0 and under 1.
        seed: of the draw.
    """
    return ade20k_labels(root, val_share, seed).dataset(split)


@recognisers.register("ade20k")
def recognise_ade20k(root: Path) -> Evidence | None:
    """Know ADE20K by its folders together with one of its own files or file names."""
    home = _home(root)
    if not all((home / part / "training").is_dir() for part in ("images", "annotations")):
        return None
    own = (file for file in (home / INFO, home / "sceneCategories.txt") if file.is_file())
    pictures = (file for file in (home / "images" / "training").glob("ADE_*"))
    known = next(own, None) or next(pictures, None)
    if known is None:
        return None
    return Evidence(f"{known.name} is ADE20K's", lambda: ade20k_labels(root), instead_of=("folder",))


def _home(root: Path) -> Path:
    return root / HOME if (root / HOME).is_dir() else root


def ade20k_labels(root: Path, val_share: float = 0.2, seed: int = 0) -> Labels:
    """Read all splits; see :func:`ade20k`.

    Raises:
        DataError: a folder is missing, or the file of names is damaged.
    """
    check_share(val_share)
    home = _home(root)
    names = _names(home / INFO) if (home / INFO).is_file() else ADE20K_NAMES
    classes, _, _ = name_classes(names, background=False, where=home / INFO)
    table = LabelTable({0: IGNORE_INDEX} | {place + 1: place for place in range(len(classes))})
    samples: dict[str | None, list[Sample]] = {}
    bare = 0
    for place in sorted(require_folder(home / "images", "ADE20K's images").iterdir()):
        masks = home / "annotations" / place.name
        if not place.is_dir() or not masks.is_dir() or split_word(place.name) is None:
            continue
        by_stem = {path.stem: path for path in list_images(masks)}
        images = list_images(place)
        bare += sum(image.stem not in by_stem for image in images)
        samples[split_word(place.name)] = [
            Sample(image, IndexMask(by_stem[image.stem], table)) for image in images if image.stem in by_stem
        ]
    if not any(samples.values()):
        raise DataError(f"{home} is not ADE20K: it needs images/training and annotations/training; check the folder")
    source = INFO if (home / INFO).is_file() else "the list of the challenge"
    notes = [f"{len(classes)} classes from {source}, whose mask values are 1 to {len(classes)}; 0 is ignored"]
    if bare:
        notes.append(f"{bare} images have no mask and are left out")
    splits, drawn = settle_splits(samples, val_share, seed, len(classes))
    return Labels("ade20k", classes, splits, (*notes, *drawn))


def _names(file: Path) -> list[str]:
    """Return the first synonym of each class, or all of them where the first is another class's too.

    Raises:
        DataError: it is no such table.
    """
    try:
        rows = [line.split("\t") for line in read_text(file).splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{file} cannot be read ({first_line(error)}); restore it") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); check its rights") from error
    numbered = [(row[0].strip(), row[-1].strip()) for row in rows if len(row) > 1 and row[0].strip().isdecimal()]
    if [number for number, _ in numbered] != [str(place + 1) for place in range(len(numbered))] or not numbered:
        raise DataError(f"{file} does not number its classes from 1 on; restore it")
    first = [re.split("[;,]", name)[0].strip() for _, name in numbered]
    counts = Counter(first)
    names = [short if counts[short] == 1 else name for short, (_, name) in zip(first, numbered, strict=True)]
    if len(set(names)) < len(names):
        raise DataError(f"{file} names a class twice; restore it")
    return names
