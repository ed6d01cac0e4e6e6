"""A clean copy of a dataset: what can be mended is, what cannot is left out, and a recipe to train on it.

The source is only read. The recipe is written last: a copy that was cut short has none.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from PIL import Image

from ..core.errors import ConfigError, DataError
from ..core.files import write_atomically
from ..core.formatting import command
from ..core.images import write_image, write_mask
from ..core.order import natural
from ..core.progress import OnProgress, no_progress
from ..core.recipes import config_from_dict
from ..core.types import IGNORE_INDEX, MIN_SIZE, ClassSet, MaskArray
from ..data.labels import LabelTable
from ..data.mask_resize import resize_mask
from ..data.shares import Account, check_shares, count_classes, outline_share
from .examine import Examination, in_parallel
from .judge import other_format
from .listing import NAMED
from .meaning import Meaning
from .orientation import Lie, labels_lie, silent
from .pairing import printable, shown
from .probe import SIDEWAYS, Facts, ImageFacts, MaskFacts, raw_of, upright_rgb
from .raw import Trouble, opened
from .redraw import splits_of_copy
from .seen import MIXED, decode, label_counts, mask_is_image, seen

CONFIG_NAME = "featherseg.toml"
LEFT_OUT_NAME = "left_out.txt"
SHAPE_FITS = 0.02
"""How far the scales of height and width may differ in a mask that is only smaller or larger than its image."""
MAX_CROP = 512
DEEPEST_STRIDE = 32
"""Of the networks' encoders; crops are multiples of it."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by EXIF's orientation."""

HEAD = """# A run on the clean copy that featherseg doctor made of {source}.
# featherseg train {name} takes it as it is; where the folder moves, change data.root.
"""


@dataclass(frozen=True)
class CleanCopy:
    """A clean copy that was made.

    Args:
        root: its folder, a dataset of the kind ``folder`` with splits.
        config: recipe that trains on it.
        splits: pairs by split.
        left_out: names of images that are not in it, each with the rule it broke.
        kept: masks by class in which it is too thin for their new size, and was kept by its share.
    """

    root: Path
    config: Path
    splits: dict[str, int]
    left_out: tuple[tuple[str, str], ...]
    kept: dict[str, int]

    def summary(self) -> str:
        """Return one line: what is in it, and what was left out and why."""
        parts = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        reasons = ", ".join(f"{count} {rule}" for rule, count in Counter(r for _, r in self.left_out).most_common())
        rest = f"; left out: {reasons} (see {LEFT_OUT_NAME})" if reasons else ""
        thin = ", ".join(f"{name} in {count}" for name, count in self.kept.items())
        rest += f"; thin classes kept in masks that were resized: {thin}" if thin else ""
        return f"clean copy in {self.root}: {parts}{rest}; train with: {command('train', self.config)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it, of JSON types only."""
        left_out = [{"image": name, "rule": rule} for name, rule in self.left_out]
        return {
            "root": str(self.root),
            "config": str(self.config),
            "splits": self.splits,
            "left_out": left_out,
            "kept": self.kept,
        }


@dataclass(frozen=True)
class _CopyJob:
    """One pair on its way into the copy."""

    facts: Facts
    split: str
    name: str
    out: Path
    meaning: Meaning
    classes: ClassSet
    lie: Lie | None


@dataclass(frozen=True)
class _Written:
    """A pair in the copy: its labels counted in the source and as written, and the classes that were kept."""

    account: Account
    kept: tuple[int, ...]


def require_new_folder(out: str | Path, source: str | Path) -> Path:
    """Return the folder for a clean copy, if one may be made there.

    Raises:
        ConfigError: it is the source or in it, a file, or not empty.
    """
    out, real_source = Path(out).expanduser(), Path(source).expanduser().resolve()
    if out.resolve() == real_source or out.resolve().is_relative_to(real_source):
        raise ConfigError(f"--fix {out} lies in the dataset {source}, which is never changed; name another folder")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--fix {out} is a file; name a new folder")
    if out.is_dir() and next(out.iterdir(), None) is not None:
        raise ConfigError(f"--fix {out} is not empty; name a new folder")
    return out


