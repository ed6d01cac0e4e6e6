"""What is wrong with a dataset's images, pairs, classes and splits, from the facts of all its pairs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.types import IMAGENET_MEAN, IMAGENET_STD, MIN_SIZE
from ..data.groups import find_group
from ..data.labels import UNKNOWN
from ..data.splits import group_of
from .layout import TRAIN_NAMES
from .meaning import Meaning
from .near_duplicates import near, recordings, unusual_distance
from .orientation import Lie, labels_lie, silent
from .pairing import shown
from .probe import SIDEWAYS, Facts, ImageFacts
from .rules import Findings
from .seen import label_counts, seen

RARE = 0.001
"""Share of the labelled pixels below which a class is rare."""
MEAN_FAR, STD_FAR = 0.2, 2.0
"""How far a channel's mean may lie from ImageNet's, on [0, 1], and by what factor its spread may differ."""
IDENTICAL = 3
"""So many different images with one mask are no chance."""
OTHER_NAMES = {"MPO": "JPEG"}
"""Formats that share the suffixes of another."""


def judge_images(facts: Sequence[Facts], root: Path, findings: Findings) -> None:
    """Find what is wrong with single images and masks as files, and with their sizes."""
    lie = labels_lie(facts)
    for f in facts:
        for path, trouble in ((f.pair.image, f.image.trouble), (f.pair.mask, f.mask.trouble)):
            if trouble is not None:
                findings.add(trouble.rule, f"{shown(path, root)}: {trouble.detail}")
        if f.mask.trouble is None and f.mask.form != "JPEG" and (other := other_format(f.pair.mask, f.mask.form)):
            findings.add("wrong-extension", f"{shown(f.pair.mask, root)} is {other}")
        if f.image.trouble is None:
            _judge_image(f.pair.image, f.image, root, findings)
            _judge_turn(f, lie, root, findings)
            _judge_sizes(f, root, findings)
    modes = Counter(f.image.mode for f in facts if f.image.trouble is None)
    if len(modes) > 1 and any(mode.startswith(("RGB", "CMYK", "YCbCr")) for mode in modes):
        for f in facts:
            if f.image.mode in ("1", "L", "LA", "P", "PA"):
                findings.add("image-not-rgb", f"{shown(f.pair.image, root)}: {f.image.mode}")
    _judge_statistics([f.image for f in facts if f.image.trouble is None and not f.image.blank], root, findings)


def _judge_image(path: Path, image: ImageFacts, root: Path, findings: Findings) -> None:
    name, size = shown(path, root), f"{image.size[0]}x{image.size[1]}"
    if other := other_format(path, image.form):
        findings.add("wrong-extension", f"{name} is {other}")
    if image.frames > 1:
        findings.add("image-animated", f"{name}: {image.frames} frames")
    if image.bits > 8:
        peak = f", largest value {image.peak}" if image.peak else ""
        findings.add("image-16bit", f"{name}: {image.bits} bits{peak}")
    if image.mode == "CMYK":
        findings.add("image-cmyk", name)
    if image.see_through:
        findings.add("image-alpha", name)
    if image.blank:
        findings.add("image-blank", name)
    if min(image.size) < MIN_SIZE:
        findings.add("image-small", f"{name}: {size}")


def _judge_turn(f: Facts, lie: Lie | None, root: Path, findings: Findings) -> None:
    """Find a picture that EXIF turns, and what becomes of its mask where its size does not tell."""
    if f.image.turned == 1:
        return
    text = f"{shown(f.pair.image, root)}: orientation {f.image.turned}"
    if not silent(f) or lie is not None:
        findings.add("image-rotated", text)
        if silent(f) and lie == "stored":
            findings.add("mask-not-rotated", f"{shown(f.pair.mask, root)}, as others of the folder tell")
    else:
        findings.add("orientation-unclear", text)


def other_format(path: Path, form: str) -> str:
    """Return the format of a file whose suffix names another one."""
    Image.init()
    named = Image.registered_extensions().get(path.suffix.lower(), "")
    return form if OTHER_NAMES.get(named, named) != form else ""


def _judge_sizes(f: Facts, root: Path, findings: Findings) -> None:
    image, mask = f.image.size, f.mask.size
    if f.mask.trouble is not None or mask == image:
        return
    text = f"{shown(f.pair.mask, root)} is {mask[0]}x{mask[1]}, its image {image[0]}x{image[1]}"
    sideways = f.image.turned in SIDEWAYS and mask == image[::-1]
    findings.add("mask-not-rotated" if sideways else "size-mismatch", text)


def _judge_statistics(images: Sequence[ImageFacts], root: Path, findings: Findings) -> None:
    if not images:
        return
    pixels = np.array([float(i.size[0] * i.size[1]) for i in images])[:, None]
    means, stds = np.array([i.mean for i in images]), np.array([i.std for i in images])
    mean = (means * pixels).sum(axis=0) / pixels.sum()
    square = ((stds**2 + means**2) * pixels).sum(axis=0) / pixels.sum()
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    ratio = std / np.array(IMAGENET_STD)
    if np.abs(mean - IMAGENET_MEAN).max() > MEAN_FAR or ratio.max() > STD_FAR or ratio.min() < 1 / STD_FAR:
        figures = ", ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, std, strict=True))
        theirs = ", ".join(f"{m:.2f} ± {s:.2f}" for m, s in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
        findings.add("statistics-far", f"red, green, blue are {figures}; ImageNet's {theirs}")


def judge_labels(
    facts: Sequence[Facts], meaning: Meaning, root: Path, findings: Findings, *, whole: bool
) -> dict[str, NDArray[np.int64]]:
    """Find what is wrong with what the masks say.

    Args:
        facts: of the pairs.
        meaning: of the masks' values.
        root: of the dataset.
        findings: what is wrong is added here.
        whole: these are all pairs, so that what does not occur is absent.

    Returns:
        pixels of each class by split, int64 (classes,).
    """
    classes = meaning.classes
    pixels: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(classes), np.int64))
    for f in facts:
        if f.mask.trouble is not None:
            continue
        counts = label_counts(f.mask, meaning)
        pixels[f.pair.split] += counts[: len(classes)]
        name = shown(f.pair.mask, root)
        if counts[classes.ignore_index] == f.mask.pixels:
            findings.add("mask-all-ignored", name)
        elif counts[: len(classes)].max() == f.mask.pixels:
            findings.add("mask-single-class", f"{name}: {classes.names[int(counts.argmax())]}")
        if any(f.image.border) and f.mask.at_border.size:
            _judge_border(f, meaning, name, findings)
    if whole and pixels:
        _judge_classes(dict(pixels), meaning, findings)
    return dict(pixels)


def _judge_border(f: Facts, meaning: Meaning, name: str, findings: Findings) -> None:
    colour = seen(f.mask, meaning)[2]
    if colour != f.mask.colour:  # read by palette: the border's values were not kept as colours
        return
    labels = meaning.labels(f.mask.at_border, colour)
    if ((labels != meaning.classes.ignore_index) & (labels != UNKNOWN)).any():
        sides = zip(f.image.border, ("top", "right", "bottom", "left"), strict=True)
        findings.add("constant-border", f"{name}: {', '.join(f'{depth} at {side}' for depth, side in sides if depth)}")


def _judge_classes(pixels: dict[str, NDArray[np.int64]], meaning: Meaning, findings: Findings) -> None:
    names = meaning.classes.names
    total = np.sum(list(pixels.values()), axis=0)
    train = np.sum([p for split, p in pixels.items() if split in TRAIN_NAMES] or [total], axis=0)
    other = np.sum([p for split, p in pixels.items() if split not in TRAIN_NAMES] or [total], axis=0)
    for i, name in enumerate(names):
        share = total[i] / max(total.sum(), 1)
        if not total[i]:
            findings.add("class-absent", name)
        elif not train[i]:
            findings.add("class-not-in-train", name)
        elif not other[i]:
            findings.add("class-not-in-val", name)
        if 0 < share < RARE:
            findings.add("class-rare", f"{name}: {share:.3%}")


def judge_twins(facts: Sequence[Facts], root: Path, findings: Findings) -> set[int]:
    """Find pictures that occur again, exactly or nearly, within a split and across splits.

    Returns:
        places of the pairs that a clean copy is better without.
    """
    places = [i for i, f in enumerate(facts) if f.image.trouble is None and not f.image.blank]
    spare: set[int] = set()
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in places:
        groups[facts[i].image.digest].append(i)
    twins: set[int] = set()
    for group in groups.values():
        if len(group) > 1:
            spare |= _judge_group(group, facts, root, findings)
            twins.update(group)
    _judge_masks_alike(facts, root, findings)
    _judge_near([i for i in places if i not in twins], facts, root, findings)
    return spare


def held_out(split: str) -> bool:
    """Return whether a split is for measuring, not for training."""
    return split not in TRAIN_NAMES


def _judge_group(group: Sequence[int], facts: Sequence[Facts], root: Path, findings: Findings) -> set[int]:
    """Judge pairs of one and the same picture; those held out come first, for it is them that scores are of."""
    order = sorted(group, key=lambda i: (not held_out(facts[i].pair.split), i))
    first, spare = order[0], set[int]()
    kept = {facts[first].pair.split: first}
    masks = {facts[i].mask.digest for i in order if facts[i].mask.trouble is None}
    for i in order[1:]:
        pair, other = facts[i].pair, facts[kept.get(facts[i].pair.split, first)].pair
        text = f"{shown(pair.image, root)} = {shown(other.image, root)}"
        if pair.image == other.image and pair.split != other.split:
            spare.add(i)  # one file in two splits' lists, which is a finding of its own
        elif pair.split != facts[first].pair.split:
            findings.add("duplicate-across-splits", text)
            spare.add(i)
        elif len(masks) == 1:
            findings.add("duplicate-images", text)
            spare.add(i)
    if len(masks) > 1:
        names = [shown(facts[i].pair.mask, root) for i in order[:2]]
        findings.add("duplicate-conflict", " and ".join(names), len(order) - 1)
    return spare


def _judge_masks_alike(facts: Sequence[Facts], root: Path, findings: Findings) -> None:
    groups: dict[bytes, list[Facts]] = defaultdict(list)
    for f in facts:
        if f.mask.trouble is None and f.mask.distinct > 1:
            groups[f.mask.digest].append(f)
    for group in groups.values():
        if len({f.image.digest for f in group}) >= IDENTICAL:
            names = [shown(f.pair.mask, root) for f in group[:2]]
            findings.add("masks-identical", f"{' = '.join(names)} …", len(group))


def _judge_near(places: Sequence[int], facts: Sequence[Facts], root: Path, findings: Findings) -> None:
    held = [i for i in places if held_out(facts[i].pair.split)]
    train = [i for i in places if not held_out(facts[i].pair.split)]
    looks = {i: facts[i].image.look for i in places}

    def arrays(group: Sequence[int]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
        thumbs = np.array([facts[i].image.thumb for i in group], np.uint8).reshape(-1, 8, 8, 3)
        return np.array([looks[i] for i in group], np.uint64), thumbs

    def name(i: int) -> str:
        return shown(facts[i].pair.image, root)

    every = [*train, *held]
    stems = [facts[i].pair.image.stem for i in every]
    key = find_group(stems)
    groups = [group_of(stem, key.pattern) if key else str(place) for place, stem in enumerate(stems)]
    limit = unusual_distance(arrays(every)[1], groups)
    leaked = near(*arrays(held), *arrays(train), limit=limit)
    for i, j in leaked.items():
        findings.add("near-duplicate-across-splits", f"{name(held[i])} ~ {name(train[j])}")
    for group in (train, held):
        for i, j in near(*arrays(group), *arrays(group), earlier=True, limit=limit).items():
            findings.add("near-duplicates", f"{name(group[i])} ~ {name(group[j])}")
    runs = recordings(stems, arrays(every)[0])
    found = {j - len(train) for run in runs for j in _between(run, len(train))} - leaked.keys()
    for i in sorted(found):
        findings.add("same-recording", name(held[i]))


def _between(run: Sequence[int], count: int) -> list[int]:
    """Return the frames of a recording that are held out (places from `count` on) and have training frames about."""
    train = [at for at, place in enumerate(run) if place < count]
    return [p for at, p in enumerate(run) if p >= count and train and train[0] < at < train[-1]]
