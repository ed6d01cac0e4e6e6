"""A round of labelling: masks of what a network is sure of, and which images a person should label next."""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import tomli_w

from ..core.errors import ConfigError, DataError
from ..core.files import sha256
from ..core.images import list_images, read_image, write_mask
from ..core.outputs import Outputs
from ..core.progress import OnProgress, no_progress
from ..core.types import ClassSet, MaskArray
from ..data.class_files import read_class_file
from ..data.labels import LabelTable
from ..data.readers.folder import hold_white
from ..data.writing import Picture
from ..runtime.predict import Found
from ..runtime.prediction import thresholds
from ..runtime.segmenter import Segmenter
from .exports import FILES, check_programs, write_exports
from .journal import NAME, Journal
from .look import Look, look_at
from .order import features_of, teaching_order
from .sheet import Tile, drawn, numbers, page

Measure = Literal["entropy", "margin"]

THRESHOLD = 0.9
"""Probability below which a pixel is left to people, where nobody says otherwise."""
SHEET = 200
"""Images on the contact sheet, where nobody says otherwise."""
KEPT_SHOWN = 24
"""Labelled ones on it, at most."""
MASKS, ORDER, LIST, DONE, PAGE = "masks", "order.csv", "order.txt", "labelled.txt", "label.html"
CLASS_FILES = ("classes.toml", "classes.json")


@dataclass(frozen=True)
class Ranked:
    """An image, and what is known of it.

    Args:
        name: path within the folder that was given, or its own name.
        path: the file.
        mask: its mask.
        look: what the network says of it.
        kept: whether the mask is a person's.
    """

    name: str
    path: Path
    mask: Path
    look: Look
    kept: bool


@dataclass(frozen=True)
class LabelResult:
    """What :func:`label` left in its folder.

    Args:
        out: the folder.
        order: images in the order of what labelling them would teach.
        kept: images with a person's mask, which was not touched.
        made: how many masks were written by this call; the others are of one before.
        files: that were written beside the masks.
        notes: what a user should know of them.
        by: measure of the order.
    """

    out: Path
    order: tuple[Ranked, ...]
    kept: tuple[Ranked, ...]
    made: int
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    by: Measure

    @property
    def sure(self) -> float:
        """Mean share of the pixels that are labelled, of the network's masks; NaN without any."""
        return float(np.mean([each.look.sure for each in self.order])) if self.order else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        order = [
            {"image": each.name, "entropy": each.look.entropy, "margin": each.look.margin, "sure": each.look.sure}
            for each in self.order
        ]
        return {
            "out": str(self.out),
            "order": order,
            "kept": [each.name for each in self.kept],
            "made": self.made,
            "files": [str(file) for file in self.files],
        }


def label(
    segmenter: Segmenter,
    images: Iterable[Path | Found],
    out: str | Path,
    *,
    threshold: float | Mapping[str, float] = THRESHOLD,
    by: Measure = "entropy",
    to: Iterable[str] = (),
    polygons: bool = False,
    sheet: int = SHEET,
    model: str | Path | None = None,
    progress: OnProgress = no_progress,
) -> LabelResult:
    """Write masks of images, in which unsure pixels are ignored, and the order in which people should label them.

    The folder is then one of data: ``masks/``, ``classes.toml``; ``order.csv`` and ``order.txt`` have all images that
    no person labelled, what would teach most first; ``labelled.txt`` has the others; ``label.html`` shows both. A mask
    that featherseg did not write there, or that was changed since, is a person's: it is kept, its image counts as
    labelled, and what is like it comes late in the order.

    A call that was stopped is gone on with by the same call. With another network or threshold, the network's masks are
    made anew.

    Args:
        segmenter: the network.
        images: files; those of :func:`featherseg.runtime.predict.find_images` keep their subfolders.
        out: folder to write to; that of the data itself will do.
        threshold: probability below which a pixel is ignored, or one for each of some classes by name; see
            :meth:`featherseg.runtime.prediction.Prediction.masked`.
        by: ``"entropy"`` of the probabilities, or ``"margin"``: one minus the lead of the likeliest class.
        to: programs for which the masks are written too: ``"cvat"``, ``"labelstudio"``, ``"coco"``.
        polygons: outlines instead of bitmaps where the program takes both.
        sheet: how many images ``label.html`` shows.
        model: the network's file or run folder, which tells its masks from another's; without it, all are made anew.
        progress: called with the numbers of images done and of all.

    Raises:
        ConfigError: a threshold, measure or program is unknown or out of range; the folder has other classes than the
            network; or a file in it that this would replace is a person's.
        DataError: an image or a person's mask cannot be used.

    Example:
        >>> found = sorted(Path("photos/images").glob("*.png"))
        >>> result = featherseg.label(featherseg.Segmenter("street.onnx"), found, "round1", to=["cvat"])
        >>> len(result.order), [file.name for file in result.files]
        (10, ['order.csv', 'order.txt', 'labelled.txt', 'label.html', 'cvat.zip'])
    """
    out, programs = Path(out), check_programs(to)
    if by not in ("entropy", "margin"):
        raise ConfigError(f"by is {by!r}; choose entropy or margin")
    if sheet < 0:
        raise ConfigError(f"sheet is {sheet}; give a number of images from 0")
    thresholds(threshold, segmenter.artifact.classes)  # refused before anything is written
    jobs = [_Job(image, out) for image in images]
    outputs = Outputs()
    files = [out / name for name in (ORDER, LIST, DONE, PAGE, *(name for each in programs for name in FILES[each]))]
    outputs.require(files)
    classes = _classes_of(out, segmenter.artifact.classes)
    _refuse_white(jobs, classes, outputs)
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / NAME, _settings(segmenter, threshold, model))
    round_ = _Round(segmenter, threshold, classes, outputs, journal)
    ranked = []
    for done, job in enumerate(jobs, start=1):
        ranked.append(round_.take(job, reuse=model is not None))
        progress(done, len(jobs))
    if not _class_file(out):
        content = tomli_w.dumps(classes.to_dict()).encode()
        outputs.write(out / CLASS_FILES[0], lambda file: file.write(content))

    order, kept = _ordered(ranked, by)
    _write_lists(out, order, kept, by, outputs)
    _write_page(out, order, kept, by, classes, sheet, outputs, threshold)
    name = Path(model).name if model is not None else "featherseg"

    def pictures() -> Iterator[tuple[Picture, MaskArray]]:
        for each in (*order, *kept):
            mask = round_.read(each.mask)
            sure = None if each.kept else 1 - getattr(each.look, by)
            yield Picture("", each.name, (mask.shape[0], mask.shape[1]), sure, name), mask

    notes = write_exports(programs, pictures, classes, out, outputs, polygons=polygons)
    return LabelResult(out, tuple(order), tuple(kept), round_.made, tuple(files), tuple(notes), by)