def make_clean_copy(
    examination: Examination,
    out: str | Path,
    *,
    progress: OnProgress = no_progress,
) -> CleanCopy:
    """Write what is good of a dataset, or can be mended, as a folder with ``images/``, ``masks/``, splits and a recipe.

    Images that are fine are copied as they are, others become 8-bit RGB PNGs, upright. Masks become palette PNGs of
    class ids, 255 for ignored. ``left_out.txt`` names what is not there, ``train.txt`` and ``val.txt`` what is.

    The shares of the classes are compared with the source's before the recipe is written; a copy in which one moved is
    taken back.

    Args:
        examination: of the whole source.
        out: folder that is new or empty, and outside the source.
        progress: called with the numbers of pairs done and of all.

    Raises:
        ConfigError: a copy may not be made there.
        DataError: fewer than two pairs would be left, nobody can know the classes, or labels would be lost.
    """
    source = examination.layout.root
    out = require_new_folder(out, source)
    meaning, kept, left_out = _sorted_out(examination)
    classes = ClassSet(meaning.classes.names, meaning.classes.colors, IGNORE_INDEX)
    jobs = _plan(examination, kept, out, meaning, classes)
    written: list[_CopyJob] = []
    results: list[_Written] = []
    for done, (job, result) in enumerate(zip(jobs, in_parallel(_write_pair, jobs), strict=True), 1):
        if isinstance(result, Trouble):  # changed since it was examined
            left_out.append((job.facts, result.rule))
        else:
            written.append(job)
            results.append(result)
        progress(done, len(jobs))
    try:
        check_shares([result.account for result in results], classes.names)
    except DataError as error:
        for path in out.iterdir():  # which was new or empty
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        out.rmdir()
        raise DataError(f"{source}: no clean copy was made, since labels would be lost: {error}") from error
    thin = Counter(classes.names[i] for result in results for i in result.kept)
    names = [(shown(f.pair.image, source), rule) for f, rule in left_out]
    return _write_rest(examination, out, written, names, classes, dict(thin))


def mendable(examination: Examination) -> bool:
    """Return whether a clean copy can be made that is free of all errors found, as far as was looked."""
    if any(finding.severity == "error" and not finding.rule.fixable for finding in examination.findings):
        return False
    try:
        _sorted_out(examination)
    except DataError:
        return False
    return True


