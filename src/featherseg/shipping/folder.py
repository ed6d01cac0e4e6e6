"""The folder that goes to others: files, what they are, and all it takes to run and check them without featherseg.

::

    <files>                     as they were exported, the main ONNX file among them
    README.md                   model card
    report.html, report.json    figures
    labels.json                 classes, colours, ignored id, and the main file's name
    golden.png, golden_mask.png an image and its mask by the main file
    run.py                      runs and checks the main file with onnxruntime and NumPy
    SHA256SUMS                  of all of these, for sha256sum -c
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.errors import ArtifactError, ConfigError, VerificationError
from ..core.files import TEMPORARY, sha256
from ..core.types import MIN_SIZE, ClassSet, ImageArray
from ..runtime.artifact import Artifact
from ..runtime.fitting import resized
from ..runtime.segmenter import Segmenter
from .card import model_card
from .report.figures import ShipReport
from .report.page import read_report, write_report

CARD, LABELS, RUN, SUMS = "README.md", "labels.json", "run.py", "SHA256SUMS"
GOLDEN, GOLDEN_MASK = "golden.png", "golden_mask.png"
REPORT = ("report.json", "report.html")
OWN_NAMES = frozenset({CARD, LABELS, RUN, SUMS, GOLDEN, GOLDEN_MASK, *REPORT})
LITTER = frozenset({"__pycache__", ".DS_Store"})
"""What programs leave in folders without being asked; it may go with the folder."""

_EXAMPLE = Path(__file__).with_name("onnxruntime_only.py.txt")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names that need no quoting in shells, sums and pages."""