class _Job:
    """An image, and where its mask belongs."""

    def __init__(self, image: Path | Found, out: Path) -> None:
        found = image if isinstance(image, Found) else Found(image, PurePath(image.name))
        self.path, self.name = found.path, found.name.as_posix()
        self.mask = out / MASKS / found.name.with_suffix(".png")


class _Round:
    """Makes masks, one image after the other.

    Args:
        segmenter: the network.
        threshold: see :func:`label`.
        classes: of the folder.
        outputs: keeps a person's files.
        journal: of what was made before.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        threshold: float | Mapping[str, float],
        classes: ClassSet,
        outputs: Outputs,
        journal: Journal,
    ) -> None:
        self.segmenter = copy.copy(segmenter)
        self.segmenter.confidence = True
        self.threshold, self.classes, self.outputs, self.journal = threshold, classes, outputs, journal
        self.table = LabelTable.identity(classes)
        self.made = 0
        self._others: dict[Path, dict[str, Path]] = {}

    def take(self, job: _Job, *, reuse: bool) -> Ranked:
        """Return what is known of an image, and write its mask unless there is one already."""
        mask = self._person_s(job.mask)
        kept = mask is not None
        place = mask or job.mask
        digest = sha256(place) if place.is_file() else ""
        if reuse and digest and (look := self.journal.find(job.name, job.path, digest)):
            return Ranked(job.name, job.path, place, look, kept)
        image = read_image(job.path)
        if kept:
            self._check(place, job.path, image.shape[:2])
        prediction = self.segmenter(image)
        masked = prediction.masked(self.threshold)
        sure = float(np.count_nonzero(masked != self.classes.ignore_index) / masked.size)
        look = look_at(image, prediction.probabilities(), sure)
        if not kept:
            try:
                write_mask(place, masked, self.classes, self.outputs.write)
            except OSError as error:
                raise DataError(f"cannot write {place} ({error.strerror}); choose another folder with -o") from error
            self.made += 1
            digest = sha256(place)
        self.journal.add(job.name, job.path, digest, look)
        return Ranked(job.name, job.path, place, look, kept)

    def read(self, mask: Path) -> MaskArray:
        """Return a mask's class ids."""
        return self.table.read(mask)

    def _person_s(self, mask: Path) -> Path | None:
        """Return the mask that a person made for an image, if there is one, in whatever format."""
        if not self.outputs.replaceable(mask):
            return mask
        home = mask.parent
        if home not in self._others:
            found = list_images(home) if home.is_dir() else []
            self._others[home] = {path.stem: path for path in found if path.suffix.lower() != ".png"}
        return self._others[home].get(mask.stem)

    def _check(self, mask: Path, image: Path, size: tuple[int, ...]) -> None:
        """Refuse a person's mask that is of another image, before hours of work on others."""
        found = self.read(mask).shape
        if found != size:
            raise DataError(
                f"mask {mask} is {found[0]}x{found[1]}, but image {image} is {size[0]}x{size[1]} (height x width); "
                "correct or remove it"
            )