def advice(examination: Examination, kind: str | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Return what to do about errors that were found: see all, and let a copy be mended where that can be done.

    Args:
        examination: of a sample or all.
        kind: of dataset, where the user says it.
        options: of the dataset that the user gave; the doctor is told where images and masks are, too.
    """
    named = [(f"--{key}", str(word)) for key, word in (options or {}).items() if key in NAMED]
    words = ("doctor", examination.layout.root, *(("--kind", kind) if kind else ()), *chain.from_iterable(named))
    if not mendable(examination):
        return f"see what to do about it with {command(*words)}"
    return f"see all with {command(*words)}, and let it mend a copy with {command(*words, '--fix', 'NEW_FOLDER')}"


def _sorted_out(examination: Examination) -> tuple[Meaning, list[Facts], list[tuple[Facts, str]]]:
    """Return what mask values stand for, the pairs of a clean copy, and those left out of it with their rules.

    Raises:
        DataError: there can be no clean copy.
    """
    source, meaning = examination.layout.root, examination.meaning
    if meaning is None:
        rules = ", ".join(f.id for f in examination.findings if f.severity == "error") or "no mask is of use"
        raise DataError(f"{source}: the classes cannot be known ({rules}); name them with --classes")
    if unclear := next((f for f in examination.findings if f.id == "zero-unclear"), None):
        raise DataError(
            f"{source}: {unclear.rule.title} ({unclear.examples[0]}) Nothing is mended; {unclear.rule.remedy}"
        )
    reasons = [reason_to_leave_out(f, meaning) for f in examination.facts]
    for place in examination.spare:
        reasons[place] = reasons[place] or "duplicate-images"
    left_out = [(f, reason) for f, reason in zip(examination.facts, reasons, strict=True) if reason]
    kept = [f for f, reason in zip(examination.facts, reasons, strict=True) if not reason]
    if len(kept) < 2:
        rules = ", ".join(f"{count} {rule}" for rule, count in Counter(r for _, r in left_out).most_common())
        raise DataError(f"{source}: {len(kept)} pairs would be left of it ({rules or 'no pairs'}); mend it by hand")
    return meaning, kept, left_out


def reason_to_leave_out(f: Facts, meaning: Meaning) -> str | None:
    """Return the rule for which a pair is not in a clean copy; None where it is."""
    if trouble := f.image.trouble or f.mask.trouble:
        return trouble.rule
    if f.image.blank:
        return "image-blank"
    if mask_is_image(f):
        return "mask-is-image"
    if f.mask.form == "JPEG" and not meaning.can_snap(seen(f.mask, meaning)[2]):
        return "mask-jpeg"
    counts = label_counts(f.mask, meaning)
    if counts[256] > MIXED * f.mask.pixels:
        return "unknown-ids"
    if counts[256] + counts[meaning.classes.ignore_index] == f.mask.pixels:
        return "mask-all-ignored"
    return None if _size_fits(f.image, f.mask) else "size-mismatch"


def _size_fits(image: ImageFacts, mask: MaskFacts) -> bool:
    if image.turned in SIDEWAYS and mask.size == image.size[::-1]:
        return True
    scales = mask.size[0] / image.size[0], mask.size[1] / image.size[1]
    return abs(scales[0] / scales[1] - 1) <= SHAPE_FITS


def _plan(
    examination: Examination, kept: Sequence[Facts], out: Path, meaning: Meaning, classes: ClassSet
) -> list[_CopyJob]:
    """Give each pair its split and its name: two names that differ in case only would meet on some disks."""
    lie = labels_lie(examination.facts)
    splits = splits_of_copy(examination, kept, meaning)
    taken: set[tuple[str, str]] = set()
    jobs = []
    for f, split in zip(kept, splits, strict=True):
        stem = unicodedata.normalize("NFC", printable(f.pair.image.stem)).strip(" .") or "image"
        name, number = stem, 1
        while (split, name.casefold()) in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add((split, name.casefold()))
        jobs.append(_CopyJob(f, split, name, out, meaning, classes, lie))
    return jobs


def _write_pair(job: _CopyJob) -> Trouble | _Written:
    """Write one pair; return what was written, or what keeps the pair from being read."""
    image, pair = job.facts.image, job.facts.pair
    home = job.out / "images" / job.split
    try:
        mask = decode(raw_of(pair), job.facts.mask, job.meaning)
        rgb = None
        if not _fine(pair.image, image, turn=image.turned != 1 and not (job.lie is None and silent(job.facts))):
            with opened(pair.image, "image") as picture:
                rgb = upright_rgb(picture)
    except Trouble as trouble:
        return trouble
    mask, kept, slack = _fitted(mask, job)
    if rgb is None:
        path = home / f"{job.name}{pair.image.suffix.lower()}"
        with pair.image.open("rb") as source:
            write_atomically(path, lambda file: shutil.copyfileobj(source, file))
    else:
        write_image(home / f"{job.name}.png", rgb)
    path = write_mask(job.out / "masks" / job.split / f"{job.name}.png", mask, job.classes)
    return _Written(_account(job, path, slack), kept)


def _account(job: _CopyJob, path: Path, slack: NDArray[np.float64] | float) -> Account:
    """Return a pair's labels as they were counted when it was examined, and as its file in the copy holds them."""
    counts, pixels = label_counts(job.facts.mask, job.meaning), job.facts.mask.pixels
    written = LabelTable.identity(job.classes).read(path)
    # Of masks with hundreds of values that are snapped, those that are rarest were not counted.
    uncounted = (pixels - int(counts.sum())) / pixels
    classes = len(job.classes)
    return Account(
        counts[:classes],
        int(counts[256]),
        pixels,
        count_classes(written, classes),
        written.size,
        slack + uncounted,
    )


def _fine(path: Path, image: ImageFacts, *, turn: bool) -> bool:
    """Return whether an image can be copied as it is; `turn` says that it has to be turned upright."""
    plain = image.mode == "RGB" and image.bits == 8 and image.frames == 1 and not turn
    return plain and not image.see_through and not other_format(path, image.form)


def _fitted(mask: MaskArray, job: _CopyJob) -> tuple[MaskArray, tuple[int, ...], NDArray[np.float64] | float]:
    """Return a mask turned or resized to its image, the classes too thin for that, and how far shares may move."""
    image = job.facts.image
    lies = image.turned in SIDEWAYS and mask.shape == image.size[::-1] != image.size
    if lies or (job.lie == "stored" and silent(job.facts)):
        mask = np.asarray(Image.fromarray(mask).transpose(TURNS[image.turned]))
    if mask.shape == image.size:
        return mask, (), 0.0
    resized, kept = resize_mask(mask, image.size)
    return resized, kept, outline_share(mask, image.size, len(job.classes))


def _write_rest(
    examination: Examination,
    out: Path,
    jobs: Sequence[_CopyJob],
    left_out: Sequence[tuple[str, str]],
    classes: ClassSet,
    kept: dict[str, int],
) -> CleanCopy:
    """Write the lists, the class file, and the recipe as the last."""
    splits = {
        split: natural(job.name for job in jobs if job.split == split)
        for split in sorted({job.split for job in jobs}, key=lambda s: (s != "train", s != "val", s))
    }
    for split, names in splits.items():
        _write_text(out / f"{split}.txt", "".join(f"{name}\n" for name in names))
    lines = "".join(f"{name}\t{reason}\n" for name, reason in left_out)
    _write_text(out / LEFT_OUT_NAME, lines)
    _write_text(out / "classes.toml", tomli_w.dumps({"names": list(classes.names), "colors": list(classes.colors)}))
    sizes = np.array([job.facts.image.size for job in jobs])
    crop = [_crop_side(float(side)) for side in np.median(sizes, axis=0)]
    tree = {
        "name": out.resolve().name,
        "model": {"name": "fastsegnet"},
        "data": {"name": "folder", "root": str(out.resolve()), "batch_size": max(1, min(8, len(splits["train"])))},
        "augment": {"crop": crop, "class_balance": 0.5},
        "loss": {"class_weights": "auto"},
    }
    config_from_dict(tree)
    config = out / CONFIG_NAME
    source = printable(str(examination.layout.root))
    _write_text(config, HEAD.format(source=source, name=CONFIG_NAME) + tomli_w.dumps(tree))
    return CleanCopy(out, config, {split: len(names) for split, names in splits.items()}, tuple(left_out), kept)


def _crop_side(side: float) -> int:
    return max(MIN_SIZE, min(MAX_CROP, int(side) // DEEPEST_STRIDE * DEEPEST_STRIDE))


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "replace")))