def write_model_folder(
    folder: str | Path,
    artifact: Artifact,
    files: Iterable[str | Path],
    report: ShipReport,
    golden: ImageArray,
    *,
    data: str,
    terms: str,
    main: str | None = None,
    threads: int | None = None,
) -> Path:
    """Write a model folder: whole, or not at all.

    It is built beside its place and renamed. A folder that featherseg wrote is replaced as a whole; anything else that
    is there stays, and is an error.

    Args:
        folder: to write.
        artifact: what the main file says of itself.
        files: what goes in, with files that others of them need (``.bin``). Those that the report names must have
            the checksums it names; those it says have failed must stay out.
        report: the figures.
        golden: RGB uint8 (H, W, 3), an image that may be given away; it goes along at the size that the network wants.
        data: what the model was trained on, a few words.
        terms: the data's terms of use.
        main: name of the ONNX file that others shall run; the first of `files` where not given.
        threads: threads to make the golden mask with.

    Returns:
        `folder`.

    Raises:
        ConfigError: `folder` holds what featherseg did not write; names clash or need quoting; the golden image is
            no image; no ONNX file.
        ArtifactError: a file is missing, or not the one that the report is about.
        VerificationError: a file failed its verification.
    """
    folder = Path(folder)
    place = folder.resolve()  # a link stays a link
    paths = [Path(file) for file in files]
    sources = {path.name: path for path in paths}
    check_replaceable(folder)
    _check_files(sources, len(paths), report)
    main = _main_file(sources, main)
    if report.classes != artifact.classes:
        raise ConfigError(f"the report is about {len(report.classes)} classes that are not the file's; give its own")
    if not data.strip() or not terms.strip():
        raise ConfigError("data or terms is empty; say what the model was trained on, and under which terms that is")
    if golden.ndim != 3 or golden.dtype != np.uint8 or min(golden.shape[:2]) < MIN_SIZE:
        raise ConfigError(
            f"golden image is {golden.dtype} {golden.shape}; give RGB uint8 (H, W, 3) of at least {MIN_SIZE} a side"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f"{TEMPORARY}{place.name}."))
    try:
        built = temporary / "new"
        built.mkdir()  # with the usual rights, unlike the temporary folder
        for name, source in sources.items():
            shutil.copyfile(source, built / name)
        _check_sums(built, report)
        segmenter = Segmenter(built / main, threads=threads)
        if segmenter.artifact.classes != artifact.classes:
            raise ArtifactError(f"{main} has other classes than the artifact that was given; give its own")
        # At the size that the network wants: programs that resize otherwise by a grey level then see the same pixels.
        golden = np.ascontiguousarray(resized(golden, artifact.input_spec.size(golden.shape[:2])))
        mask = segmenter.segment(golden)
        (built / GOLDEN).write_bytes(plain_png(golden))
        (built / GOLDEN_MASK).write_bytes(plain_png(mask, artifact.classes))
        labels = {"model": main, **artifact.classes.to_dict()}
        (built / LABELS).write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(_EXAMPLE, built / RUN)
        card = model_card(artifact, report, main, data=data, terms=terms)
        (built / CARD).write_bytes(card.encode("utf-8", "replace"))
        write_report(report, built)
        sums = "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(built.iterdir()))
        (built / SUMS).write_bytes(sums.encode())
        for path in built.iterdir():
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        _swap(built, place, temporary / "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_replaceable(folder: str | Path) -> None:
    """Refuse a place where something is that featherseg did not write; worth asking before hours of work.

    Raises:
        ConfigError: `folder` is a file, no model folder, or one that somebody put files of their own into.
    """
    place = Path(folder).resolve()
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise ConfigError(f"{folder} is a file; give another name for the model folder")
    try:
        read_report(place)
        listed = {line.split()[1]: line.split()[0] for line in (place / SUMS).read_text("utf-8").splitlines()}
    except (ArtifactError, OSError, ValueError, IndexError) as error:
        raise ConfigError(
            f"{folder} exists and is no whole model folder of featherseg's; give another name or remove it"
        ) from error
    strangers = {path.name for path in place.iterdir()} - listed.keys() - LITTER - {SUMS}
    if strangers:
        raise ConfigError(f"{folder} holds {min(strangers)!r}, which featherseg did not write; move it elsewhere first")
    edited = [name for name, digest in listed.items() if (place / name).is_file() and sha256(place / name) != digest]
    if edited:
        raise ConfigError(f"{folder} holds {min(edited)!r}, which was edited since; move the folder elsewhere first")


def plain_png(pixels: NDArray[np.uint8], classes: ClassSet | None = None) -> bytes:
    """Return a PNG whose rows are not filtered and whose pixels are one chunk, so that ten lines can read it.

    Args:
        pixels: RGB (H, W, 3), or class ids (H, W).
        classes: colours of ids.
    """
    height, width = pixels.shape[:2]
    kind = 2 if pixels.ndim == 3 else 3  # RGB or palette; PNG specification, table 11.1
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if classes is not None:
        chunks.append((b"PLTE", classes.palette().tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _check_files(sources: dict[str, Path], count: int, report: ShipReport) -> None:
    if len(sources) < count:
        raise ConfigError(f"{count} files have {len(sources)} different names; rename those that are called the same")
    for name, source in sources.items():
        if not _SAFE_NAME.fullmatch(name):
            raise ConfigError(f"file {name!r} would need quoting; rename it to letters, digits and . _ + -")
        if name in OWN_NAMES:
            raise ConfigError(f"file {name!r} has a name that the model folder uses itself; rename it")
        if not source.is_file():
            raise ArtifactError(f"{source} does not exist; export it first")
    for file in report.files:
        if file.passed and file.name not in sources:
            raise ArtifactError(f"{file.name} has passed, but is not among the files; add it")
        if not file.passed and file.name in sources:
            raise VerificationError(f"{file.name} failed: {'; '.join(file.failures)}; leave it out of the model folder")


def _main_file(sources: dict[str, Path], main: str | None) -> str:
    found = [name for name in sources if name.lower().endswith(".onnx")]
    if main is None and found:
        return found[0]
    if main not in found:
        raise ConfigError(f"main file is {main!r}; give one of the ONNX files: {', '.join(found) or 'there is none'}")
    return main


def _check_sums(built: Path, report: ShipReport) -> None:
    for file in report.files:
        if file.passed and sha256(built / file.name) != file.sha256.lower():
            raise ArtifactError(
                f"{file.name} is not the file that the report is about: its SHA-256 differs; verify it again"
            )


def _swap(built: Path, place: Path, old: Path) -> None:
    """Put a finished folder in its place; if that fails, what was there is there again."""
    if not place.exists():
        built.rename(place)
        return
    place.rename(old)
    try:
        built.rename(place)
    except BaseException:
        old.rename(place)
        raise