def _settings(segmenter: Segmenter, threshold: float | Mapping[str, float], model: str | Path | None) -> dict[str, Any]:
    """Return what masks depend on beside their images, as JSON types."""
    least = threshold if isinstance(threshold, float | int) else dict(threshold)
    how = {"size": segmenter.size, "fit": segmenter.fit, "temperature": np.asarray(segmenter.temperature).tolist()}
    return {"model": "" if model is None else _identity(Path(model)), "threshold": least, **how}


def _refuse_white(jobs: Sequence[_Job], classes: ClassSet, outputs: Outputs) -> None:
    """Refuse a person's masks whose foreground is 255, which would be unsure pixels here.

    Raises:
        DataError: all of them hold 0 and 255 alone.
    """
    if len(classes) != 2:
        return
    theirs = [job.mask for job in jobs if not outputs.replaceable(job.mask)]
    if theirs and hold_white(theirs):
        raise DataError(
            f"masks beside {theirs[0]} hold 0 and 255, but 255 stands for unsure pixels here; write to another folder "
            "with -o, or bring them to ids of 0 and 1 first, as featherseg convert --to folder does"
        )


def _class_file(out: Path) -> Path | None:
    return next((out / name for name in CLASS_FILES if (out / name).is_file()), None)


def _classes_of(out: Path, ours: ClassSet) -> ClassSet:
    """Return the classes that masks in a folder are of: the network's, which have to be the folder's own.

    Raises:
        ConfigError: they are others.
    """
    file = _class_file(out)
    if file is None:
        return ours
    found = read_class_file(file)
    theirs = found.classes
    plain = found.ids == {i: i for i in range(len(theirs))} | {theirs.ignore_index: theirs.ignore_index}
    if theirs.names != ours.names or theirs.ignore_index != ours.ignore_index or not plain:
        raise ConfigError(
            f"{file} has other classes or ids ({', '.join(theirs.names[:4])}, …) than the network "
            f"({', '.join(ours.names[:4])}, …); write to another folder with -o"
        )
    return ClassSet(ours.names, theirs.colors, ours.ignore_index)


def _identity(model: Path) -> str:
    """Return what tells a network's file, or a run's best weights, from another's."""
    for file in (model, model / "best.safetensors", model / "last.safetensors"):
        if file.is_file():
            return sha256(file)
    return str(model)


def _ordered(ranked: Sequence[Ranked], by: Measure) -> tuple[list[Ranked], list[Ranked]]:
    """Return the images to label, in order, and those that a person labelled."""
    kept = [place for place, each in enumerate(ranked) if each.kept]
    if not ranked:
        return [], []
    scores = [getattr(each.look, by) for each in ranked]
    order = teaching_order(scores, features_of([each.look for each in ranked]), kept)
    return [ranked[place] for place in order], [ranked[place] for place in kept]


def _write_lists(out: Path, order: Sequence[Ranked], kept: Sequence[Ranked], by: Measure, outputs: Outputs) -> None:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("rank", "image", "entropy", "margin", "sure"))
    for rank, each in enumerate(order, start=1):
        look = each.look
        rows.writerow((rank, each.name, f"{look.entropy:.6f}", f"{look.margin:.6f}", f"{look.sure:.6f}"))
    texts = {ORDER: table.getvalue()}
    texts |= {file: "".join(f"{each.name}\n" for each in part) for file, part in ((LIST, order), (DONE, kept))}
    for name, text in texts.items():
        _write(out / name, text, outputs)


def _write_page(
    out: Path,
    order: Sequence[Ranked],
    kept: Sequence[Ranked],
    by: Measure,
    classes: ClassSet,
    count: int,
    outputs: Outputs,
    threshold: float | Mapping[str, float],
) -> None:
    table = LabelTable.identity(classes)

    def tile(each: Ranked, said: str) -> Tile:
        return Tile(each.name, said, drawn(read_image(each.path), table.read(each.mask), classes))

    shown = order[:count]
    first = [
        tile(each, numbers(rank, getattr(each.look, by), by, each.look.sure)) for rank, each in enumerate(shown, 1)
    ]
    done = [tile(each, "") for each in kept[: min(KEPT_SHOWN, count)]]
    facts = [
        f"{len(order)} images to label, {len(first)} of them here, {len(kept)} labelled",
        f"coloured where the network's class has a probability of {threshold} or more"
        if isinstance(threshold, float | int)
        else "coloured where the network's class has the probability that was asked of it",
    ]
    _write(out / PAGE, page(f"{out.resolve().name}: what to label", classes, first, done, facts), outputs)


def _write(path: Path, text: str, outputs: Outputs) -> None:
    content = text.encode("utf-8", "surrogateescape")
    writer: Callable[[Any], object] = lambda file: file.write(content)  # noqa: E731
    outputs.write(path, writer)
