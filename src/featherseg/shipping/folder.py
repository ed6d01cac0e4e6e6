"""The folder that goes to others: files, what they are, and all it takes to run and check them without featherseg.

::

    <files>                     as they were exported, the main ONNX file among them
    README.md                   model card
    report.html, report.json    figures
    labels.json                 classes, colours, ignored id, and the main file's name
    golden.png, golden_mask.png an image and its mask by the main file
    run.py                      runs and checks the main file with onnxruntime and NumPy
    web/, triton/, ovms/        and other targets that are folders, see :mod:`.folder_targets`
    SHA256SUMS                  of all of these, for sha256sum -c
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..core.errors import ArtifactError, ConfigError, VerificationError
from ..core.files import sha256
from ..core.plain_png import plain_png
from ..core.types import MIN_SIZE, ImageArray
from ..core.whole_folders import SUMS, check_untouched, read_sums, whole_folder
from ..runtime.artifact import Artifact
from ..runtime.fitting import resized
from ..runtime.model_folder import LABELS
from ..runtime.segmenter import Segmenter
from .card import model_card
from .folder_targets import FolderSource, FolderTarget
from .report.figures import ShipReport
from .report.page import read_report, write_report

CARD, RUN = "README.md", "run.py"
GOLDEN, GOLDEN_MASK = "golden.png", "golden_mask.png"
REPORT = ("report.json", "report.html")
OWN_NAMES = frozenset({CARD, LABELS, RUN, SUMS, GOLDEN, GOLDEN_MASK, *REPORT})

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
    folders: Sequence[FolderTarget] = (),
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
        folders: what goes along as a folder of its own, made from the main file.

    Returns:
        `folder`.

    Raises:
        ConfigError: `folder` holds what featherseg did not write; names clash or need quoting; the golden image is
            no image; no ONNX file.
        ArtifactError: a file is missing, or not the one that the report is about.
        VerificationError: a file failed its verification.
    """
    folder = Path(folder)
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
    with whole_folder(folder) as built:
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
        for target in folders:
            target(FolderSource(built / main, golden, threads), built)
        card = model_card(artifact, report, main, data=data, terms=terms, folders={f.name: f.says for f in folders})
        (built / CARD).write_bytes(card.encode("utf-8", "replace"))
        write_report(report, built)
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
        read_sums(place)
    except (ArtifactError, OSError, ValueError) as error:
        raise ConfigError(
            f"{folder} exists and is no whole model folder of featherseg's; give another name or remove it"
        ) from error
    check_untouched(folder)


def read_model_folder(folder: str | Path) -> tuple[Path, Path]:
    """Return the main file and the golden image of a model folder.

    Raises:
        ConfigError: it is none.
    """
    folder = Path(folder)
    try:
        name = json.loads((folder / LABELS).read_text("utf-8"))["model"]
        found = folder / str(name), folder / GOLDEN
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{folder} is no folder that featherseg ship wrote; give that, or an .onnx file (featherseg export RUN)"
        ) from error
    if missing := next((path for path in found if not path.is_file()), None):
        raise ConfigError(f"{missing} does not exist; ship the network again")
    return found


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
